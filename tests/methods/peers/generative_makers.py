"""The generative peers at sizes that take no time."""

from typing import Any

from dkgzsl.methods.peers.aligned_autoencoders import Widths
from dkgzsl.methods.peers.cada_vae import CADAVAE
from dkgzsl.methods.peers.f_clswgan import FCLSWGAN
from dkgzsl.methods.peers.f_vaegan import FVAEGAN

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "per_class": 10,
    "softmax_rate": 0.05,
    "softmax_epochs": 3,
    "precision": "float32",
}
ADVERSARIAL = {
    "f-clswgan": lambda **options: FCLSWGAN(**{**TINY, "beta": 0.5, **options}),
    "f-vaegan": lambda **options: FVAEGAN(**{**TINY, **options}),
}


def cada(**options: Any) -> CADAVAE:
    small = {"widths": Widths(16, 16, 16, 16, 4), "per_class": 8, "seen_per_class": 8, "softmax_epochs": 3}
    return CADAVAE(**{**small, **options})


MAKERS = {**ADVERSARIAL, "cada-vae": cada}
