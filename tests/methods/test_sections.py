"""Settings by method: what stands for them in Python, on the command line and in YAML."""

import numpy as np
import pytest

from dkgzsl import TrainConfig, train
from dkgzsl.benchmark.grid import cells_of
from dkgzsl.benchmark.run import begin
from dkgzsl.cli.main import main
from dkgzsl.cli.parse import parse
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
    assert read_yaml(tmp_path / "run" / "config.yaml")["eszsl"] == {
        "powers": [-1],
        "scalings": ["unit"],
        "labels": ["signed", "binary"],
    }


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


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["train", "numbers", "--method", "eszsl"], "add --method gfzsl, or leave the flags out"),
        (["tune", "numbers", "--method", "eszsl", "--out", "x"], "add --method gfzsl, or leave the flags out"),
        (["benchmark", "--methods", "eszsl", "sae"], "add gfzsl to --methods, or leave the flags out"),
    ],
)
def test_a_flag_of_a_method_that_does_not_run_is_refused(words, fix, capsys) -> None:
    assert main([*words, "--gfzsl.powers", "-1"]) == 2
    error = capsys.readouterr().err
    assert "the flags --gfzsl. ... set the method gfzsl, and this runs eszsl" in error
    assert fix in error


def test_a_benchmark_of_all_takes_a_flag_of_any() -> None:
    for words in ([], ["--methods", "eszsl", "gfzsl"]):
        config = parse(BenchmarkConfig, [*words, "--gfzsl.powers", "-1"], verb="benchmark")
        assert config.settings == {"gfzsl": GFZSLSettings(powers=(-1,))}


def test_a_file_may_have_sections_of_methods_that_do_not_run(tmp_path) -> None:
    file = tmp_path / "several.yaml"
    file.write_text("gfzsl: {powers: [-1]}\neszsl: {powers: [0]}\n")
    words = ["--config", str(file)]
    assert parse(TrainConfig, ["numbers", "--method", "eszsl", *words], verb="train").settings == ESZSLSettings(
        (0,)
    )
    found = parse(BenchmarkConfig, ["--methods", "eszsl", "sae", *words], verb="benchmark")
    assert found.settings == {"eszsl": ESZSLSettings((0,))}
    file.write_text("gfzsl: {power: [-1]}\nmethods: [eszsl]\n")
    with pytest.raises(ConfigError, match=r"unknown setting gfzsl\.power"):
        parse(BenchmarkConfig, words, verb="benchmark")


def test_the_methods_of_a_file_count_for_flags(tmp_path) -> None:
    file = tmp_path / "methods.yaml"
    file.write_text("methods: [eszsl]\n")
    with pytest.raises(ConfigError, match="this runs eszsl"):
        parse(BenchmarkConfig, ["--config", str(file), "--gfzsl.powers", "-1"], verb="benchmark")
