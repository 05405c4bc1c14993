"""PyTorch files of weights: tensors and plain values alone, and no archive that is larger than its file."""

import zipfile

import pytest
import torch

from dkgzsl.errors import DataError
from dkgzsl.features.weights import _read

STATE = {"a": torch.arange(6.0).reshape(2, 3)}


def repacked(path, *, method=zipfile.ZIP_STORED, more=0):
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content + (bytes(more) if name.endswith("data/0") else b""))
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read(tmp_path, zipped) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert torch.equal(_read(tmp_path / "a.pt")["a"], STATE["a"])
    assert torch.equal(_read(repacked(tmp_path / "b.pt"))["a"], STATE["a"])


def test_a_packed_archive_is_refused(tmp_path) -> None:
    path = repacked(tmp_path / "a.pt", method=zipfile.ZIP_DEFLATED, more=2**28)
    assert path.stat().st_size < 2**20
    with pytest.raises(DataError, match="compressed archive"):
        _read(path)


class Runs:
    def __reduce__(self):
        return (open, ("/nowhere/made-by-pickle", "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path, zipped) -> None:
    torch.save({"a": Runs()}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"cannot read the weights: .*[Ww]eights"):
        _read(tmp_path / "a.pt")
