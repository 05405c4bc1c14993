from pathlib import Path

import pytest
import torch

from dkgzsl import files as checkpoint
from dkgzsl.errors import RunError
from dkgzsl.files import read_checkpoint, write_checkpoint


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.safetensors"
    shared = torch.randn(4)
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(2.0), "c": shared, "d": shared[1:], "e": shared}
    write_checkpoint(path, tensors, {"epoch": 3, "key": {"x": [1, None]}})
    found, values = read_checkpoint(path) or ({}, {})
    assert values == {"epoch": 3, "key": {"x": [1, None]}}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "state.safetensors") is None


def test_a_write_that_breaks_off_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    write_checkpoint(path, {"a": torch.zeros(2)}, {"epoch": 1})

    def full_disk(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(RunError, match="no space left"):
        write_checkpoint(path, {"a": torch.ones(2)}, {"epoch": 2})
    found = read_checkpoint(path)
    assert found is not None
    assert found[1] == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a checkpoint"):
        read_checkpoint(path)
