"""Figures of (generalized) zero-shot learning: per-class accuracy, T1, U, S, H, the seen-unseen curve, AUSUC.

Sources: per-class averages and H = 2 U S / (U + S) after Xian et al. (TPAMI 2018, arXiv 1707.00600); calibrated
stacking and the area under the seen-unseen curve after Chao et al. (ECCV 2016, arXiv 1605.04253). All figures are
fractions of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from dkgzsl.display import counted, data_frame, figures_line, html_figures, percent

Labels = Integer[np.ndarray, " images"]
Scores = Float[np.ndarray, "images classes"]


def per_class_accuracy(
    predicted: Labels, labels: Labels, classes: Integer[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """Share of correctly classified images of each class, 0 to 1; NaN for a class without images.

    Args:
        predicted: class that each image was given.
        labels: class of each image.
        classes: the classes to compute it for.
    """
    size = int(max(classes.max(initial=-1), labels.max(initial=-1))) + 1
    counts = np.bincount(labels, minlength=size)[classes]
    hits = np.bincount(labels[predicted == labels], minlength=size)[classes]
    with np.errstate(invalid="ignore"):
        accuracies: np.ndarray = hits / np.where(counts > 0, counts, np.nan)
    return accuracies


def harmonic_mean(
    unseen: Float[np.ndarray, "*points"], seen: Float[np.ndarray, "*points"]
) -> Float[np.ndarray, "*points"]:
    """H = 2 U S / (U + S), 0 where both are 0."""
    total = unseen + seen
    return np.where(total > 0, 2 * unseen * seen / np.where(total > 0, total, 1), 0.0)


@dataclass(frozen=True)
class SeenUnseenCurve:
    """U and S as one constant is added to the scores of unseen classes, from minus to plus infinity.

    Attributes:
        constants: the constants at which the decision of an image changes between seen and unseen, ascending. An
            interval i lies between `constants[i - 1]` and `constants[i]`; there is one interval more than
            constants.
        unseen: U on each interval, fractions of 1.
        seen: S on each interval, fractions of 1.
    """

    constants: Float[np.ndarray, " changes"]
    unseen: Float[np.ndarray, " intervals"]
    seen: Float[np.ndarray, " intervals"]

    @property
    def area(self) -> float:
        """AUSUC: the area under S as a function of U, by trapezoids, 0 to 1; it needs no constant."""
        return float(np.trapezoid(self.seen, self.unseen))

    @property
    def harmonic(self) -> Float[np.ndarray, " intervals"]:
        """H on each interval."""
        return harmonic_mean(self.unseen, self.seen)

    def best_constant(self) -> float:
        """A constant with the highest H: 0 where it reaches that, else the middle of the widest such interval."""
        values = self.harmonic
        if len(self.constants) == 0:
            return 0.0
        bounds = np.concatenate([[self.constants[0] - 1.0], self.constants, [self.constants[-1] + 1.0]])
        best = np.flatnonzero(values >= values.max() - 1e-12)
        if int(np.searchsorted(self.constants, 0.0, side="right")) in best:
            return 0.0
        widest = best[np.argmax(bounds[best + 1] - bounds[best])]
        return float((bounds[widest] + bounds[widest + 1]) / 2)

    def __repr__(self) -> str:
        return f"SeenUnseenCurve({counted(len(self.unseen), 'interval')}, AUSUC {percent(self.area)} %)"

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with a row for each interval: `constant` (its lower end), `u`, `s`, `h`.

        Raises:
            ConfigError: pandas is not installed.
        """
        lower = np.concatenate([[-np.inf], self.constants])
        return data_frame({"constant": lower, "u": self.unseen, "s": self.seen, "h": self.harmonic})


