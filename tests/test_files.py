"""Whole files and folders: all of it or as it was before, and checksums that find what changed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dkgzsl.errors import RunError
from dkgzsl.files import (
    DRAFT,
    ManifestEntry,
    check_manifest,
    copy_verified,
    is_draft,
    manifest_of,
    read_checkpoint,
    whole_file,
    whole_folder,
    write_checkpoint,
    write_whole,
)


class BrokenOffError(Exception):
    """What a test raises in the middle of writing."""


@contextmanager
def broken_off() -> Iterator[None]:
    with pytest.raises(BrokenOffError):
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old\r\n")
    assert path.read_bytes() == b"old\r\n"
    with whole_file(path) as draft:
        assert is_draft(draft)
        assert draft.parent == tmp_path
        draft.write_text("new")
        assert path.read_text() == "old\n"
    assert path.read_text() == "new"
    write_whole(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert names(tmp_path) == ["a.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with broken_off(), whole_file(path) as draft:
        draft.write_text("half")
        raise BrokenOffError
    assert path.read_text() == "old"
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass  # nothing was written
    with pytest.raises(OSError, match="nowhere"):
        write_whole(tmp_path / "nowhere" / "a.json", "new")
    assert names(tmp_path) == ["a.json"]


def test_two_writers_of_a_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # whose block ends last


def test_a_folder_is_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with whole_folder(path) as draft:
        (draft / "versions").mkdir()
        (draft / "versions" / "a").write_text("a")
        assert not path.exists()
    assert (path / "versions" / "a").read_text() == "a"
    assert path.stat().st_mode == path.parent.stat().st_mode
    with pytest.raises(OSError), whole_folder(path) as draft:  # noqa: PT011  (the words are the system's)
        (draft / "b").touch()
    with broken_off(), whole_folder(path, replace=True) as draft:
        (draft / "b").touch()
        raise BrokenOffError
    assert names(path) == ["versions"]
    with whole_folder(path, replace=True) as draft:
        (draft / "b").touch()
        assert names(path) == ["versions"]
    assert names(path) == ["b"]
    assert names(path.parent) == ["run"]


def test_an_empty_folder_and_a_link_are_filled(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for replace in (False, True):
        with whole_folder(tmp_path / "link", replace=replace) as draft:
            (draft / f"{replace}").touch()
        assert names(tmp_path / "real") == [f"{replace}"]
        assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["link", "real"]


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with whole_folder(path) as draft:
        (draft / "old").touch()
    rename = Path.rename

    def no_second_rename(self: Path, target: Path) -> Path:
        if self.name.startswith(".") and (self / "new").exists():
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr("dkgzsl.files.exchange", lambda *_: False)  # a system that cannot do both in one step
    monkeypatch.setattr(Path, "rename", no_second_rename)
    with pytest.raises(OSError, match="no"), whole_folder(path, replace=True) as draft:
        (draft / "new").touch()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["run"]


def test_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "b").write_bytes(b"")
    (folder / "a").write_bytes(b"abc")
    manifest = manifest_of(folder)
    assert list(manifest) == ["a", "versions/b"]
    assert manifest["a"].size == 3
    assert manifest["a"].sha256.startswith("ba7816bf")
    check_manifest(manifest, {"a": 3, "versions/b": None, "LICENSE": 9}, besides=frozenset({"LICENSE"}), where="x")
    cases: dict[str, dict[str, int | None]] = {
        "a has 4 bytes, the manifest says 3": {"a": 4, "versions/b": 0},
        "versions/b is missing": {"a": 3},
        "does not name: 'c'": {"a": 3, "versions/b": 0, "c": 1},
    }
    for words, sizes in cases.items():
        with pytest.raises(RunError, match=words):
            check_manifest(manifest, sizes, where="x")


def test_a_copy_is_that_of_the_manifest(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * (2**20 + 1))
    entry = manifest_of(tmp_path)["source"]
    copy_verified(source, target, entry, name="source", where="there")
    assert target.read_bytes() == source.read_bytes()
    for wrong in (ManifestEntry(entry.size, "0" * 64), ManifestEntry(5, entry.sha256)):
        with pytest.raises(RunError, match="source is not the file"):
            copy_verified(source, target, wrong, name="source", where="there")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(RunError, match="link cannot be read"):
        copy_verified(tmp_path / "link", target, entry, name="link", where="there")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RunError, match="fifo is no ordinary file"):
        copy_verified(tmp_path / "fifo", target, entry, name="fifo", where="there")


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.safetensors"
    shared = torch.randn(4)
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(2.0), "c": shared, "d": shared[1:], "e": shared}
    write_checkpoint(path, tensors, {"epoch": 3, "key": {"x": [1, None]}})
    found, values = read_checkpoint(path) or ({}, {})
    assert values == {"epoch": 3, "key": {"x": [1, None]}}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert names(path.parent) == [path.name]


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "state.safetensors") is None


def test_a_checkpoint_that_breaks_off_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, {"a": torch.zeros(2)}, {"epoch": 1})

    def full_disk(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(RunError, match="no space left"):
        write_checkpoint(path, {"a": torch.ones(2)}, {"epoch": 2})
    found = read_checkpoint(path)
    assert found is not None
    assert found[1] == {"epoch": 1}
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a checkpoint"):
        read_checkpoint(path)


def test_the_module_is_imported_without_torch() -> None:
    code = "import sys, dkgzsl.files; sys.exit('torch' in sys.modules or 'safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drafts_are_known_by_their_names(tmp_path: Path) -> None:
    assert is_draft(tmp_path / f".a.json.0123abcd{DRAFT}")
    assert not is_draft(tmp_path / "a.json")
    assert not is_draft(tmp_path / f"a.json{DRAFT}")
