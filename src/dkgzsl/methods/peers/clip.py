"""CLIP by class names (Radford et al., ICML 2021, arXiv 2103.00020): the nearest text, nothing learned.

An image's embedding is compared with the embeddings of the classes' sentences by cosine (section 3.1.2). Both come
from one CLIP model: features by `dkgzsl extract --backbone clip:...`, descriptions by `dkgzsl data describe
--encoder clip:...`. Seen classes are scored by their sentences, too; training images serve the calibration alone.

Deviations: one sentence a class, as `data describe` makes it, not an ensemble of 80; no temperature, which moves
no figure. CLIP was trained on pictures with captions from the web, which show and name every benchmark's unseen
classes: its figures answer another question than those of methods that have not seen them.
"""

from __future__ import annotations

from torch.nn.functional import normalize

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.peers.linear_model import LinearModel, View
from dkgzsl.methods.shared.scaling import Scaling


class CLIP:
    """Cosine of images and texts.

    Args:
        seed: nothing is drawn.
        device: where to compute.
        minutes: caps nothing.
    """

    name = "clip"

    def __init__(self, *, seed: int = 0, device: str = "cpu", minutes: float | None = None) -> None:
        del seed, minutes
        self.device = device

    def explore(self, task: Task, selector: Selector) -> None:
        """There is one setting, and nothing in it."""
        selector({}, self.fit(task, {}))

    def fit(self, task: Task, setting: Setting) -> LinearModel:
        """Nothing is fitted.

        Raises:
            ConfigError: images and descriptions cannot be from one CLIP model: they have different lengths.
        """
        del setting
        if task.features.shape[1] != task.semantics.shape[1]:
            raise ConfigError(
                f"features of {task.features.shape[1]} channels and descriptions of {task.semantics.shape[1]} "
                "numbers are not from one CLIP model",
                fix="extract with --backbone clip:MODEL@WEIGHTS, and describe the classes with data describe "
                "--encoder and the same name",
            )
        features, semantics = task.features.to(self.device), task.semantics.to(self.device)
        weights = normalize(semantics, dim=1).T.contiguous()
        view = View(Scaling.fit("none", features), None, "before")
        seen, unseen = task.seen.to(self.device), task.unseen.to(self.device)
        return LinearModel("clip", view, weights, weights.new_zeros(weights.shape[1]), seen, unseen)
