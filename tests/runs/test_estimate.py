"""Described classes without test photos: the headline is what seen classes show that were held out."""

import json
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.cli.figures import print_figures
from dkgzsl.config import TrainConfig
from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.problem import Problem
from dkgzsl.data.splits import validation_cut
from dkgzsl.evaluation.protocols import validated
from dkgzsl.report.estimate import Estimate, leaning
from dkgzsl.runs.pages import write_report
from dkgzsl.runs.plan import plan_of
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.summary import Trained
from dkgzsl.runs.training import run_plan

SEEN, DESCRIBED = 18, 4


def own_photos() -> Problem:
    """18 seen classes of twelve photos, and four that are only described."""
    rng = np.random.default_rng(4)
    attributes, labels = rng.random((SEEN + DESCRIBED, 10)), np.repeat(np.arange(SEEN), 12)
    features = attributes[labels] @ rng.normal(size=(10, 24)) + 0.7 * rng.normal(size=(len(labels), 24))
    names = [f"bird {k}" for k in range(len(attributes))]
    return problem_from_arrays(
        features.astype(np.float32),
        labels,
        {"attributes": attributes},
        class_names=names,
        name="own",
        attribute_names={"attributes": [f"a{k}" for k in range(10)]},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = TrainConfig(name="own", out=str(tmp_path_factory.mktemp("own") / "run"))
    return run_plan(plan_of(config, own_photos()), reporter=Reporter(quiet=True))


def test_the_estimate_is_that_of_the_validation_cuts(trained) -> None:
    seed = trained.details["seeds_detail"][0]
    plan = plan_of(TrainConfig(name="own"), own_photos())
    outcome = validated(plan.make_method(0), plan.problem, seed=0, representations=plan.representations(0))
    estimated = trained.result["estimated"]
    assert estimated["held_out_classes"] == len(validation_cut(plan.problem, 0).pseudo_unseen_classes) == 6
    assert estimated["cuts"] == outcome.cuts == seed["cuts"] > 1
    for key in ("t1", "u", "s", "h", "h_calibrated", "ausuc"):
        one = estimated["metrics"][key]
        assert one["mean"] == pytest.approx(getattr(outcome.validation, key))
        assert one["std"] == pytest.approx(getattr(outcome.validation_spread, key))
    assert trained.result["metrics"]["u"] is None  # a test figure stays undefined


def test_screen_card_and_report_say_it_with_its_spread(trained, capsys) -> None:
    estimated = Estimate.of(trained.details["seeds_detail"])
    assert estimated is not None
    named, figure = f"estimated on 6 held-out seen classes, {estimated.cuts} cuts", estimated.text("h_calibrated")
    assert "±" in figure
    capsys.readouterr()
    print_figures(trained.result, trained.details)
    screen = capsys.readouterr().out
    card = (trained.folder / "card.md").read_text()
    write_report(trained.folder, images=False)
    page = (trained.folder / "report.html").read_text()
    for text in (screen, card, page):
        assert named in text.replace("Estimated on", "estimated on")
        assert "no test" in text
    assert figure in screen
    assert figure in card
    mean, _, deviation = figure.partition(" ± ")
    assert f"{mean}<small> ± {deviation} %" in page
    assert "–" not in screen.split("\n\n")[0]
    assert " 0 images" not in page


def test_a_higher_s_of_eszsl_is_explained_and_no_other() -> None:
    ours = {"u": {"mean": 0.6, "std": 0.0}, "s": {"mean": 0.7, "std": 0.0}}
    told = leaning("closed-form", ours, {"method": "eszsl", "figures": {"u": 0.2, "s": 0.9}}, [])
    assert told is not None
    assert told.startswith("ESZSL leans to seen classes, because it does not balance")
    assert "20.0 (closed-form: 60.0)" in told
    assert leaning("closed-form", ours, {"method": "eszsl", "figures": {"u": 0.6, "s": 0.6}}, []) is None
    assert leaning("eszsl", ours, {"method": "closed-form", "figures": {"u": 0.2, "s": 0.9}}, []) is None
    held = {"u": 0.1, "s": 0.95}
    lower = {"method": "eszsl", "figures": {"u": 0.2, "s": 0.6}, "validation": held}
    assert leaning("closed-form", ours, lower, [{"validation": {"u": 0.5, "s": 0.8}, "cuts": 2}]) is None
    without = {"u": None, "s": {"mean": 0.7, "std": 0.0}}
    baseline = {"method": "eszsl", "figures": {"u": None, "s": 0.9}, "validation": held}
    told = leaning("closed-form", without, baseline, [{"validation": {"u": 0.5, "s": 0.8}, "cuts": 2}])
    assert told is not None
    assert "10.0 (closed-form: 50.0) on held-out classes" in told


def test_the_model_index_has_both(trained: Trained) -> None:
    import yaml

    front = yaml.safe_load((trained.folder / "card.md").read_text().split("---")[1])
    splits = [entry["dataset"]["split"] for entry in front["model-index"][0]["results"]]
    assert splits == ["validation", "test"]
    assert {one["type"] for one in front["model-index"][0]["results"][0]["metrics"]} >= {"t1", "u", "s", "h"}


def test_a_run_whose_result_lacks_the_number_of_classes_is_shown(trained: Trained, capsys) -> None:
    """Runs of earlier versions did not record how many classes a cut holds out."""
    details = json.loads(Path(trained.folder / "result.json").read_text())
    for seed in details["seeds_detail"]:
        del seed["held_out_classes"]
    capsys.readouterr()
    print_figures(trained.result, details)
    assert "estimated on held-out seen classes" in capsys.readouterr().out
