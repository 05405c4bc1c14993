"""A benchmark that is here in part, or not at all: what is used instead, what is named, what can be planned."""

import re
import shutil
from pathlib import Path

import pytest

from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig
from dkgzsl.data.catalog import KNOWN
from dkgzsl.runs.outline import estimate, outline
from dkgzsl.runs.plan import make_plan
from worlds import world_folder


@pytest.fixture
def root(tmp_path) -> Path:
    """CUB in small: res101 and att."""
    world_folder(tmp_path / "data" / "CUB")
    return tmp_path / "data"


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_descriptions_that_are_published_and_not_here_make_way_with_one_line(root) -> None:
    plan = make_plan(TrainConfig("CUB", data_root=str(root)))
    assert plan.problem.semantics_name == "att"
    [note] = plan.notes
    assert note.startswith("sent_splits.mat is not here: this uses attributes")
    assert f"dkgzsl data fetch CUB --data-root {root}" in note
    shutil.copy(root / "CUB" / "att_splits.mat", root / "CUB" / "sent_splits.mat")
    plan = make_plan(TrainConfig("CUB", data_root=str(root)))
    assert (plan.problem.semantics_name, plan.notes) == ("sent", ())


def test_descriptions_that_are_asked_for_and_not_here_are_an_error(capsys, root) -> None:
    assert main(["train", "CUB", "--data-root", str(root), "--semantics", "sent"]) == 2
    assert "sent_splits.mat is not there" in capsys.readouterr().err


def test_the_feature_files_that_are_here_are_named(capsys, root) -> None:
    (root / "CUB" / "res101.mat").rename(root / "CUB" / "vgg_fc7.mat")
    for words in ([], ["--features", "vit_b16"]):
        assert main(["train", "CUB", "--data-root", str(root), *words]) == 2
        error = capsys.readouterr().err
        assert "feature files there: vgg_fc7" in error
        assert "--features vgg_fc7" in error
    assert main(["train", "CUB", "--data-root", str(root), "--features", "vgg_fc7", "--dry-run"]) == 0


@pytest.mark.parametrize("name", sorted(KNOWN))
@pytest.mark.parametrize("method", ["closed-form", "dkgzsl", "eszsl"])
def test_a_dry_run_needs_no_data(capsys, tmp_path, name, method) -> None:
    out, root = tmp_path / "run", tmp_path / "nothing"
    words = ["train", name, "--data-root", str(root), "--method", method, "--out", str(out), "--dry-run"]
    assert main(words) == 0
    printed = plain(capsys.readouterr().out)
    entry = KNOWN[name]
    assert f"data set {name}, {entry.classes} classes" in printed
    assert f"training images {entry.trainval:,} of {entry.seen_classes} seen classes" in printed
    unseen = f"{entry.test_unseen:,} of {entry.unseen_classes} unseen classes"
    assert f"test images {entry.test_seen:,} of seen classes, {unseen}" in printed
    size = entry.sentences if name == "CUB" else entry.attributes
    assert f"{size} dimensions" in printed
    assert f"before it can run: {name} lacks" in printed
    assert not out.exists()
    assert not root.exists()


def test_the_plan_without_data_is_that_with_data(root) -> None:
    """Of the same sizes the cost is the same: the toy's own sizes in the catalogue's place."""
    config = TrainConfig("CUB", data_root=str(root))
    here = outline(config)
    assert here.missing is None
    assert (here.training, here.classes, here.unseen) == (12 * 18, 16, 4)
    away = outline(TrainConfig("CUB", data_root=str(root / "nothing")))
    assert (away.training, away.channels, away.dimensions) == (7057, 2048, 1024)
    assert estimate(away).gigabytes == pytest.approx(0.6 + 4 * (2.5 * 11788 * 2048 + 3 * 2048**2) / 1e9)
    assert estimate(here).gigabytes == pytest.approx(0.6 + 4 * (2.5 * 384 * 20 + 3 * 20**2) / 1e9)
    unknown = outline(TrainConfig("CUB", data_root=str(root / "nothing"), features="my_net"))
    assert estimate(unknown).seconds is None


def test_a_dry_run_of_a_mistake_is_a_mistake(capsys, tmp_path) -> None:
    assert main(["train", "birds", "--data-root", str(tmp_path), "--dry-run"]) == 2
    assert "unknown data set" in capsys.readouterr().err
    assert main(["train", "CUB", "--data-root", str(tmp_path), "--baseline", "nothing", "--dry-run"]) == 2
