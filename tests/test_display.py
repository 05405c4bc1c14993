"""How results print: short reprs, HTML that escapes names, frames with the values of the figures."""

import builtins
import importlib
import math
from dataclasses import asdict, fields, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.benchmark.run import Benchmarked
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.display import DASH, data_frame, figures_line, html_card, html_table, percent, signed
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.inference.recognizer import Prediction, Ranked
from dkgzsl.runs.summary import Trained, over_seeds

HOSTILE = "<script>alert('1')</script>"
FIGURES = Figures(
    t1=1.0, u=0.99125, s=0.9865, h=0.98887, h_calibrated=None, u_calibrated=None, s_calibrated=None, ausuc=0.99
)


class Tags(HTMLParser):
    """Tags and text of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def scored() -> Scored:
    rng = np.random.default_rng(0)
    is_unseen = np.array([False, True, False, True, False])
    scores = rng.normal(size=(40, 5))
    labels = rng.integers(0, 4, 40)  # class 4 has no images
    return Scored(scores, np.where(is_unseen, scores, -np.inf), labels, is_unseen)


def trained(folder: Path, *, name: str = "birds") -> Trained:
    figures = [FIGURES, replace(FIGURES, t1=0.9)]
    result = {
        "run": str(folder), "dataset": name, "method": "closed-form", "protocol": "validated", "seeds": [0, 1],
        "metrics": over_seeds(figures), "seconds": 3.0,
    }  # fmt: skip
    details = {
        "seeds_detail": [{"seed": seed, "figures": asdict(one)} for seed, one in enumerate(figures)],
        "baseline": {"method": "eszsl", "figures": asdict(replace(FIGURES, u=0.5))},
        "default": None,
    }
    return Trained(folder, result, details)


def benchmarked(title: str = "ESZSL") -> Benchmarked:
    row = {
        "method": "eszsl", "adapted": None,
        "title": title, "dataset": "birds", "features": "resnet", "backbone": None,
        "semantics": "att", "representation": "pooled", "protocol": "validated", "minutes": None, "seeds": [0],
        "clock": None, "balance": "none", "epoch": None, "epochs_trained": None, "schedule": None,
        "metrics": over_seeds([FIGURES]), "seconds": 1.5,
    }  # fmt: skip
    failed = {"method": "ale", "dataset": "birds", "seed": 0, "error": title}
    return Benchmarked(Path("out"), [row, {**row, "method": "sae", "semantics": "w2v"}], [failed])


def prediction(name: str | None = "05") -> Prediction:
    further = {
        field.name: 0.0 for field in fields(Prediction) if field.name not in ("name", "ranked")
    }  # whatever else a prediction has is a number
    return Prediction(name, (Ranked(name or "85", 0.75, False), Ranked(HOSTILE, 0.25, True)), **further)


def test_percent_has_one_decimal_and_a_dash_where_undefined() -> None:
    assert percent(0.98765) == "98.8"
    assert percent(1.0, 0) == "100"
    assert percent(None) == percent(math.nan) == DASH


def test_percent_rounds_halves_up_however_the_mean_was_added_up() -> None:
    for value in (0.9925, 0.9925 - 1e-12, 0.9925 + 1e-12, float(np.float32(0.9925))):
        assert percent(value) == "99.3"
    assert (percent(0.9924), percent(0.0), percent(0.005, 0)) == ("99.2", "0.0", "1")


def test_signed_rounds_as_percent_does() -> None:
    for value in (0.0125, 0.0125 - 1e-12):
        assert signed(value) == "+1.3"
    assert (signed(-0.0125), signed(-1e-9), signed(0.0)) == ("\u22121.3", "+0.0", "+0.0")
    assert figures_line({"t1": 0.5}) == "T1 50.0, U –, S –, H –, H calibrated –, AUSUC –"


def test_reprs_are_one_short_line(tmp_path) -> None:
    assert repr(FIGURES) == "Figures(T1 100.0, U 99.1, S 98.7, H 98.9, H calibrated –, AUSUC 99.0; in %)"
    problem = numbers()
    assert repr(problem) == (
        "Problem(numbers: 7,600 images, 80 seen + 20 unseen classes, "
        f"features 7600 x {problem.features.shape[1]} float32, semantics strokes 100 x 76)"
    )
    assert repr(problem.parts) == "Parts(4,800 trainval, 2,000 test_seen, 800 test_unseen)"
    assert repr(scored()) == "Scored(40 images, 3 seen + 2 unseen classes)"
    assert repr(scored().curve()).startswith("SeenUnseenCurve(41 intervals, AUSUC ")
    assert repr(trained(tmp_path)) == (
        "Trained(birds, closed-form, seeds 0, 1: T1 95.0, U 99.1, S 98.7, H 98.9, H calibrated –, AUSUC 99.0; "
        f"in %; folder {tmp_path})"
    )
    assert repr(benchmarked()) == ("Benchmarked(2 rows: 2 methods, 1 data set, 1 failed cell; folder out)")
    assert repr(prediction()) == f"Prediction(05 75.0 %, {HOSTILE} 25.0 %)"
    assert repr(prediction(None)).startswith("Prediction(none of these; nearest: 85 75.0 %")
    for one in (problem, scored(), prediction(), benchmarked(), FIGURES):
        assert "\n" not in repr(one)


def test_html_escapes_every_name(tmp_path) -> None:
    problem = replace(numbers(), name=HOSTILE)
    shown = {
        "problem": problem._repr_html_(),
        "trained": trained(tmp_path, name=HOSTILE)._repr_html_(),
        "benchmarked": benchmarked(HOSTILE)._repr_html_(),
        "prediction": prediction()._repr_html_(),
        "card": html_card(HOSTILE, [(HOSTILE, HOSTILE)]),
        "table": html_table([HOSTILE], [[HOSTILE]]),
    }
    for name, html in shown.items():
        page = Tags(html)
        assert "script" not in page.tags, name
        assert HOSTILE in " ".join(page.words), name


def test_html_has_the_figures(tmp_path) -> None:
    words = " ".join(Tags(trained(tmp_path)._repr_html_()).words)
    for expected in (
        "birds, closed-form, seeds 0, 1",
        "seed 0 100.0 99.1",
        "seed 1 90.0",
        "mean 95.0",
        "eszsl 100.0 50.0",
    ):
        assert expected in words
    assert Tags(FIGURES._repr_html_()).words[7:] == ["100.0", "99.1", "98.7", "98.9", "–", "99.0"]
    assert Tags(scored()._repr_html_()).tags.count("th") == 7
    words = " ".join(Tags(benchmarked()._repr_html_()).words)
    assert "semantics att" in words
    assert "semantics w2v" in words
    assert "ESZSL 100.0 99.1 98.7 98.9 – 99.0 1.5" in words
    assert "80 seen + 20 unseen" in " ".join(Tags(numbers()._repr_html_()).words)


def test_frames_have_the_values_of_the_figures(tmp_path) -> None:
    pytest.importorskip("pandas")
    row = FIGURES.to_frame()
    assert len(row) == 1
    assert set(row.dtypes.astype(str)) == {"float64"}
    for name, value in asdict(FIGURES).items():
        assert row[name][0] == value if value is not None else math.isnan(row[name][0])
    seeds = trained(tmp_path).to_frame()
    assert seeds["seed"].tolist() == [0, 1]
    assert seeds["t1"].tolist() == [1.0, 0.9]
    assert seeds["h_calibrated"].isna().all()
    table = benchmarked().to_frame()
    assert table["method"].tolist() == ["eszsl", "sae"]
    assert table["u_mean"].tolist() == [FIGURES.u] * 2
    assert table["h_calibrated_mean"].isna().all()
    assert table["seconds"].tolist() == [1.5, 1.5]
    ranked = prediction().to_frame()
    assert ranked["class"].tolist() == ["05", HOSTILE]
    assert ranked["probability"].tolist() == [0.75, 0.25]
    assert ranked["seen"].tolist() == [False, True]


def test_frames_of_classes_have_their_accuracies(tmp_path) -> None:
    pandas = pytest.importorskip("pandas")
    one = scored()
    frame = one.to_frame(["a", "b", "c", "d", HOSTILE], constant=0.5)
    np.testing.assert_array_equal(frame["accuracy"], one.class_accuracies())
    np.testing.assert_array_equal(frame["accuracy_calibrated"], one.class_accuracies(0.5))
    np.testing.assert_array_equal(frame["accuracy_among_unseen"], one.conventional_accuracies())
    assert frame["role"].tolist() == ["seen", "unseen", "seen", "unseen", "seen"]
    assert frame["test_images"].sum() == 40
    assert one.to_frame()["class"].tolist() == [0, 1, 2, 3, 4]
    assert one.to_frame()["accuracy_calibrated"].isna().all()
    curve = one.curve().to_frame()
    assert np.trapezoid(curve["s"], curve["u"]) == one.curve().area
    assert curve["constant"][0] == -math.inf
    np.testing.assert_array_equal(curve["constant"][1:], one.curve().constants)
    frame.to_csv(tmp_path / "per_class.csv", index=False)
    read = trained(tmp_path).per_class()
    pandas.testing.assert_frame_equal(read, frame, check_dtype=False)
    with pytest.raises(RunError, match="cannot read the figures of the classes"):
        trained(tmp_path / "none").per_class()


@pytest.mark.parametrize("shown", [FIGURES, scored(), scored().curve(), prediction(), benchmarked()])
def test_without_pandas_the_error_names_the_command(shown, monkeypatch) -> None:
    real = importlib.import_module

    def without(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("dkgzsl.display.import_module", without)
    with pytest.raises(ConfigError, match="pip install pandas"):
        shown.to_frame()
    assert repr(shown)


def test_nothing_imports_pandas_before_a_frame_is_asked_for(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest, **more):
        assert not name.startswith("pandas"), "a repr takes no pandas"
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert repr(scored())
    assert scored()._repr_html_()


def test_undefined_values_are_nan_in_a_column_of_numbers() -> None:
    pytest.importorskip("pandas")
    frame = data_frame({"number": [None, 1.5], "nothing": [None, None], "word": ["a", None]})
    assert frame["number"].isna().tolist() == [True, False]
    assert frame["nothing"].dtype == float
    assert frame["word"].tolist()[0] == "a"
