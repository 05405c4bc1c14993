"""A described class with a few photos is called so: on screen, in JSON, on the page, the card and the report."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.app.results import class_page
from dkgzsl.app.session import Session
from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.model_record import RecognitionRecord, kind_of
from worlds import ONE_WAY

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--baseline", "none"]
QUICK += ONE_WAY
LABEL = "described + 3 photos"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose class 05 went, and came again with three photos; 'new' came with none."""
    folder, problem = tmp_path_factory.mktemp("photos"), numbers()
    path = folder / "run"
    assert main(["train", "numbers", *QUICK, "--out", str(path)]) == 0
    np.save(folder / "05.npy", problem.features[problem.labels == 5][:3])
    np.save(folder / "vector.npy", problem.semantics[5])
    assert main(["remove-class", str(path), "--name", "05"]) == 0
    words = ["add-class", str(path), "--name", "05", "--attributes", str(folder / "vector.npy")]
    assert main([*words, "--features", str(folder / "05.npy")]) == 0
    np.save(folder / "other.npy", problem.semantics[5] * 0.5)
    assert main(["add-class", str(path), "--name", "new", "--attributes", str(folder / "other.npy")]) == 0
    return path


def test_predict_says_it(run, tmp_path, capsys) -> None:
    problem = numbers()
    np.save(tmp_path / "one.npy", problem.features[problem.labels == 5][5:6])
    words = ["predict", str(run), "--features", str(tmp_path / "one.npy"), "--top", "100"]
    capsys.readouterr()
    assert main(words) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if re.search(r"\b05 \d+ %", one))
    assert f"({LABEL})" in line
    assert main([*words, "--json"]) == 0
    nearest = json.loads(capsys.readouterr().out)["nearest"]
    assert [(one["class"], one["photos"]) for one in nearest if "photos" in one] == [("05", 3)]
    assert not next(one["seen"] for one in nearest if one["class"] == "05")


def test_page_card_and_report_say_it(run) -> None:
    assert class_page(Session.open(run), "05")["kind"] == LABEL
    assert class_page(Session.open(run), "new")["kind"] == "unseen"
    assert f"05 ({LABEL}), new (described)" in (run / "card.md").read_text()
    assert main(["report", str(run)]) == 0
    assert f"05 ({LABEL}), new (described)" in (run / "report.html").read_text()


def test_a_pushed_run_keeps_it(run, tmp_path) -> None:
    from dkgzsl.inference.hub.package import pack

    (tmp_path / "packed").mkdir()
    pack(run, tmp_path / "packed")
    assert f"05 ({LABEL})" in (tmp_path / "packed" / "README.md").read_text()


def test_earlier_records_have_no_photos(run) -> None:
    recognizer = Recognizer.from_run(run)
    content = replace(recognizer.record, photos={}).to_json()
    del content["photos"]
    assert RecognitionRecord.from_json(content).photos == {}
    assert (kind_of(True, 0), kind_of(False, 0), kind_of(False, 1)) == ("seen", "unseen", "described + 1 photo")
