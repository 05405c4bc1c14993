"""Settings of the closed form. Where several values are listed, validation classes choose one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dkgzsl.config import SoftmaxConfig, Switch, check_ranges


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
    ridge: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
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
            at_least={"components": 1, "kernel_width": 0, "feature_kernel_width": 0},
            above_zero=("ridge",),
            shares=("shrinkage", "seen_blend"),
        )
