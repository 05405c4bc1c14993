"""Whole fetches, from the command line, against a server on loopback."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import filelock
import loopback_server as lb
import pytest

from dkgzsl.cli.main import main
from dkgzsl.data.catalog import KNOWN, data_root
from dkgzsl.data.fetching import additions, download, sources
from dkgzsl.data.fetching.fetch import fetch, plan_fetch, read_origins
from dkgzsl.data.fetching.sources import SOURCES, Source, find_source
from dkgzsl.errors import DataError

REAL = dict(additions.ADDITIONS)
MAT = {"res101.mat": os.urandom(50_000), "att_splits.mat": os.urandom(20_000), "allclasses.txt": b"one\ntwo\n"}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def xlsa17() -> bytes:
    files = {
        f"xlsa17/data/{name}/{file}": content + name.encode()
        for name in ("CUB", "SUN")
        for file, content in MAT.items()
    }
    return zipped(files | {"xlsa17/README.txt": b"cite us"})


def birds() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (
            "attributes.txt",
            "CUB_200_2011/classes.txt",
            "CUB_200_2011/images/001.Black_footed_Albatross/1.jpg",
            "CUB_200_2011/images/200.Common_Yellowthroat/2.jpg",
        ):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies, no long waits; small data sets with a small bound."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    small = {key: replace(source, size=200_000, unpacked=200_000, sha256=None) for key, source in SOURCES.items()}
    monkeypatch.setattr(sources, "SOURCES", small)
    monkeypatch.setattr(additions, "ADDITIONS", {})


@pytest.fixture
def server(quick: None) -> Iterator[lb.Files]:
    with lb.serve(xlsa17(), "xlsa17.zip") as files:
        yield files


def run(*words: object) -> int:
    return main(["data", "fetch", *map(str, words)])


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_features_land_where_they_are_read(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [lb.breaks_off(40_000)]
    assert run("cub", "--data-root", tmp_path, "--source", server.url) == 0
    for name, content in MAT.items():
        assert (tmp_path / "CUB" / name).read_bytes() == content + b"CUB"
    assert tree(tmp_path) == {
        "CUB/allclasses.txt", "CUB/att_splits.mat", "CUB/fetched.json", "CUB/res101.mat",
        "downloads/xlsa17.zip", "downloads/xlsa17.zip.lock",
    }  # fmt: skip
    out, err = capsys.readouterr()
    digest = hashlib.sha256(server.content).hexdigest()
    assert digest in out
    assert "recorded" in out
    assert f"{tmp_path}/CUB/res101.mat" in out
    assert err.index("terms: given out for research") < err.index("broke off")
    assert "about 0.00 GB" in err
    note = json.loads((tmp_path / "CUB" / "fetched.json").read_text())["features"]
    assert (note["sha256"], note["url"], note["checked"]) == (digest, server.url, "recorded now")
    assert (note["size"], note["etag"]) == (len(server.content), '"one"')


def test_second_data_set_needs_no_download(server: lb.Files, tmp_path: Path) -> None:
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert run("SUN", "--data-root", tmp_path, "--source", server.url) == 0
    assert len(server.asked) == 1
    assert (tmp_path / "SUN" / "res101.mat").read_bytes() == MAT["res101.mat"] + b"SUN"
    assert read_origins(tmp_path / "SUN")["features"].checked == "recorded before"


def test_here_already(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("CUB", "--data-root", tmp_path, "--source", server.url)
    capsys.readouterr()
    assert run("CUB", "--data-root", tmp_path, "--source", server.url, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["state_before"], result["fetched"]) == ("present", False)
    assert result["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert len(server.asked) == 1


def test_here_from_elsewhere(quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "CUB").mkdir()
    for name in MAT:
        (tmp_path / "CUB" / name).write_bytes(b"mine")
    assert run("CUB", "--data-root", tmp_path) == 0
    assert "without a note of where it came from" in capsys.readouterr().out


def test_json(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("CUB", "--data-root", tmp_path, "--source", server.url, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [f"{tmp_path}/CUB/res101.mat", f"{tmp_path}/CUB/att_splits.mat"]
    assert (result["dataset"], result["what"], result["fetched"], result["size_exact"]) == (
        "CUB",
        "features",
        True,
        True,
    )
    assert result["size"] == len(server.content)
    assert result["sha256_checked"] == "recorded now"


def test_dry_run_changes_nothing(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "not there"
    assert run("CUB", "--data-root", root, "--source", server.url, "--dry-run") == 0
    assert not root.exists()
    assert server.asked == []
    out, err = capsys.readouterr()
    assert "nothing fetched" in out
    assert "terms:" in err


def test_dry_run_tells_of_the_part(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.script = [lb.breaks_off(40_000), lb.says(404)]
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    capsys.readouterr()
    assert run("CUB", "--data-root", tmp_path, "--source", server.url, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state_before"] == "partial"
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert server.asked[-1].range == "bytes=40000-"


def test_images(quick: None, tmp_path: Path) -> None:
    with lb.serve(birds(), "CUB_200_2011.tgz") as server:
        server.script = [lb.breaks_off(100)]
        assert run("CUB", "--what", "images", "--data-root", tmp_path, "--source", server.url) == 0
    assert tree(tmp_path) == {
        "CUB/fetched.json",
        "CUB/images/001.Black_footed_Albatross/1.jpg",
        "CUB/images/200.Common_Yellowthroat/2.jpg",
        "CUB/annotations/attributes.txt",
        "CUB/annotations/CUB_200_2011/classes.txt",
        "downloads/CUB_200_2011.tgz.lock",
    }
    content = (tmp_path / "CUB/images/200.Common_Yellowthroat/2.jpg").read_bytes()
    assert content == b"CUB_200_2011/images/200.Common_Yellowthroat/2.jpg"
    assert (tmp_path / "CUB" / "images").stat().st_mode & 0o777 == (tmp_path / "CUB").stat().st_mode & 0o777


def test_features_and_images_share_the_record(server: lb.Files, tmp_path: Path) -> None:
    run("CUB", "--data-root", tmp_path, "--source", server.url)
    with lb.serve(birds(), "CUB_200_2011.tgz") as other:
        run("CUB", "--what", "images", "--data-root", tmp_path, "--source", other.url)
    assert set(read_origins(tmp_path / "CUB")) == {"features", "images"}


def test_archive_on_disk(quick: None, tmp_path: Path) -> None:
    archive = tmp_path / "mine.zip"
    archive.write_bytes(xlsa17())
    assert run("CUB", "--data-root", tmp_path / "data", "--source", archive) == 0
    assert archive.exists()
    assert (tmp_path / "data/CUB/res101.mat").read_bytes() == MAT["res101.mat"] + b"CUB"
    assert read_origins(tmp_path / "data/CUB")["features"].url == str(archive)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one message, without a traceback, on one screen."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    message = err[err.index("error: ") :]
    assert message.count("error: ") == 1
    assert "next:" in message
    assert message.count("\n") < 6
    return message


def nothing_under_final_names(root: Path) -> None:
    assert not [name for name in tree(root) if name.startswith(("CUB/", "SUN/"))]
    assert not list(root.glob("*/.unpack-*"))


def link(name: str, target: str) -> bytes:
    buffer = io.BytesIO(xlsa17())
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(info, target)
    return buffer.getvalue()


def with_member(name: str) -> bytes:
    buffer = io.BytesIO(xlsa17())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, b"evil")
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut short": (lambda: xlsa17()[:50_000], "broken"),
    "noise": (lambda: os.urandom(3000), "neither a zip nor a tar"),
    "page": (lambda: b"<html>moved</html>", "web page"),
    "dots": (lambda: with_member("xlsa17/../../evil.txt"), "outside its folder"),
    "absolute": (lambda: with_member("/evil.txt"), "outside its folder"),
    "link": (lambda: link("xlsa17/data/CUB/link", "/etc/passwd"), "link or a device"),
    "bomb": (lambda: zipped({"xlsa17/data/CUB/res101.mat": bytes(50_000_000)}), "takes more than"),
    "other archive": (lambda: zipped({"xlsa17/data/FLO/res101.mat": b"1"}), "has no xlsa17/data/CUB/res101.mat"),
    "half": (lambda: zipped({"xlsa17/data/CUB/res101.mat": b"1"}), "has no xlsa17/data/CUB/att_splits.mat"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives(kind: str, server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = server.content
    make, words = BAD[kind]
    server.content = make()
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert words in complaint(capsys)
    nothing_under_final_names(tmp_path)
    assert tree(tmp_path) == {"downloads/xlsa17.zip.lock"}  # resuming makes no sense
    assert not list(tmp_path.parent.rglob("evil.txt"))
    server.content, server.etag = good, '"two"'  # mended at the source: the next try is as good as new
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0


def test_lies_about_its_length(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.script = [lb.claims(1000)]
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "broken" in complaint(capsys)
    server.script = [lb.claims(len(server.content) + 1)] * 9
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "bytes came" in complaint(capsys)
    nothing_under_final_names(tmp_path)


def test_known_hash_is_verified(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def expect(digest: str) -> None:
        known = replace(sources.SOURCES["CUB", "features"], sha256=digest)
        monkeypatch.setitem(sources.SOURCES, ("CUB", "features"), known)

    expect("0" * 64)
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "another one than expected" in complaint(capsys)
    assert tree(tmp_path) == {"downloads/xlsa17.zip.lock"}
    (tmp_path / "mine.zip").write_bytes(server.content)
    assert run("CUB", "--data-root", tmp_path, "--source", tmp_path / "mine.zip") == 2
    assert "another one than expected" in complaint(capsys)
    expect(hashlib.sha256(server.content).hexdigest())
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert "as it must be" in capsys.readouterr().out


def test_changed_since_an_earlier_fetch(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("CUB", "--data-root", tmp_path, "--source", server.url)
    (tmp_path / "downloads/xlsa17.zip").unlink()
    server.content, server.etag = with_member("new.txt"), '"two"'
    assert run("SUN", "--data-root", tmp_path, "--source", server.url) == 2
    message = complaint(capsys)
    assert "another one than expected" in message
    assert "fetched.json" in message
    (tmp_path / "CUB/fetched.json").unlink()
    assert run("SUN", "--data-root", tmp_path, "--source", server.url) == 0


def test_kept_archive_was_spoiled(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("CUB", "--data-root", tmp_path, "--source", server.url)
    (tmp_path / "downloads/xlsa17.zip").write_bytes(with_member("new.txt"))
    assert run("SUN", "--data-root", tmp_path, "--source", server.url) == 0
    assert "no longer what was fetched" in capsys.readouterr().err
    assert len(server.asked) == 2


def test_users_files_are_not_overwritten(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CUB").mkdir()
    (tmp_path / "CUB/att_splits.mat").write_bytes(b"mine")
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "in the way" in complaint(capsys)
    assert tree(tmp_path / "CUB") == {"att_splits.mat"}
    assert (tmp_path / "downloads/xlsa17.zip").exists()  # good as it is: not fetched again
    (tmp_path / "CUB/att_splits.mat").write_bytes(MAT["att_splits.mat"] + b"CUB")
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert len(server.asked) == 1


def test_left_by_a_killed_command(server: lb.Files, tmp_path: Path) -> None:
    (tmp_path / "CUB/.unpack-features-x/all").mkdir(parents=True)
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert not list(tmp_path.glob("CUB/.unpack*"))


def test_two_commands_at_once(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "downloads").mkdir()
    with filelock.FileLock(tmp_path / "downloads/xlsa17.zip.lock"):
        assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "another command" in complaint(capsys)
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0


def test_folder_cannot_be_written(server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run("CUB", "--data-root", tmp_path / "file", "--source", server.url) == 2
    assert "cannot write" in complaint(capsys)
    assert server.asked == []


def test_folder_is_read_only(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: object, **more: object) -> None:  # root would not be refused by a mode
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run("CUB", "--data-root", tmp_path / "root", "--source", server.url) == 2
    assert "cannot write: Permission denied" in complaint(capsys)
    assert server.asked == []


def test_no_room(
    server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = replace(sources.SOURCES["CUB", "features"], unpacked=10**18)
    monkeypatch.setitem(sources.SOURCES, ("CUB", "features"), huge)
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 2
    assert "not enough room" in complaint(capsys)
    nothing_under_final_names(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CUP"], "did you mean 'CUB'"),
        (["numbers"], "comes with the package"),
        (["FLO"], "no archive of FLO features"),
        (["AWA1", "--what", "images"], "no archive of AWA1 images"),
        (["CUB", "--source", "ftp://127.0.0.1/x.zip"], "not an address"),
        (["CUB", "--source", "nowhere.zip"], "no such archive"),
    ],
)
def test_mistakes(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words, "--data-root", tmp_path / "data") == 2
    assert message in complaint(capsys)
    assert not (tmp_path / "data").exists()


def test_fetch_as_a_function(server: lb.Files, tmp_path: Path) -> None:
    plan = plan_fetch(find_source("CUB", "features"), tmp_path, address=server.url)
    seen: list[int] = []
    origin = fetch(plan, unpacking=lambda done, total: seen.append(done))
    assert origin is not None
    assert origin.sha256 == hashlib.sha256(server.content).hexdigest()
    assert seen[-1] == sum(len(content) + 3 for content in MAT.values())


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: f"{source.dataset}-{source.what}")
def test_official_sources_are_in_order(source: Source) -> None:
    assert source.dataset in KNOWN
    assert source.url.startswith("https://")
    assert source.archive in source.url
    assert source.terms
    assert source.sha256 is None or (len(source.sha256) == 64 and set(source.sha256) <= set("0123456789abcdef"))
    assert source.exact or source.size_text.startswith("about ")
    assert 10**8 < source.size < 2 * 10**10


def test_every_name_in_the_help_has_a_source() -> None:
    assert {d for d, w in SOURCES if w == "images"} == {"AWA2", "CUB", "SUN"}
    assert {d for d, w in SOURCES if w == "features"} == set(KNOWN) - {"FLO"}


def test_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DKGZSL_HOME", raising=False)
    assert data_root() == tmp_path / "dkgzsl" / "data"
    monkeypatch.setenv("DKGZSL_HOME", str(tmp_path / "home"))
    assert data_root() == tmp_path / "home" / "data"
    assert data_root(tmp_path) == tmp_path
    with pytest.raises(DataError):
        find_source("nothing", "images")


SENTENCES = os.urandom(30_000)


@pytest.fixture
def sentences(quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[lb.Files]:
    """A server of the file that CUB's archive lacks."""
    with lb.serve(SENTENCES, "sent_splits.mat") as files:
        known, digest = REAL["CUB"], hashlib.sha256(SENTENCES).hexdigest()
        there = replace(known, url=files.url, size=len(SENTENCES), sha256=digest)
        monkeypatch.setattr(additions, "ADDITIONS", {"CUB": there})
        yield files


