"""The plots draw what the formulas say: the data of the lines, bars and points on the axes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from dkgzsl import plots
from dkgzsl.display import percent
from dkgzsl.errors import InputError, RunError
from dkgzsl.evaluation.metrics import Decisions, Margins, seen_unseen_curve
from dkgzsl.report.record.predictions import Predictions
from dkgzsl.report.record.record import Record

IS_UNSEEN = np.array([False, False, True, True])
LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
SCORES = np.random.default_rng(0).normal(size=(8, 4)) + 1.5 * np.eye(4)[LABELS]


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def _record(constant: float | None = 0.4) -> Record:
    margins = Margins.of(SCORES, IS_UNSEEN)
    conventional = np.where(IS_UNSEEN, SCORES, -np.inf).argmax(1)
    decisions = Decisions(margins, conventional, LABELS, IS_UNSEEN)
    return Record(tuple("abcd"), Predictions.of(decisions, np.arange(8)), constant)


def _u_and_s(constant: float) -> tuple[float, float]:
    predicted = (SCORES + constant * IS_UNSEEN).argmax(1)
    of_class = [float(np.mean(predicted[c == LABELS] == c)) for c in range(4)]
    return float(np.mean(of_class[2:])), float(np.mean(of_class[:2]))


def test_the_curve_has_u_and_s_of_each_constant() -> None:
    axes = plots.seen_unseen_curve(_record())
    curve, raw, calibrated = axes.get_lines()
    drawn = set(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    for constant in np.linspace(-6, 6, 301):
        u, s = _u_and_s(constant)
        assert any(abs(x - 100 * u) < 1e-9 and abs(y - 100 * s) < 1e-9 for x, y in drawn)
    for point, constant in ((raw, 0.0), (calibrated, 0.4)):
        found = float(point.get_xdata()[0]), float(point.get_ydata()[0])
        assert found == pytest.approx(tuple(100 * v for v in _u_and_s(constant)))


def test_several_curves_keep_their_order_in_the_legend() -> None:
    curve = seen_unseen_curve(SCORES, LABELS, IS_UNSEEN)
    axes = plots.seen_unseen_curve({"one": _record(None), "two": curve})
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [text.split(",")[0] for text in texts[:2]] == ["one", "two"]
    assert f"AUSUC {percent(curve.area)}" in texts[1]
    assert len(axes.get_lines()) == 3  # two curves and the circle of the first


def test_given_axes_are_drawn_on_and_returned() -> None:
    axes = Figure().add_subplot()
    assert plots.seen_unseen_curve(_record(), ax=axes) is axes
    assert axes.get_lines()
    assert pyplot.get_fignums() == []


def test_a_bin_has_its_mean_probability_and_its_accuracy() -> None:
    probability = np.array([0.05, 0.15, 0.19, 0.95, 1.0, 0.92])
    correct = np.array([False, True, False, True, True, False])
    points = plots.reliability_diagram((probability, correct)).collections[0]
    assert np.asarray(points.get_offsets()) == pytest.approx(
        100 * np.array([[0.05, 0.0], [0.17, 0.5], [2.87 / 3, 2 / 3]])
    )
    sizes = points.get_sizes()
    assert sizes[2] > sizes[1] > sizes[0]


@pytest.mark.parametrize("calibrated", [True, False])
def test_bars_have_the_accuracy_of_each_class_best_first(calibrated: bool) -> None:
    axes = plots.per_class_bars(_record(), calibrated=calibrated)
    predicted = (SCORES + 0.4 * calibrated * IS_UNSEEN).argmax(1)
    of_class = np.array([100 * np.mean(predicted[c == LABELS] == c) for c in range(4)])
    unseen, seen = (patch.get_data().values for patch in axes.patches)
    assert list(unseen) == sorted(of_class[2:], reverse=True)
    assert list(seen) == sorted(of_class[:2], reverse=True)
    assert sorted(text.get_text() for text in axes.get_xticklabels()) == list("abcd")


def test_a_class_without_images_has_no_bar() -> None:
    axes = plots.per_class_bars((np.array([0.5, np.nan, 0.25]), np.array([True, True, False])))
    assert [list(patch.get_data().values) for patch in axes.patches] == [[50.0], [25.0]]


def test_the_map_shows_two_columns_as_they_are() -> None:
    real = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    axes = plots.feature_map(real=(real, np.array([7, 7, 8])), synthesized=(real + 1, np.array([7, 8, 8])))
    drawn = {line.get_label(): np.column_stack(line.get_data()) for line in axes.get_lines()[:2]}
    assert drawn["unseen classes, real test images"].tolist() == real[:2].tolist()
    assert drawn["unseen classes, synthesized"].tolist() == (real + 1)[:1].tolist()


def test_the_map_of_wide_features_separates_the_seen_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 30)
    features = rng.normal(size=(90, 12))
    features[:, 4] += 20 * (labels == 1)
    features[:, 9] += 20 * (labels == 2)
    axes = plots.feature_map(real=(features[:3], np.zeros(3, int)), seen=(features, labels))
    x, y = next(line.get_data() for line in axes.get_lines() if line.get_label().startswith("seen"))
    means = [np.array([x[labels == c].mean(), y[labels == c].mean()]) for c in range(3)]
    assert min(np.linalg.norm(means[a] - means[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 5


def test_attention_is_brightest_where_the_weight_is_largest() -> None:
    weights = np.array([[0.0, 0.0], [0.0, 1.0]])
    image = plots.attention(np.zeros((40, 40, 3), np.uint8), weights).images[0].get_array()
    bright = np.asarray(image, int).sum(2)
    assert bright[-5:, -5:].min() > 100 > bright[:5, :5].max()


def test_attention_reads_a_photo(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (32, 24), (10, 20, 30)).save(tmp_path / "photo.png")
    axes = plots.attention(tmp_path / "photo.png", np.zeros(4))
    assert axes.images[0].get_array().shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: plots.seen_unseen_curve({}), "no curve"),
        (lambda: plots.reliability_diagram((np.array([0.5]), np.array([True, False]))), "shape"),
        (lambda: plots.reliability_diagram((np.array([50.0]), np.array([True]))), "outside 0 to 1"),
        (lambda: plots.reliability_diagram((np.array([0.5]), np.array([True])), bins=0), "bins"),
        (lambda: plots.per_class_bars((np.array([np.nan]), np.array([True]))), "no class has test images"),
        (lambda: plots.per_class_bars((np.array([0.5]), np.array([True])), class_names=["a", "b"]), "class names"),
        (lambda: plots.feature_map(), "no features"),
        (lambda: plots.feature_map(real=(np.zeros((2, 5)), np.zeros(2, int))), "seen classes"),
        (lambda: plots.feature_map(real=(np.zeros((2, 2)), np.zeros(3, int))), "shape"),
        (lambda: plots.attention(np.zeros((4, 4, 3), np.uint8), np.zeros(5)), "do not fill"),
        (lambda: plots.attention(np.zeros((4, 4)), np.zeros(4)), "pixels of shape"),
        (lambda: plots.attention(np.zeros((4, 4, 3), np.uint8), np.full(4, np.nan)), "not finite"),
    ],
)
def test_bad_input_is_named(call, word) -> None:
    with pytest.raises(InputError, match=word):
        call()


def test_images_of_one_kind_have_no_curve() -> None:
    record = _record()
    unseen_only = replace(
        record, predictions=replace(record.predictions, labels=np.array([2, 2, 2, 2, 2, 3, 3, 3]))
    )
    with pytest.raises(InputError, match="no test images of seen"):
        plots.seen_unseen_curve(unseen_only)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        plots.per_class_bars(tmp_path)
