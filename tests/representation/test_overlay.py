"""Maps over regions lie where the regions lie."""

import numpy as np
import pytest

from dkgzsl.representation.overlay import attribute_panels, overlay, panels, saliency_panels, strongest

pytest.importorskip("PIL", reason="needs the extra `images`")
GREY = np.full((70, 140, 3), 128, np.uint8)


def test_the_brightest_place_is_the_heaviest_region() -> None:
    weights = np.zeros(10, np.float32)
    weights[7] = 1  # second row, third of five columns
    changed = np.abs(overlay(GREY, weights, (2, 5)).astype(int) - 128).sum(axis=2)
    assert changed[35:, 56:84].mean() > 5 * changed[:35].mean()
    assert changed[35:, 56:84].mean() > 5 * changed[35:, 100:].mean()
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert 35 <= row < 70
    assert 56 <= column < 84


def test_an_even_map_leaves_the_photo() -> None:
    assert (overlay(GREY, np.full(10, 0.1, np.float32), (2, 5)) == GREY).all()


def test_strength_is_measured_against_training() -> None:
    scores, mean = np.array([5.0, 0.5, 9.0, 3.0]), np.array([5.0, 0.0, 8.0, 3.0])
    found = strongest(scores, mean, np.array([1.0, 0.1, 1.0, 0.0]), 2)
    assert [(s.attribute, round(s.strength, 6)) for s in found] == [(1, 5.0), (2, 1.0)]


def test_panels_form_a_row() -> None:
    attention = np.eye(4, 10, dtype=np.float32)
    strong = strongest(np.arange(4.0), np.zeros(4), np.ones(4), 2)
    sheet = attribute_panels(GREY, attention, strong, ["a", "b", "c", "a name that is too long " * 9], (2, 5))
    assert sheet.size == (3 * 140 + 2 * 8, 70 + 18)
    drawn = np.asarray(sheet)
    assert (drawn[18:, :140] == GREY).all()
    assert (drawn[18:, 148:288] == overlay(GREY, attention[3], (2, 5))).all()
    assert (drawn[:18, 140:148] == 255).all()  # a long caption stays in its column
    assert saliency_panels(GREY, attention[0], attention[1], (2, 5)).size == sheet.size
    assert panels([("one", GREY)]).size == (140, 88)
