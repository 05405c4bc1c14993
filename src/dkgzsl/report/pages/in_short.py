"""What the model can and cannot do, for a reader who does not know the field, and a glossary of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dkgzsl.display import in_100
from dkgzsl.report.pages.classes import ClassRow
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.headline import estimated
from dkgzsl.report.wording import FIGURES

GLOSSARY: Final = (
    ("seen", "Seen class", "A class that has training images."),
    ("unseen", "Unseen class", "A class that has a description, but no training image."),
    *((key, label, f"{meaning[0].upper()}{meaning[1:]}.") for key, (label, meaning) in FIGURES.items()),
    (
        "calibration", "Calibration",
        "A constant is added to the scores of all unseen classes, because a model that has images of seen classes "
        "alone prefers them. The constant is chosen on validation images, never on test images.",
    ),
    (
        "validated", "Validated",
        "The settings were chosen on validation images. The test images were scored once, after this choice.",
    ),
    (
        "oracle", "Oracle",
        "The settings were chosen on the test images, as for many printed tables. Such figures are too high for "
        "new images.",
    ),
    ("chance", "Chance", "The figure of a model that guesses."),
    ("baseline", "Baseline", "A simple method with the same features, descriptions and split, for comparison."),
)  # fmt: skip
"""Key, name and meaning of each term; links of the page lead to the key."""


def can_do(content: RunContent, rows: Sequence[ClassRow]) -> list[str]:
    """Two sentences on what the model can and cannot do; one for each kind of classes that was tested.

    The figures are those of the calibrated decision where there is one.

    Args:
        content: content of the run's folder.
        rows: of the table of classes.
    """
    roles = [row.role for row in rows]
    unseen, every = roles.count("unseen"), len(roles)
    u, s = (_decided(content, key) for key in ("u", "s"))
    sentences = []
    if u is not None:
        known = (
            "the one class that it knows by its description alone"
            if unseen == 1
            else f"the {unseen} classes that it knows by their descriptions alone"
        )
        tested = sum(row.role == "unseen" and row.images > 0 for row in rows)
        only = "" if tested == unseen else f"; {tested} of these {unseen} have test images"
        sentences.append(
            f"This model chooses among {every} classes, and names the right one for {in_100(u)} images of "
            f"{known}{only}."
        )
    elif unseen and estimated(content) is None:
        sentences.append(
            f"This model can name {unseen} {'class' if unseen == 1 else 'classes'} from a description alone, but "
            "there are no test images that show how often it is right."
        )
    worst = _worst(rows)
    if s is not None:
        seen = every - unseen
        one = "the one class" if seen == 1 else f"the {seen} classes"
        also = "" if worst is None else f"; it is weakest at the class {worst[0]}, with {in_100(worst[1])} right"
        sentences.append(f"It is right for {in_100(s)} images of {one} that it was trained on{also}.")
    elif worst is not None:
        sentences.append(f"It is weakest at the class {worst[0]}, with {in_100(worst[1])} right.")
    return sentences


def _decided(content: RunContent, key: str) -> float | None:
    """The mean over seeds of U or S: calibrated where it is defined, else raw; None where there are no images."""
    metrics: dict[str, Any] = content.result["metrics"]
    found = metrics.get(f"{key}_calibrated") or content.result.get(f"{key}_calibrated") or metrics.get(key)
    return None if found is None else float(found["mean"] if isinstance(found, dict) else found)


def _worst(rows: Sequence[ClassRow]) -> tuple[str, float] | None:
    """The class with the lowest accuracy; None where no class has test images or all are right."""
    tested = [row for row in rows if row.sort >= 0]
    if not tested:
        return None
    worst = min(tested, key=lambda row: row.sort)
    return None if worst.sort == 1 else (worst.name, worst.sort)