@dataclass(frozen=True)
class Margins:
    """What the curve needs of the scores: each image's best seen and best unseen class, and their margin.

    Attributes:
        best_seen: the seen class with the highest score.
        best_unseen: the unseen class with the highest score.
        lead: score of the best seen class less that of the best unseen one. With a constant above it, the image is
            assigned to the unseen class.
    """

    best_seen: Labels
    best_unseen: Labels
    lead: Float[np.ndarray, " images"]

    @classmethod
    def of(cls, scores: Scores, is_unseen: Bool[np.ndarray, " classes"]) -> Margins:
        """Compare the best scores of seen and unseen classes; a side without a class has the class 0 and -inf."""
        rows, best, score = np.arange(len(scores)), [], []
        low = np.array(-np.inf, dtype=scores.dtype)
        for side in (~is_unseen, is_unseen):
            chosen = np.where(side, scores, low).argmax(1)
            best.append(chosen)
            score.append(np.where(side[chosen], scores[rows, chosen], low).astype(np.float64))
        return cls(best[0], best[1], score[0] - score[1])


def seen_unseen_curve(
    scores: Scores,
    labels: Labels,
    is_unseen: Bool[np.ndarray, " classes"],
    *,
    class_weights: Float[np.ndarray, " classes"] | None = None,
) -> SeenUnseenCurve:
    """The exact curve for images of seen and unseen classes.

    Args:
        scores: generalized scores; -inf for classes outside the task.
        labels: class of each image.
        is_unseen: which classes are unseen: the constant is added to their scores.
        class_weights: weight of each class's accuracy in U or S (default: 1 for each).
    """
    return curve_of(Margins.of(scores, is_unseen), labels, is_unseen, class_weights=class_weights)


def curve_of(
    margins: Margins,
    labels: Labels,
    is_unseen: Bool[np.ndarray, " classes"],
    *,
    class_weights: Float[np.ndarray, " classes"] | None = None,
) -> SeenUnseenCurve:
    """The curve from margins, which do not depend on class weights; arguments as in `seen_unseen_curve`."""
    of_unseen = is_unseen[labels]
    counts = np.bincount(labels, minlength=len(is_unseen))
    shares = (counts > 0).astype(float) if class_weights is None else class_weights * (counts > 0)
    for group in (is_unseen, ~is_unseen):
        shares[group] /= max(shares[group].sum(), np.finfo(float).tiny)
    weights = shares[labels] / counts[labels]
    gain = np.where(of_unseen & (margins.best_unseen == labels), weights, 0.0)
    loss = np.where(~of_unseen & (margins.best_seen == labels), weights, 0.0)

    order = np.argsort(margins.lead, kind="stable")
    constants, starts = np.unique(margins.lead[order], return_index=True)
    gains = np.add.reduceat(gain[order], starts) if len(starts) else np.zeros(0)
    losses = np.add.reduceat(loss[order], starts) if len(starts) else np.zeros(0)
    unseen = np.concatenate([[0.0], np.cumsum(gains)])
    seen = np.concatenate([[0.0], np.cumsum(losses)])
    return SeenUnseenCurve(constants.astype(np.float64), unseen, (seen[-1] - seen).clip(min=0.0))


