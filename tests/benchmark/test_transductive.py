"""Transductive rows: named as such, after the inductive ones, compared with nothing."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from dkgzsl.benchmark.grid import cells_of
from dkgzsl.benchmark.run import benchmark
from dkgzsl.benchmark.table import as_csv, as_markdown, column_title
from dkgzsl.cli.figures import print_rows
from dkgzsl.config import BenchmarkConfig
from dkgzsl.data.load import load_dataset
from dkgzsl.evaluation.adaptation import adapted_scores
from dkgzsl.evaluation.held_out import test_images as images_of_test
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from worlds import world_folder

FEW = {
    "components": [20], "shrinkage": [0.5], "kernel_width": [0.0], "ridge": [0.1], "episodes": "off",
    "unit_length": "off", "seen_blend": [0.0], "feature_kernel_width": [0.0],
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> BenchmarkConfig:
    place = tmp_path_factory.mktemp("transductive")
    data = str(world_folder(place / "world"))
    return BenchmarkConfig(
        datasets=(data,),
        methods=("closed-form", "eszsl"),
        seeds=2,
        adapt="half",
        out=str(place / "grid"),
        settings={"closed-form": FEW},
    )


@pytest.fixture(scope="module")
def found(config):
    return benchmark(config)


def test_there_is_a_transductive_row_of_each_method_that_can_adapt(found, config) -> None:
    assert [(row["method"], row["adapted"]) for row in found.rows] == [
        *sorted(
            [("closed-form", None), ("eszsl", None)],
            key=lambda one: [r["method"] for r in found.rows].index(one[0]),
        ),
        ("closed-form", "half"),
    ]
    inductive = benchmark(replace(config, adapt=None, out=f"{config.out}-inductive")).rows
    for one, other in zip(found.rows, inductive, strict=False):
        assert one["metrics"] == other["metrics"], "inductive rows are those of a benchmark without adaptation"


def test_its_figures_are_those_of_adapting_the_protocols_model(found, config) -> None:
    ausuc = []
    for seed in (0, 1):
        problem = load_dataset(config.datasets[0], test_seed=seed)
        settings = ClosedFormSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in FEW.items()})
        outcome = validated(ClosedForm(settings, Setup(seed)), problem, seed=seed, raw_share=0.0)
        held = images_of_test(problem, outcome.fitted)
        scored = adapted_scores(held, outcome.model, "half", seed=seed).scored
        ausuc.append(scored.figures(outcome.constant).ausuc)
    assert found.rows[-1]["metrics"]["ausuc"]["mean"] == pytest.approx(np.mean(ausuc))


def test_it_is_named_and_compared_with_nothing(found, capsys) -> None:
    row = found.rows[-1]
    assert "transductive" in row["title"]
    assert (row["lead"], row["compared_with"]) == (None, None)
    for other in found.rows[:-1]:
        assert other["lead"] is not None
        assert "transductive" not in column_title(other)
    text = as_markdown(found.rows, [])
    tables = [part for part in text.split("### ") if part]
    assert len(tables) == 2
    assert "transductive: adapted to one half of the test images" in tables[1]
    assert "ransductive" not in tables[0]
    lines = list(csv.DictReader(io.StringIO(as_csv(found.rows))))
    assert [line["adapted"] for line in lines] == ["", "", "half"]
    print_rows(found.rows, [])
    printed = capsys.readouterr().out
    assert "transductive: adapted to one half of the test images" in printed.replace("\n", " ")
    assert "ransductive" in found._repr_html_()


def test_a_method_that_cannot_adapt_has_the_same_cell_with_and_without(config) -> None:
    with_rows, without = cells_of(config), cells_of(replace(config, adapt=None))
    for one, other in zip(with_rows, without, strict=True):
        assert (one.slug == other.slug) == (one.method == "eszsl")
