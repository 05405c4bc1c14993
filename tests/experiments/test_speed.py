"""The speed command at toy sizes, and its reference loop against the package's training: the same mathematics."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import speed
from dkgzsl.methods.shared.training import seeded
from speed_stages import SIZES, products
from speed_training import Pair, needed

QUICK = SIZES["quick"]
STAGES = (
    "start-help",
    "start-import",
    "extraction",
    "reads",
    "statistics",
    "exploration",
    "final-fit",
    "scoring",
    "prediction",
    "iteration-unguided",
    "iteration-guided",
    "iteration-unguided-bfloat16",
    "iteration-guided-bfloat16",
    "evaluation",
)


@pytest.mark.parametrize("guided", [False, True])
def test_the_reference_loop_is_the_same_mathematics(guided: bool) -> None:
    """Figures and every weight after three iterations; in float64, so that rounding does not hide a difference."""
    pair = Pair.of(QUICK, dtype=torch.float64, seed=4)
    start = {name: weight.clone() for name, weight in pair.package.networks.state_dict().items()}
    ours, plain = seeded(5), seeded(5)
    for _ in range(3):
        figures = pair.run_package(ours, guided=guided)
        expected = pair.run_reference(plain, guided=guided)
        names = ("distance", "penalty", "knowledge_loss", "generator_loss")
        assert figures.tolist() == pytest.approx([expected[name] for name in names], rel=1e-7, abs=1e-10)
    weights = pair.reference.weights()
    assert set(weights) == set(start)
    for name, weight in pair.package.networks.state_dict().items():
        if name == "critic.score.bias":  # no part of the objective: there the reference moves by rounding alone
            continue
        assert (weight - weights[name]).abs().max() < 1e-8, name
        moved = (weight - start[name]).abs().max()
        assert (moved > 5e-6) == (guided or not name.startswith("fusion.")), name
    assert float(pair.package.penalty_weight) == pytest.approx(pair.reference.penalty_weight)
    assert pair.reference.penalty_weight != 10.0


def test_every_stage_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    assert speed.main(["--quick", "--repeats", "1", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert tuple(record["stages"]) == STAGES
    for name, stage in record["stages"].items():
        spent = stage["seconds"]
        assert all(seconds > 0 for seconds in spent.values()), name
        assert stage["times_reference"] == pytest.approx(spent["reference"] / spent["package"])
        assert stage["share_of_limit"] == pytest.approx(spent[stage["limit"]] / spent["package"])
        assert math.isfinite(stage["most_possible"])
    assert record["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["processor"]
    assert record["quick"] is True
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(STAGES) + 2
    assert all(line.count("|") == lines[0].count("|") for line in lines[:-2])
    assert len(record["rates"]) == 6
    assert all(rate > 0 for rate in record["rates"].values())
    assert lines[-1].startswith("This machine: products in float32, GFLOP/s ")


def test_stages_can_be_chosen_and_are_spelled_out_when_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--quick", "--repeats", "1", "--stages", "scoring,final-fit"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:4]
    assert [row.split("|")[1].strip() for row in rows] == ["scoring", "final-fit"]
    assert speed.main(["--quick", "--stages", "scorin"]) == 2
    assert "no such stage: scorin; stages are start-help, " in capsys.readouterr().err


def test_the_medians_are_of_the_turns_that_count() -> None:
    calls: list[str] = []
    stage = speed.Stage(
        size="none",
        package=lambda: calls.append("package"),
        reference=lambda: calls.append("reference"),
        reference_is="nothing",
        limits={"one": lambda: sum(range(10)), "two": lambda: sum(range(300_000))},
    )
    found = speed.measure(stage, 3, "wall")
    assert calls == ["package", "reference"] * 4  # in turn, the first one to warm up
    assert found["limit"] == "two"
    assert all(len(spent["wall"]) == 3 for spent in found["turns"].values())


@pytest.mark.parametrize("guided", [False, True])
def test_the_limit_counts_the_products_that_the_iteration_does(guided: bool) -> None:
    """Multiplications counted by torch's own counter: the iteration's own are the needed ones and few more."""
    sizes = replace(QUICK, hidden=256, visual=48, semantic=64)
    pair = Pair.of(sizes)
    steps, classes = pair.batches.classes.shape
    with FlopCounterMode(display=False) as least:
        products(needed(sizes, classes, steps, guided=guided))()
    with FlopCounterMode(display=False) as done:
        pair.run_package(seeded(0), guided=guided)
    assert 1.0 <= done.get_total_flops() / least.get_total_flops() < 1.06