@dataclass(frozen=True)
class Figures:
    """The figures of one model on held-out images: fractions of 1, None where undefined.

    Accuracies are means of per-class accuracies.

    Attributes:
        t1: accuracy of images of unseen classes among the unseen classes (CZSL).
        u: accuracy of images of unseen classes among all classes, no constant added.
        s: accuracy of images of seen classes among all classes, no constant added.
        h: raw H, the harmonic mean of u and s.
        h_calibrated: H with the constant that validation chose; None where there was no validation.
        u_calibrated: U with that constant.
        s_calibrated: S with that constant.
        ausuc: area under the seen-unseen curve.
    """

    t1: float | None
    u: float | None
    s: float | None
    h: float | None
    h_calibrated: float | None
    u_calibrated: float | None
    s_calibrated: float | None
    ausuc: float | None

    def __repr__(self) -> str:
        return f"Figures({figures_line(asdict(self))}; in %)"

    def _repr_html_(self) -> str:
        return html_figures(asdict(self))

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with one row and a column for each figure; fractions of 1, NaN where undefined.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame({name: [value] for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Decisions:
    """What every figure needs of the scores of held-out images, with their labels; two classes an image.

    A constant on the unseen scores decides between an image's best seen and its best unseen class alone.

    Attributes:
        margins: best seen and best unseen class of each image, and how far the seen one leads.
        conventional: the class of each image where unseen classes alone are allowed (CZSL).
        labels: class of each image.
        is_unseen: which classes are unseen.
    """

    margins: Margins
    conventional: Labels
    labels: Labels
    is_unseen: Bool[np.ndarray, " classes"]

    @classmethod
    def joined(cls, blocks: Sequence[Decisions]) -> Decisions:
        """Of the images of all blocks, in their order."""
        parts = [(one.margins.best_seen, one.margins.best_unseen, one.margins.lead) for one in blocks]
        seen, unseen, lead = (np.concatenate(part) for part in zip(*parts, strict=True))
        conventional, labels = (
            np.concatenate([getattr(b, n) for b in blocks]) for n in ("conventional", "labels")
        )
        return cls(Margins(seen, unseen, lead), conventional, labels, blocks[0].is_unseen)

    def predicted(self, constant: float = 0.0) -> Labels:
        """The class of each image, with a constant on the scores of unseen classes.

        Of equal scores the lower class number wins, as in an argmax over all classes.
        """
        found, lead = self.margins, self.margins.lead - constant
        is_seen = (lead > 0) | ((lead == 0) & (found.best_seen < found.best_unseen))
        return np.where(is_seen, found.best_seen, found.best_unseen)

    def curve(self) -> SeenUnseenCurve:
        """The seen-unseen curve of these scores."""
        return curve_of(self.margins, self.labels, self.is_unseen)

    def class_accuracies(self, constant: float = 0.0) -> Float[np.ndarray, " classes"]:
        """Generalized accuracy of each class, 0 to 1; NaN for a class without images.

        Args:
            constant: added to the scores of unseen classes.
        """
        return per_class_accuracy(self.predicted(constant), self.labels, np.arange(len(self.is_unseen)))

    def conventional_accuracies(self) -> Float[np.ndarray, " classes"]:
        """Accuracy of each unseen class among the unseen classes, 0 to 1; NaN for seen classes."""
        unseen = self.is_unseen[self.labels]
        return per_class_accuracy(self.conventional[unseen], self.labels[unseen], np.arange(len(self.is_unseen)))

    def figures(self, constant: float | None = None) -> Figures:
        """Every figure.

        Args:
            constant: calibration constant that validation chose; None leaves the calibrated figures undefined.
        """
        u, s, h = self._balance(self.class_accuracies())
        if constant is None:
            u_calibrated = s_calibrated = h_calibrated = None
        else:
            u_calibrated, s_calibrated, h_calibrated = self._balance(self.class_accuracies(constant))
        return Figures(
            t1=_mean(self.conventional_accuracies()),
            u=u,
            s=s,
            h=h,
            h_calibrated=h_calibrated,
            u_calibrated=u_calibrated,
            s_calibrated=s_calibrated,
            ausuc=None if u is None or s is None else self.curve().area,
        )

    def __repr__(self) -> str:
        unseen = int(self.is_unseen.sum())
        return (
            f"Decisions({counted(len(self.labels), 'image')}, "
            f"{len(self.is_unseen) - unseen:,} seen + {counted(unseen, 'unseen class', 'unseen classes')})"
        )

    def _repr_html_(self) -> str:
        return html_figures(asdict(self.figures()))

    def to_frame(self, class_names: Sequence[str] | None = None, constant: float | None = None) -> Any:
        """A `pandas.DataFrame` with a row for each class; the columns are those of `per_class.csv`.

        Args:
            class_names: names of all classes (default: their numbers).
            constant: calibration constant; None leaves `accuracy_calibrated` undefined.

        Returns:
            Columns `class`, `role` (`seen` or `unseen`), `test_images` (a count), and `accuracy`,
            `accuracy_calibrated`, `accuracy_among_unseen`: fractions of 1, NaN where undefined.

        Raises:
            ConfigError: pandas is not installed.
        """
        size = len(self.is_unseen)
        calibrated = [None] * size if constant is None else self.class_accuracies(constant)
        return data_frame(
            {
                "class": list(range(size)) if class_names is None else class_names,
                "role": ["unseen" if unseen else "seen" for unseen in self.is_unseen],
                "test_images": np.bincount(self.labels, minlength=size),
                "accuracy": self.class_accuracies(),
                "accuracy_calibrated": calibrated,
                "accuracy_among_unseen": self.conventional_accuracies(),
            }
        )

    def _balance(
        self, accuracies: Float[np.ndarray, " classes"]
    ) -> tuple[float | None, float | None, float | None]:
        u, s = _mean(accuracies[self.is_unseen]), _mean(accuracies[~self.is_unseen])
        if u is None or s is None:
            return u, s, None
        return u, s, float(harmonic_mean(np.array(u), np.array(s)))


@dataclass(frozen=True)
class Scored:
    """Scores of held-out images with their labels.

    Attributes:
        scores: generalized scores, over all classes; -inf for classes outside the task.
        conventional: scores of the same images among the unseen classes; -inf for every other class.
        labels: class of each image.
        is_unseen: which classes are unseen.
    """

    scores: Scores
    conventional: Scores
    labels: Labels
    is_unseen: Bool[np.ndarray, " classes"]

    @property
    def decisions(self) -> Decisions:
        """The best classes of each image, from which every figure follows."""
        margins = Margins.of(self.scores, self.is_unseen)
        return Decisions(margins, self.conventional.argmax(1), self.labels, self.is_unseen)

    def curve(self) -> SeenUnseenCurve:
        """The seen-unseen curve of these scores."""
        return seen_unseen_curve(self.scores, self.labels, self.is_unseen)

    def class_accuracies(self, constant: float = 0.0) -> Float[np.ndarray, " classes"]:
        """See `Decisions.class_accuracies`."""
        return self.decisions.class_accuracies(constant)

    def conventional_accuracies(self) -> Float[np.ndarray, " classes"]:
        """See `Decisions.conventional_accuracies`."""
        return self.decisions.conventional_accuracies()

    def figures(self, constant: float | None = None) -> Figures:
        """Every figure; see `Decisions.figures`."""
        return self.decisions.figures(constant)

    def to_frame(self, class_names: Sequence[str] | None = None, constant: float | None = None) -> Any:
        """A `pandas.DataFrame` with a row for each class; see `Decisions.to_frame`."""
        return self.decisions.to_frame(class_names, constant)

    def __repr__(self) -> str:
        return repr(self.decisions).replace("Decisions", "Scored", 1)

    def _repr_html_(self) -> str:
        return self.decisions._repr_html_()


def _mean(values: Float[np.ndarray, " classes"]) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None


def balanced_weights(scored: Scored | Decisions) -> Float[np.ndarray, " images"]:
    """A weight for each image, of sum 1: seen and unseen classes weigh the same, and so do the classes of each."""
    counts = np.bincount(scored.labels, minlength=len(scored.is_unseen))
    weights = np.zeros(len(scored.is_unseen))
    kinds = [kind & (counts > 0) for kind in (scored.is_unseen, ~scored.is_unseen)]
    kinds = [kind for kind in kinds if kind.any()]
    for kind in kinds:
        weights[kind] = 1 / (len(kinds) * kind.sum() * counts[kind])
    return np.asarray(weights[scored.labels])
