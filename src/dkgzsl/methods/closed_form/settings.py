"""Settings of the closed form. Where several values are listed, validation classes choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from dkgzsl.config import SoftmaxConfig, Switch, check_ranges
from dkgzsl.methods.search import Choice, Range, Space

FEW_DIMENSIONS: Final = 64
"""Up to so many channels validation chooses whether features are scaled to unit length. With hundreds of
dimensions unit length is the better choice; with a handful a class may lie in the middle of the others, and has no
direction."""
KERNEL_CHANNELS: Final = 256
"""Up to so many channels a kernel between images is tried. It pays where classes are not linear in the features,
as in pixels or hand-made ones; in the hundreds of channels of a deep network it never did."""
START: Final = {
    "components": 1024,
    "shrinkage": 0.6,
    "kernel_width": 2.0,
    "feature_kernel_width": 0.0,
    "ridge": 0.03,
    "seen_blend": 0.5,
}
"""What serves most problems. Settings begin at the listed value that is nearest to this one."""


@dataclass(frozen=True)
class ClosedFormSettings:
    """Class densities; the means of unseen classes are predicted by kernel ridge regression. Where several values
    are listed, validation classes choose.

    Raises:
        ConfigError: a value is out of its range.
    """

    components: tuple[int, ...] = (512, 1024)
    """Principal components kept before whitening, never above what the features have."""
    shrinkage: tuple[float, ...] = (0.1, 0.4, 0.6, 0.8)
    """Share of the within-class covariance that is replaced by its mean variance, 0 to 1."""
    kernel_width: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Variance of the Gaussian kernel between class descriptions; 0 stands for the linear kernel."""
    feature_kernel_width: tuple[float, ...] = (0.0, 1.0)
    """Variance of a Gaussian kernel between images, in median squared distances; 0: the features themselves."""
    ridge: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    """Ridge of the kernel regression, as a share of the kernel's mean diagonal."""
    seen_blend: tuple[float, ...] = (0.0, 0.5, 1.0)
    """How far the means of seen classes move towards what the other classes predict of them, 0 to 1."""
    square_root: Switch = "auto"
    """Take the square root of the features first; auto: where none is negative."""
    description_root: Switch = "auto"
    """Take the square root of the class descriptions; auto: where none is negative and it predicts seen classes
    better."""
    unit_length: Switch = "auto"
    """Scale whitened features to unit length; auto: on, and up to 64 channels where validation prefers it."""
    gate: Switch = "auto"
    """Decide between seen and described classes by predicted means of both, as far as predictions can be
    trusted."""
    offset: float = 0.2
    """How much the gate adds to the score of a class whose mean is predicted with little certainty, at least 0."""
    seen_expert: Switch = "auto"
    """Compare seen classes with each other in a space of their own, where whitening is shrunk less."""
    seen_shrinkage: float = 0.1
    """Shrinkage of that space, 0 to 1."""
    described_power: float = 0.5
    """Power of the variance of each axis when described classes are compared with each other, 0 to 1; 0: all axes
    count alike."""
    balance: Literal["on", "off"] = "on"
    """Correct the bias to seen classes by the errors of leave-one-class-out predictions."""
    episodes: Literal["auto", "off", "weights"] = "auto"
    """Learn weights of the descriptions by episodes; auto: where validation prefers them."""
    classifier: Literal["density", "softmax"] = "density"
    """Score by class densities, or by a softmax trained on real seen and synthesized unseen features."""
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "closed-form.",
            at_least={"components": 1, "kernel_width": 0, "feature_kernel_width": 0, "offset": 0},
            above_zero=("ridge",),
            shares=("shrinkage", "seen_blend", "seen_shrinkage", "described_power"),
        )


def start_of(settings: ClosedFormSettings, *, unit_length: bool, sizes: Sequence[int]) -> dict[str, Any]:
    """The setting at which exploration begins: what is left to validation is as it serves most problems.

    Args:
        settings: of the method.
        unit_length: whether features are scaled to unit length.
        sizes: numbers of components that can be tried.
    """
    start: dict[str, Any] = {
        name: min(getattr(settings, name), key=partial(_distance, at)) for name, at in START.items()
    }
    return {
        **start,
        "components": min(sizes, key=partial(_distance, start["components"])),
        "unit_length": unit_length,
        "feature_kernel_width": settings.feature_kernel_width[0],
        "gate": settings.gate != "off",
        "offset": settings.offset,
        "seen_expert": settings.seen_expert != "off",
        "described_power": settings.described_power,
        "balance": settings.balance == "on",
        "episodes": "off",
    }


def settled(settings: ClosedFormSettings, *, dimensions: int) -> ClosedFormSettings:
    """Settings with one value each, those at which exploration begins: where nothing can be chosen.

    Args:
        settings: with several values, and options left to validation.
        dimensions: of the features.
    """
    nearest: dict[str, Any] = {
        name: (min(getattr(settings, name), key=partial(_distance, at)),) for name, at in START.items()
    }
    unit = "on" if dimensions > FEW_DIMENSIONS else "off"
    options: dict[str, Any] = {"episodes": "off", "unit_length": unit, "gate": "on", "seen_expert": "on"}
    closed = {name: to for name, to in options.items() if getattr(settings, name) == "auto"}
    return replace(settings, **nearest, **closed)


def _distance(one: int | float, other: int | float) -> float:
    return float(abs(one - other))


# Components are halved from step to step: what was computed for a step serves every trial on it.
_COMPONENTS = (32, 64, 128, 256, 512, 1024, 2048)


def search(settings: ClosedFormSettings, images: int) -> Space:
    """What `tune` tries: continuous ranges where the exploration has a grid.

    Args:
        settings: of the search.
        images: training images; with a kernel between images there may be more components than channels.
    """
    del settings
    within = tuple(step for step in _COMPONENTS if step <= images)
    return {
        "components": Choice(within or (images,), start=1024),
        "shrinkage": Range(0.05, 0.95, start=0.6),
        "kernel_width": Range(0.0, 8.0, start=2.0),
        "feature_kernel_width": Choice((0.0, 0.5, 1.0, 2.0, 4.0), start=0.0),
        "ridge": Range(3e-4, 1.0, start=0.03, log=True),
        "seen_blend": Range(0.0, 1.0, start=0.5),
        "gate": Choice(("on", "off"), start="on"),
        "seen_expert": Choice(("on", "off"), start="on"),
        "episodes": Choice(("off", "weights"), start="off"),
    }
