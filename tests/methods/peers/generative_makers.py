"""The generative peers at sizes that take no time."""

from functools import partial
from typing import Any

from dkgzsl.methods.base import Setup
from dkgzsl.methods.peers.ale import ALE, ALESettings
from dkgzsl.methods.peers.aligned_autoencoders import Widths
from dkgzsl.methods.peers.cada_vae import CADAVAE, CADAVAESettings
from dkgzsl.methods.peers.class_norm import ClassNorm, ClassNormSettings
from dkgzsl.methods.peers.f_clswgan import FCLSWGAN, FCLSWGANSettings
from dkgzsl.methods.peers.f_vaegan import FVAEGAN, FVAEGANSettings

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "per_class": 10,
    "softmax_rate": 0.05,
    "softmax_epochs": 3,
    "precision": "float32",
}
_OF_SETUP = ("seed", "minutes", "clock", "on_epoch", "checkpoints")


def _setup(options: dict[str, Any]) -> Setup:
    """Takes what belongs to the setup out of the options."""
    return Setup(**{name: options.pop(name) for name in _OF_SETUP if name in options})


def f_clswgan(**options: Any) -> FCLSWGAN:
    setup = _setup(options)
    return FCLSWGAN(FCLSWGANSettings(**{**TINY, "beta": 0.5, **options}), setup)


def f_vaegan(**options: Any) -> FVAEGAN:
    setup = _setup(options)
    return FVAEGAN(FVAEGANSettings(**{**TINY, **options}), setup)


def cada(**options: Any) -> CADAVAE:
    setup = _setup(options)
    small = {"widths": Widths(16, 16, 16, 16, 4), "per_class": 8, "seen_per_class": 8, "softmax_epochs": 3}
    return CADAVAE(CADAVAESettings(**{**small, **options}), setup)


def ale(**options: Any) -> ALE:
    setup = _setup(options)
    return ALE(ALESettings(**{"scalings": ("none", "unit"), "batch_size": 16, **options}), setup)


def class_norm(**options: Any) -> ClassNorm:
    setup = _setup(options)
    small = {"hidden_size": 8, "batch_size": 16, "drop_after": 2, "scalings": ("none", "min-max")}
    return ClassNorm(ClassNormSettings(**{**small, **options}), setup)


ADVERSARIAL = {"f-clswgan": f_clswgan, "f-vaegan-d2": f_vaegan}
METHODS = {**ADVERSARIAL, "cada-vae": cada}
EPOCHWISE = {
    **METHODS,
    "f-vaegan-d2 in bfloat16": partial(f_vaegan, precision="bfloat16"),
    "ale": ale,
    "class-norm": class_norm,
}
