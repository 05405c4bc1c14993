"""A small world of pictures: a random backbone, described classes of coloured photos, models fitted on them."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dkgzsl.config import RefinementConfig
from dkgzsl.evaluation.calibration import Calibration
from dkgzsl.evaluation.in_distribution import clearness, in_distribution_of
from dkgzsl.features.backbones import Backbone, build_backbone
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import Model, Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax
from dkgzsl.methods.dkgzsl.method import DKGZSL
from dkgzsl.representation.blocks import Block, VisualFeatures, fit_visual, read_store
from dkgzsl.representation.sovr import Refiner, Shape
from dkgzsl.runs.model_record import RecognitionRecord, SemanticsRecord
from worlds import QUICK, SMALL

SIDE, SEEN, CLASSES, EACH, ATTRIBUTES = 64, 5, 8, 6, 7
KINDS = ("density", "balanced", "plain", "kernel", "softmax", "dkgzsl")
SETTING = {
    "components": 16, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.5,
    "unit_length": True, "balance": False, "episodes": "off",
}  # fmt: skip


@cache
def backbone(name: str) -> Backbone:
    size = {"image_size": SIDE} if name in ("test_resnet", "test_vit") else {}
    return build_backbone(name, random_seed=0, **size)


@cache
def photos(number: int, side: int = SIDE) -> np.ndarray:
    """Pixels [number, side, side, 3]: blurred noise in the colours of a class, class by class in turn."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(0.2, 0.8, (CLASSES, 3))
    coarse = rng.normal(size=(number, 8, 8, 3)).repeat(side // 8, 1).repeat(side // 8, 2)
    pictures = colours[np.arange(number) % CLASSES][:, None, None] + 0.15 * coarse
    return (255 * pictures.clip(0, 1)).astype(np.uint8)


@torch.inference_mode()
def stored_tokens(which: Backbone, pixels: np.ndarray) -> Tensor:
    """Tokens as a feature store holds them."""
    images = which.preprocessing.scale(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    return which.tokens(images).half().float()


def refiner(which: Backbone, denoising: str, attention: str = "on") -> Refiner:
    """SOVR with random weights, ARA's attention among them: at its start it is the same everywhere."""
    config = RefinementConfig(denoising=denoising, attention=attention)
    shape = Shape(which.grid, which.channels, SEEN, (ATTRIBUTES, 9))
    random = torch.Generator().manual_seed(5)
    made = Refiner(shape, config, seed=3, vectors=torch.randn(ATTRIBUTES, 9, generator=random)).eval()
    if made.attention_layer is not None:
        weight = torch.randn(9, which.channels, generator=random)
        made.attention_layer.attention_weight.data = weight
    return made


@dataclass(frozen=True)
class Fitted:
    backbone: Backbone
    visual: VisualFeatures | None
    model: Model


def fitted(name: str, blocks: tuple[Block, ...] = ("pooled",), kind: str = "density", denoising: str = "off",
           attention: str = "on") -> Fitted:  # fmt: skip
    which = backbone(name)
    labels = np.arange(CLASSES * EACH) % CLASSES
    tokens = stored_tokens(which, photos(CLASSES * EACH, which.preprocessing.image_size[0]))
    training = np.flatnonzero(labels < SEEN)
    learned = refiner(which, denoising, attention) if {"refined", "scores"} & set(blocks) else None
    visual = None
    features = tokens[:, 0]
    if blocks != ("pooled",):
        read = read_store(tokens.numpy(), np.arange(len(labels)), blocks, learned)
        visual = fit_visual(read, training, blocks=blocks, refiner=learned)
        features = visual.scaling(read)
    semantics = torch.randn(CLASSES, ATTRIBUTES, generator=torch.Generator().manual_seed(1))
    task = Task(
        features[training], torch.from_numpy(labels[training]), semantics,
        torch.arange(SEEN), torch.arange(SEEN, CLASSES),
    )  # fmt: skip
    return Fitted(which, visual, _model(task, kind))


def _model(task: Task, kind: str) -> Model:
    if kind == "dkgzsl":
        method = DKGZSL(replace(SMALL, epochs=1, batch_size=16, softmax=QUICK))
        return method.fit(task, {"epochs": 1, "classifier_epochs": 2})
    config = ClosedFormSettings(components=(16,), shrinkage=(0.5,))
    if kind == "plain":
        config = ClosedFormSettings(components=(16,), shrinkage=(0.5,), square_root="off", unit_length="off")
    method = ClosedForm(config)
    setting = {**SETTING, "balance": kind == "balanced", "unit_length": kind != "plain"}
    setting["feature_kernel_width"] = 2.0 if kind == "kernel" else 0.0
    if kind == "softmax":
        return ClosedFormSoftmax(method, QUICK).fit(task, setting)
    return method.fit(task, setting)


def recognizer(world: Fitted, removed: tuple[int, ...] = (), *, tested: bool = True) -> Recognizer:
    """With a constant and a temperature that fit the scores' scale, so that no probability is simply 1.

    Args:
        world: what is recognised.
        removed: classes that are not.
        tested: whether it tests features and scores for "none of these"; if not, as runs of before did.
    """
    which = world.backbone
    side = which.preprocessing.image_size[0]
    names = tuple(f"bird {number}" for number in range(CLASSES))
    record = RecognitionRecord(
        names, SemanticsRecord("att", ATTRIBUTES), removed=removed, features=(1 + which.regions, which.channels),
        images=which.record(),
    )  # fmt: skip
    made = Recognizer(world.model, world.visual, record)
    scores = made.scores(stored_tokens(which, photos(24, side)))
    vectors = made.vectors(stored_tokens(which, photos(24, side)))
    spread = float(scores[:, made.is_known].std(axis=1).mean())
    if not tested:
        calibration = Calibration(spread / 2, spread / 2, float(np.quantile(clearness(scores), 0.2)))
        return replace(made, record=replace(record, calibration=calibration))
    calibration = Calibration(spread / 2, spread / 2, 1.0)
    least = np.quantile(clearness(scores), [0.2, 0.4])
    needed = in_distribution_of(vectors, np.arange(24) % CLASSES, level=2.0, least=(least[0] / 2, least[1] / 2))
    return replace(made, record=replace(record, calibration=calibration), in_distribution=needed)


def expected(made: Recognizer, which: Backbone, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the known classes, and in-distribution scores, by the package's own way."""
    return expected_of_tokens(made, stored_tokens(which, pixels))


def expected_of_tokens(made: Recognizer, tokens: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The same for tokens that are given."""
    return made.calibration.probabilities(made.scores(tokens))[:, made.is_known], made.fit(tokens)
