"""Maps over regions lie where the regions lie."""

import numpy as np
import pytest
import torch

from dkgzsl.representation.evidence import strengths
from dkgzsl.representation.overlay import map_panels, overlay, panels

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
    usual = torch.tensor([[5.0, 0.0, 8.0, 3.0], [1.0, 0.1, 1.0, 0.0]])
    found = strengths(np.array([[5.0, 0.5, 9.0, 3.0], [6.0, 0.0, 8.0, 9.0]], np.float32), usual)
    np.testing.assert_allclose(found, [[0, 5, 1, 0], [1, 0, 0, 0]], atol=1e-6)


def test_panels_form_a_row() -> None:
    attention = np.eye(4, 10, dtype=np.float32)
    sheet = map_panels(GREY, [("a name that is too long " * 9, attention[3]), ("b", attention[2])], (2, 5))
    assert sheet.size == (3 * 140 + 2 * 8, 70 + 18)
    drawn = np.asarray(sheet)
    assert (drawn[18:, :140] == GREY).all()
    assert (drawn[18:, 148:288] == overlay(GREY, attention[3], (2, 5))).all()
    assert (drawn[:18, 140:148] == 255).all()  # a long caption stays in its column
    assert panels([("one", GREY)]).size == (140, 88)
