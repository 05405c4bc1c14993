"""12 cells of a benchmark on two workers: the same figures as in this process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dkgzsl.benchmark.grid import cells_of
from dkgzsl.benchmark.run import benchmark
from dkgzsl.cli.main import main
from dkgzsl.config import BenchmarkConfig
from dkgzsl.errors import ConfigError
from worlds import world_folder

METHODS = ("sae", "eszsl", "ridge", "gfzsl")


def records(folder: Path) -> dict[str, dict]:
    found = {file.name: json.loads(file.read_text()) for file in (folder / "cells").glob("*.json")}
    for one in found.values():
        del one["seconds"]
    return found


def test_twelve_cells_are_the_same(two_workers, tmp_path) -> None:
    data = str(world_folder(tmp_path / "world"))
    config = BenchmarkConfig((data,), METHODS, seeds=3)
    here, there = tmp_path / "here", tmp_path / "there"
    alone = benchmark(replace(config, out=str(here)))
    seen = []
    together = benchmark(replace(config, on="ray", out=str(there)), on_cell=lambda cell, _: seen.append(cell))
    assert len(seen) == 12
    assert set(seen) == set(cells_of(config))
    assert len(records(here)) == 12
    assert records(here) == records(there)
    for one, other in zip(alone.rows, together.rows, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    for file in (here / "cells").glob("*.npz"):  # the draws over classes, bit by bit
        assert file.read_bytes() == (there / "cells" / file.name).read_bytes()
    assert (here / "config.yaml").read_text() == (there / "config.yaml").read_text()
    seen.clear()
    benchmark(replace(config, on="ray", out=str(there)), on_cell=lambda cell, _: seen.append(cell))
    assert seen == []  # what is done is not done again


def test_a_cell_that_fails_is_recorded(two_workers, tmp_path, capsys) -> None:
    words = ["benchmark", "--datasets", "numbers", "--seeds", "1", "--out", str(tmp_path), "--on", "ray"]
    assert main([*words, "--methods", "clip"]) == 2
    assert "one CLIP model" in capsys.readouterr().err


def test_jobs_and_a_cluster_exclude_each_other(capsys) -> None:
    with pytest.raises(ConfigError, match="both given"):
        BenchmarkConfig(jobs=2, on="ray")
    assert main(["benchmark", "--on", "slurm", "--methods", "sae", "--seeds", "1"]) == 2
    assert "cannot be a place to work" in capsys.readouterr().err
