"""Archives that are broken or mean harm."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dkgzsl.data.fetching import archives
from dkgzsl.data.fetching.archives import BadArchiveError, unpack
from dkgzsl.errors import DataError

FILES = {"a/one.txt": b"one" * 1000, "a/b/two.bin": bytes(range(256)) * 40, "three.txt": b""}


def make_zip(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(content), kind, link, 0o644
    return info, content


def make_tar(
    path: Path, *more: tuple[tarfile.TarInfo, bytes], files: dict[str, bytes] = FILES, mode: str = "w:gz"
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in [*(member(name, content) for name, content in files.items()), *more]:
            archive.addfile(info, io.BytesIO(content))
    return path


ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "zip": make_zip,
    "tar": lambda path: make_tar(path, mode="w"),
    "gz": make_tar,
    "bz2": lambda path: make_tar(path, mode="w:bz2"),
    "xz": lambda path: make_tar(path, mode="w:xz"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_unpacks(kind: str, tmp_path: Path, folder: Path) -> None:
    seen: list[int] = []
    size = unpack(
        ARCHIVES[kind](tmp_path / "x"), folder, limit=10**6, progress=lambda done, total: seen.append(done)
    )
    assert content(folder) == FILES
    assert size == seen[-1] == sum(map(len, FILES.values()))


@pytest.mark.parametrize("kind", ARCHIVES)
def test_unpacks_a_part(kind: str, tmp_path: Path, folder: Path) -> None:
    unpack(ARCHIVES[kind](tmp_path / "x"), folder, limit=10**6, inside="a/b")
    assert content(folder) == {"a/b/two.bin": FILES["a/b/two.bin"]}


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt", "C:out.txt"]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("inside", ["", "a"])
def test_names_that_lead_out(
    name: str, make: Callable[..., Path], inside: str, tmp_path: Path, folder: Path
) -> None:
    with pytest.raises(BadArchiveError, match="outside its folder"):
        unpack(make(tmp_path / "x", files=FILES | {name: b"evil"}), folder, limit=10**6, inside=inside)
    assert not list(tmp_path.rglob("out.txt"))
    assert not Path("/etc/out.txt").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/one.txt"])
def test_symbolic_links(target: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadArchiveError, match="link or a device"):
        unpack(make_tar(tmp_path / "x", member("a/link", kind=tarfile.SYMTYPE, link=target)), folder, limit=10**6)
    info = zipfile.ZipInfo("a/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "y", "w") as archive:
        archive.writestr(info, target)
    with pytest.raises(BadArchiveError, match="link or a device"):
        unpack(tmp_path / "y", folder, limit=10**6)
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../x"])
def test_hard_links_out(target: str, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "x").write_bytes(b"secret")
    archive = make_tar(tmp_path / "t", member("a/link", kind=tarfile.LNKTYPE, link=target))
    with pytest.raises(BadArchiveError, match="outside its folder"):
        unpack(archive, folder, limit=10**6)
    assert not (folder / "a/link").exists()


def test_hard_links_inside_are_files(tmp_path: Path, folder: Path) -> None:
    unpack(make_tar(tmp_path / "x", member("a/link", kind=tarfile.LNKTYPE, link="a/one.txt")), folder, limit=10**6)
    assert content(folder)["a/link"] == FILES["a/one.txt"]


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(kind: bytes, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadArchiveError, match="link or a device"):
        unpack(make_tar(tmp_path / "x", member("a/dev", kind=kind)), folder, limit=10**6)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bombs(make: Callable[..., Path], tmp_path: Path, folder: Path) -> None:
    archive = make(tmp_path / "x", files={"zeros": bytes(20_000_000)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(BadArchiveError, match="takes more than"):
        unpack(archive, folder, limit=10_000_000)
    assert content(folder) == {}


def test_a_bomb_that_states_a_small_size(tmp_path: Path, folder: Path) -> None:
    archive = make_zip(tmp_path / "x", {"zeros": bytes(5_000_000)})
    size = (5_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(BadArchiveError, match="broken"):
        unpack(archive, folder, limit=10_000)
    assert sum(map(len, content(folder).values())) <= 10_000


def test_too_many_members(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBERS", 2)
    for make in (make_zip, make_tar):
        with pytest.raises(BadArchiveError, match="more than 2 members"):
            unpack(make(tmp_path / "x"), folder, limit=10**6)


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.98])
def test_cut_short(kind: str, share: float, tmp_path: Path, folder: Path) -> None:
    noise = {f"{i}.bin": os.urandom(3000) for i in range(20)}
    make: dict[str, Callable[[Path], Path]] = {
        "zip": lambda path: make_zip(path, noise),
        **{k: lambda path, m=m: make_tar(path, files=noise, mode=m) for k, m in
           [("tar", "w"), ("gz", "w:gz"), ("bz2", "w:bz2"), ("xz", "w:xz")]},
    }  # fmt: skip
    archive = make[kind](tmp_path / "x")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * 60_000)])
    with pytest.raises(BadArchiveError, match="broken"):
        unpack(archive, folder, limit=10**6)


def test_tar_cut_between_members(tmp_path: Path, folder: Path) -> None:
    plain = make_tar(tmp_path / "x", mode="w").read_bytes()
    first = 512 + 3072  # header and content of a/one.txt
    for name, pack in (("plain", bytes), ("gz", gzip.compress), ("bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack(plain[:first]))
        with pytest.raises(BadArchiveError, match="ends in the middle"):
            unpack(tmp_path / name, folder, limit=10**6)


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_one_flipped_bit(kind: str, tmp_path: Path, folder: Path) -> None:
    archive = ARCHIVES[kind](tmp_path / "x")
    spoiled = bytearray(archive.read_bytes())
    spoiled[50] ^= 16  # in compressed content
    archive.write_bytes(spoiled)
    with pytest.raises(BadArchiveError):
        unpack(archive, folder, limit=10**6)


def test_flipped_header_in_the_middle(tmp_path: Path, folder: Path) -> None:
    archive = make_tar(tmp_path / "x", mode="w")
    spoiled = bytearray(archive.read_bytes())
    spoiled[512 + 3072] ^= 1  # the second header: tarfile alone would stop there without a word
    archive.write_bytes(spoiled)
    with pytest.raises(BadArchiveError, match="damaged"):
        unpack(archive, folder, limit=10**6)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"<!doctype html><html>", "web page"),
        (b"\n <html>", "web page"),
        (b"", "neither"),
        (b"hello" * 500, "neither"),
    ],
)
def test_no_archive(start: bytes, words: str, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "x").write_bytes(start)
    with pytest.raises(BadArchiveError, match=words):
        unpack(tmp_path / "x", folder, limit=10**6)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_file_and_folder_of_one_name(make: Callable[..., Path], tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadArchiveError):
        unpack(make(tmp_path / "x", files={"a": b"1", "a/b": b"2"}), folder, limit=10**6)


def test_endless_name(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BadArchiveError, match="broken"):
        unpack(make_zip(tmp_path / "x", {"n" * 5000: b"1"}), folder, limit=10**6)


def test_a_disk_without_room(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        archives.shutil, "disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 10})()
    )
    with pytest.raises(DataError, match="not enough room"):
        unpack(make_zip(tmp_path / "x"), folder, limit=10**6)
    assert content(folder) == {}
