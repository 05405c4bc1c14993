"""A prediction: classes with probabilities, the most probable first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dkgzsl.display import data_frame, html_card, html_table, percent
from dkgzsl.runs.model_record import kind_of


@dataclass(frozen=True)
class Ranked:
    """A class with its probability.

    Attributes:
        name: the class.
        probability: among all classes, 0 to 1.
        seen: whether it had training images.
        photos: how many photos were added to its description later.
    """

    name: str
    probability: float
    seen: bool
    photos: int = 0

    @property
    def kind(self) -> str:
        """What the class is known by: `seen`, `unseen`, or `described + 3 photos`."""
        return kind_of(self.seen, self.photos)


@dataclass(frozen=True)
class Prediction:
    """What an image is taken for.

    Attributes:
        name: the most probable class, or None where the image is none of the classes.
        ranked: the most probable classes, the best first; the nearest ones of an image that is none of them.
        in_distribution: how well it fits the classes; below 1 it is none of them (`evaluation.in_distribution`).
    """

    name: str | None
    ranked: tuple[Ranked, ...]
    in_distribution: float

    def __repr__(self) -> str:
        classes = ", ".join(f"{one.name} {percent(one.probability)} %" for one in self.ranked)
        return (
            f"Prediction({classes})" if self.name is not None else f"Prediction(none of these; nearest: {classes})"
        )

    def _repr_html_(self) -> str:
        rows = [(one.name, one.kind, percent(one.probability)) for one in self.ranked]
        title = self.name if self.name is not None else "none of these classes"
        return html_card(title, (), html_table(("class", "kind", "probability, %"), rows, words=2))

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with a row for each ranked class: `class`, `probability` (0 to 1), `seen`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(
            {
                "class": [one.name for one in self.ranked],
                "probability": [one.probability for one in self.ranked],
                "seen": [one.seen for one in self.ranked],
            }
        )
