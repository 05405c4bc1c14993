"""The first sentences of the page: shares in words, and undefined figures."""

from pathlib import Path

import pytest

from dkgzsl.report.pages.classes import ClassRow
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.in_short import can_do, in_100

ROWS = [ClassRow(n, k, 5, "", "", "", a) for n, k, a in (("ox", "unseen", 0.5), ("cat", "seen", 0.9))]


def _content(**metrics) -> RunContent:
    every = dict.fromkeys(("t1", "u", "s", "h", "h_calibrated", "ausuc")) | metrics
    result = {"metrics": every, "seeds_detail": []}
    return RunContent(Path(), result, {}, {}, [], (), None, None, [], (), 0)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0 of 100"), (0.001, "fewer than 1 of 100"), (0.372, "37 of 100"), (0.999, "more than 99 of 100"),
     (1.0, "100 of 100")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_none_or_all(share, words) -> None:
    assert in_100(share) == words


def test_both_kinds_and_the_weakest_class_are_named() -> None:
    first, second = can_do(_content(u={"mean": 0.5}, s={"mean": 0.9}, u_calibrated={"mean": 0.61}), ROWS)
    assert "chooses among 2 classes, and names the right one for 61 of 100 images" in first
    assert "90 of 100" in second
    assert "weakest at the class ox, with 50 of 100" in second


def test_classes_without_test_images_are_counted() -> None:
    rows = [*ROWS, ClassRow("yak", "unseen", 0, "", "", "", -1.0)]
    assert "; 1 of these 2 have test images" in can_do(_content(u={"mean": 0.5}), rows)[0]
    assert "have test images" not in can_do(_content(u={"mean": 0.5}), ROWS)[0]


def test_no_seen_test_images_gives_no_figure_for_them(monkeypatch) -> None:
    sentences = can_do(_content(u={"mean": 0.5}), ROWS)
    assert len(sentences) == 2
    assert "trained on" not in sentences[1]
