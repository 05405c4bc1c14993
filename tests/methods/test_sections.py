"""Settings by method: what stands for them in Python, on the command line and in YAML."""

import numpy as np
import pytest

from dkgzsl import TrainConfig, train
from dkgzsl.benchmark.grid import cells_of
from dkgzsl.benchmark.run import begin
from dkgzsl.config import BenchmarkConfig, read_yaml
from dkgzsl.errors import ConfigError
from dkgzsl.methods.peers.eszsl import ESZSLSettings
from dkgzsl.methods.peers.gfzsl import GFZSLSettings
from dkgzsl.runs.plan import make_plan

POWERS = {"powers": np.array([-1])}


def test_train_takes_settings_as_a_mapping(tmp_path) -> None:
    settings = {"powers": [-1], "scalings": "unit"}
    config = TrainConfig("numbers", method="eszsl", settings=settings, baseline="none", report="off")
    assert make_plan(config).config.settings == ESZSLSettings(powers=(-1,), scalings=("unit",))
    train(TrainConfig("numbers", method="eszsl", settings=settings, baseline="none", out=str(tmp_path / "run")))
    assert read_yaml(tmp_path / "run" / "config.yaml")["eszsl"] == {"powers": [-1], "scalings": ["unit"]}


def test_a_schedule_joins_a_mapping() -> None:
    plan = make_plan(TrainConfig("numbers", method="ale", epochs=3, settings={"rates": 0.1}))
    assert (plan.config.settings.epochs, plan.config.settings.rates) == (3, (0.1,))


def test_benchmark_takes_a_mapping_for_each_method(tmp_path) -> None:
    settings = {"eszsl": POWERS, "gfzsl": GFZSLSettings(powers=(0,)), "sae": None}
    config = BenchmarkConfig(methods=("eszsl", "gfzsl", "sae"), seeds=1, settings=settings)
    found = {cell.method: cell.settings for cell in cells_of(config)}
    assert found == {"eszsl": ESZSLSettings(powers=(-1,)), "gfzsl": GFZSLSettings(powers=(0,)), "sae": None}
    begin(tmp_path, config)
    assert read_yaml(tmp_path / "config.yaml")["eszsl"]["powers"] == [-1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"power": [1]}, "did you mean 'powers'"),
        ({"powers": "many"}, "powers"),
        (GFZSLSettings(), "are not those of the method eszsl"),
        ("powers", "settings cannot be a str"),
    ],
)
def test_settings_that_do_not_fit_are_refused_everywhere(settings, expected) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_plan(TrainConfig("numbers", method="eszsl", settings=settings))
    with pytest.raises(ConfigError, match=expected):
        cells_of(BenchmarkConfig(methods=("eszsl",), settings={"eszsl": settings}))


def test_settings_of_a_benchmark_are_by_method() -> None:
    with pytest.raises(ConfigError, match="cannot be a ESZSLSettings"):
        cells_of(BenchmarkConfig(methods=("eszsl",), settings=ESZSLSettings()))
    with pytest.raises(ConfigError, match="did you mean 'eszsl'"):
        cells_of(BenchmarkConfig(methods=("eszsl",), settings={"eszs": {}}))