def test_cub_comes_with_its_sentences(
    server: lb.Files, sentences: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("CUB", "--data-root", tmp_path, "--source", server.url, "--dry-run") == 0
    assert f"with it: sent_splits.mat, 0.0 MB, from {sentences.url}" in capsys.readouterr().err
    assert sentences.asked == []
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert (tmp_path / "CUB" / "sent_splits.mat").read_bytes() == SENTENCES
    assert {name for name in tree(tmp_path) if "sent" in name} == {"CUB/sent_splits.mat"}
    out = capsys.readouterr().out
    assert hashlib.sha256(SENTENCES).hexdigest() in out
    assert out.splitlines()[-1] == f"next       dkgzsl train CUB --data-root {tmp_path}"
    assert run("CUB", "--data-root", tmp_path, "--source", server.url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["addition"]["state"] == "present"
    assert len(sentences.asked) == 1
    assert run("SUN", "--data-root", tmp_path, "--source", server.url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["addition"] is None


def test_features_that_were_fetched_before_get_their_sentences(
    server: lb.Files, sentences: lb.Files, tmp_path: Path
) -> None:
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    (tmp_path / "CUB" / "sent_splits.mat").unlink()
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert (tmp_path / "CUB" / "sent_splits.mat").read_bytes() == SENTENCES
    (tmp_path / "CUB" / "sent_splits.mat").write_bytes(b"mine")
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    assert (tmp_path / "CUB" / "sent_splits.mat").read_bytes() == b"mine"


@pytest.mark.parametrize("fault", ["missing", "another"])
def test_without_the_sentences_one_line_says_so_and_the_features_are_there(
    server: lb.Files, sentences: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    if fault == "missing":
        sentences.script = [lb.says(404)]
    else:
        sentences.content = SENTENCES[:-1] + b"?"
    assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
    out = capsys.readouterr().out
    [line] = [one for one in out.splitlines() if "sent_splits.mat" in one]
    assert line.startswith("without sent_splits.mat (")
    assert "without it CUB has its 312 attributes" in line
    assert f"by hand: {sentences.url}, into {tmp_path / 'CUB'}" in line
    assert (tmp_path / "CUB" / "res101.mat").is_file()
    assert not (tmp_path / "CUB" / "sent_splits.mat").exists()


def test_the_known_sha256_is_that_of_the_file(xlsa17: Path) -> None:
    file = xlsa17 / "CUB" / "sent_splits.mat"
    if not file.is_file():
        pytest.skip(f"the file is not here: {file}")
    content = file.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (REAL["CUB"].size, REAL["CUB"].sha256)


def test_what_is_next_runs(
    quick: None, server: lb.Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images without the features' file cannot be extracted yet: it is fetched first."""

    def last() -> str:
        return capsys.readouterr().out.splitlines()[-1]

    with lb.serve(birds(), "CUB_200_2011.tgz") as images:
        assert run("CUB", "--what", "images", "--data-root", tmp_path, "--source", images.url) == 0
        assert last() == f"next       dkgzsl data fetch CUB --data-root {tmp_path}"
        assert run("CUB", "--data-root", tmp_path, "--source", server.url) == 0
        assert last() == f"next       dkgzsl train CUB --data-root {tmp_path}"
        assert run("CUB", "--what", "images", "--data-root", tmp_path, "--source", images.url) == 0
        expected = f"next       dkgzsl extract CUB --data-root {tmp_path} --backbone resnet50 --out CUB-resnet50"
        assert last() == expected
