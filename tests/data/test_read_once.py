"""The memory of the tests (read_once.py): the same bytes are read once, others and damaged ones each time."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from dkgzsl.data.formats import untrusted
from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.errors import DataError


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Files for which a child process has started."""
    found, real = [], untrusted.subprocess.Popen

    def start(*words, **how):
        found.append("")
        return real(*words, **how)

    monkeypatch.setattr(untrusted.subprocess, "Popen", start)
    return found


def test_a_child_starts_for_unknown_bytes_alone(tmp_path: Path, started: list[str]) -> None:
    for name, value in (("a", 1.25), ("b", 1.25), ("c", 2.5)):
        savemat(tmp_path / f"{name}.mat", {"x": np.full((2, 3), value)})
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "b.mat").write_bytes(content)
    first = read_mat(tmp_path / "a.mat")["x"]
    first[:] = 0  # whoever changes what it gets changes nothing for others
    assert read_mat(tmp_path / "b.mat")["x"].tolist() == [[1.25] * 3] * 2
    assert len(started) == 1
    assert read_mat(tmp_path / "c.mat")["x"].tolist() == [[2.5] * 3] * 2
    assert len(started) == 2
    (tmp_path / "b.mat").write_bytes(content[:150])
    for _ in range(2):
        with pytest.raises(DataError, match=r"b\.mat"):
            read_mat(tmp_path / "b.mat")
    assert len(started) == 4
