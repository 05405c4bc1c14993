"""Where a run's refinement attends to on a photo: its strongest attributes by name, and its saliency."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.config import TrainConfig, read_yaml
from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem
from dkgzsl.errors import DataError, RunError
from dkgzsl.features.backbones import Backbone, rebuild_backbone
from dkgzsl.features.images import UnreadableImageError, read_image
from dkgzsl.files import read_checkpoint
from dkgzsl.representation.attributes import attributes_for
from dkgzsl.representation.blocks import VisualFeatures, read_store
from dkgzsl.representation.overlay import attribute_panels, saliency_panels, strongest
from dkgzsl.representation.sovr import Refiner, SavedRefiner
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.plan import make_plan

if TYPE_CHECKING:
    from PIL.Image import Image


_SAMPLE = 512  # training images that tell what score of an attribute is usual


@dataclass(frozen=True)
class PhotoAttention:
    """What was drawn of one photo.

    Attributes:
        image: the photo.
        attributes: strongest first: name, and deviations above the training images' mean.
        pictures: by kind (`attributes`, `saliency`).
    """

    image: Path
    attributes: tuple[tuple[str, float], ...]
    pictures: dict[str, Image]


def look_at(
    run: Path, images: Sequence[Path], *, weights: Path | None = None, number: int = 4
) -> Iterator[PhotoAttention]:
    """Draw where the run's refinement attends to on photos.

    Args:
        run: a run on region features of a store, whose representation uses SOVR.
        images: photos.
        weights: the backbone's weights, where the store's came from a file.
        number: attributes to draw of each photo.

    Raises:
        RunError: the run has no refinement.
        DataError: its features came from no backbone that can be run again, the weights are others than the
            store's, or a photo cannot be read.
    """
    folder = RunFolder.open(run)
    refiner = _refiner(folder)
    config = read_yaml(TrainConfig, folder.file("config.yaml"))
    problem = make_plan(replace(config, device="cpu")).problem
    backbone = rebuild_backbone(problem.provenance.get("store"), weights=weights)
    mean, deviation = _usual_scores(problem, refiner)
    names = _names(problem, config)
    for path in images:
        pixels, tokens = _seen(path, backbone)
        picture = pixels.transpose(1, 2, 0)
        pictures: dict[str, Image] = {}
        strong = []
        if refiner.attention_layer is not None:
            scores = refiner.attribute_scores(tokens)[0].numpy()
            strong = strongest(scores, mean, deviation, number)
            attention = refiner.attention(tokens)[0].float().numpy()
            pictures["attributes"] = attribute_panels(picture, attention, strong, names, backbone.grid)
        if refiner.denoising is not None:
            before, after = refiner.initial_saliency(tokens)[0], refiner.saliency(tokens)[0]
            maps = before.float().numpy(), after.float().numpy()
            pictures["saliency"] = saliency_panels(picture, *maps, backbone.grid)
        yield PhotoAttention(path, tuple((names[s.attribute], s.strength) for s in strong), pictures)


def _refiner(folder: RunFolder) -> Refiner:
    saved = read_checkpoint(folder.representation_file(0))
    refiner = None if saved is None else VisualFeatures.load(SavedRefiner(*saved)).refiner
    if refiner is None:
        raise RunError(
            "the run uses no refinement, so nothing attends to regions",
            where=str(folder.path),
            fix="train on region features with --representation refined, or pooled+scores",
        )
    return refiner


def _usual_scores(problem: Problem, refiner: Refiner) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each attribute's score over training images, evenly taken."""
    if refiner.attention_layer is None:
        return np.zeros(0), np.zeros(0)
    training = np.sort(problem.parts.trainval)
    sample = training[np.linspace(0, len(training) - 1, min(_SAMPLE, len(training))).astype(int)]
    scores = read_store(problem.features, sample, ["scores"], refiner)["scores"].numpy()
    return scores.mean(0), scores.std(0)


def _names(problem: Problem, config: TrainConfig) -> list[str]:
    attributes = attributes_for(problem, replace(config.refinement, vectors="random"), seed=0)
    if attributes.names is None:
        return [f"attribute {number}" for number in range(attributes.table.shape[1])]
    return [spoken_attribute(name) for name in attributes.names]


def _seen(path: Path, backbone: Backbone) -> tuple[np.ndarray, Float[Tensor, "1 tokens channels"]]:
    """The pixels that the backbone sees, and its tokens at the store's precision."""
    try:
        image, _ = read_image(path)
    except UnreadableImageError as error:
        raise DataError(f"the photo cannot be read: {error.why}", where=str(path)) from error
    pixels = backbone.preprocessing.pixels(image)
    with torch.inference_mode():
        batch = backbone.preprocessing.scale(torch.from_numpy(pixels[None]))
        return pixels, backbone.tokens(batch).half().float()
