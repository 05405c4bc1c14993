"""CLIP by class names (arXiv 2103.00020): the nearest text, nothing learned.

An image's embedding is compared with the embeddings of the classes' sentences by cosine (section 3.1.2). Both come
from one CLIP model: features by `dkgzsl extract --backbone clip:...`, descriptions by `dkgzsl data describe
--encoder clip:...`. Seen classes are scored by their sentences, too; training images serve the calibration alone.

Deviations: one sentence a class, as `data describe` makes it, not an ensemble of 80; no temperature, which moves
no figure. CLIP was trained on pictures with captions from the web, which show and name every benchmark's unseen
classes: its figures do not compare with those of methods that have not seen them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.linear_model import Columns, LinearModel, View
from dkgzsl.methods.shared.scaling import Scaling


@dataclass(frozen=True)
class CLIPSettings:
    """The class of the nearest text. Nothing is learned."""


@dataclass(frozen=True)
class CLIPModel(LinearModel):
    """Cosines of images and descriptions."""

    kind = "clip"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Directions of the descriptions."""
        weights = normalize(semantics, dim=1).T.contiguous()
        return Columns(weights, weights.new_zeros(len(semantics)))


class CLIP:
    """Cosine of images and texts.

    Args:
        settings: there are none.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "clip"

    def __init__(self, settings: CLIPSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or CLIPSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """There is one setting, and nothing in it."""
        selector({}, self.fit(task, {}))

    def fit(self, task: Task, setting: Setting) -> CLIPModel:
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
        return CLIPModel(view, weights, weights.new_zeros(weights.shape[1]), seen, unseen, semantics)


INFO = MethodInfo(
    name="clip",
    title="CLIP, nothing learned",
    paper="Radford et al., Learning transferable visual models from natural language supervision, ICML 2021",
    settings=CLIPSettings,
    make=CLIP,
    models={"clip": CLIPModel},
    on_request=True,
)
