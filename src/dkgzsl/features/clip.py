"""CLIP models, by one name for both of their halves: `clip:MODEL@WEIGHTS`.

Source: Radford et al., ICML 2021 (arXiv 2103.00020); models and published weights are those of open_clip. The half
that reads images is a backbone, the one that reads text an encoder of class descriptions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.errors import ConfigError, DataError, nearest
from dkgzsl.features.timm_backbone import TokenBackbone, token_backbone
from dkgzsl.features.weights import CLIP, hub_without_waiting, load_weights, state_sha256, why_not_fetched

_CROPS = {"shortest": "center", "squash": "squash", "longest": "border"}
"""timm's terms for open_clip's."""


class ClipImages(nn.Module):
    """A vision transformer's image embedding, and its patches' tokens in the same space.

    The global token is the embedding that is compared with texts. CLIP trains no embedding of a region: its last
    layer's patch tokens go through the same projection.
    """

    num_prefix_tokens = 1
    cls_token = True

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.visual.output_tokens = True  # type: ignore[assignment]
        self.patch_embed = SimpleNamespace(grid_size=visual.grid_size)

    def forward_features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch tokens embedding"]:
        """The image's embedding, then its patches row by row from the top left."""
        embedding, patches = self.visual(images)
        return torch.cat([embedding[:, None], patches @ self.visual.proj], dim=1)


def build(
    name: str, *, weights: Path | None = None, image_size: int | None = None, random_seed: int | None = None
) -> TokenBackbone:
    """The image half as a backbone; see `dkgzsl.features.backbones.build_backbone` for the arguments.

    Raises:
        ConfigError: the model is unknown, no vision transformer, or takes images of another size.
        DataError: the extra is not installed, or the weights cannot be had or do not fit.
    """
    loaded = load_clip(name, weights=weights, random_seed=random_seed)
    visual: Any = loaded.model.visual
    plain = getattr(visual, "pool_type", None) == "tok" and getattr(visual, "attn_pool", None) is None
    if not plain or getattr(visual, "proj", None) is None:
        raise ConfigError(
            f"the image half of {name} is no plain vision transformer",
            fix="take one, such as clip:ViT-B-32@openai or clip:ViT-L-14@openai",
        )
    height, width = visual.image_size
    if image_size not in (None, height):
        raise ConfigError(f"{name} only takes images of {height} pixels", fix="leave --image-size out")
    wanted = loaded.images
    config = {
        "input_size": (3, height, width),
        "crop_pct": 1.0,
        "crop_mode": _CROPS[wanted.get("resize_mode", "shortest")],
        "interpolation": wanted.get("interpolation", "bicubic"),
        "mean": wanted["mean"],
        "std": wanted["std"],
    }
    # The weights' record has the name of a file; the folder that it lies in is this machine's.
    model, _, given = name.partition("@")
    named = model if Path(given).is_file() else name
    return token_backbone(named, ClipImages(visual), config, dict(loaded.weights), timm=None, note="")


_IMAGES = ("mean", "std", "interpolation", "resize_mode")  # what a tag may say of its images
_BATCH = 64  # sentences that go through the encoder together


@dataclass(frozen=True)
class ClipModel:
    """A CLIP model in evaluation mode.

    Attributes:
        architecture: open_clip's name of it, such as `ViT-B-32`.
        model: both halves.
        weights: source and sha256 of the weights.
        images: how an image is resized and scaled, in open_clip's terms.
        version: of open_clip.
    """

    architecture: str
    model: nn.Module
    weights: Mapping[str, Any]
    images: Mapping[str, Any]
    version: str

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "texts embedding"]:
        """Embeddings of length 1.

        Raises:
            DataError: the model's tokenizer cannot be had.
        """
        import open_clip

        try:
            with hub_without_waiting():
                tokenize = open_clip.get_tokenizer(self.architecture)
        except Exception as error:  # of many kinds: no network, an extra of open_clip that is not installed
            raise DataError(
                f"the tokenizer of {self.architecture} cannot be loaded: {why_not_fetched(error)}",
                fix="take a model with CLIP's own tokenizer, such as clip:ViT-B-32@openai",
            ) from error
        place = next(self.model.parameters()).device
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                tokens = tokenize(list(texts[start : start + _BATCH])).to(place)
                found.append(self.model.encode_text(tokens, normalize=True).cpu())  # type: ignore[operator]
        return np.asarray(torch.cat(found).numpy(), np.float32)


def load_clip(name: str, *, weights: Path | None = None, random_seed: int | None = None) -> ClipModel:
    """Load a CLIP model.

    Args:
        name: `clip:MODEL@TAG`, the tag of published weights as open_clip names it, or `clip:MODEL@FILE`; without
            a tag or file, `weights` or the model's first published weights. A file does not say its activation:
            weights that were trained with QuickGELU (OpenAI's) belong to `MODEL-quickgelu`.
        weights: a file of weights: of safetensors, or a PyTorch file that holds nothing but tensors.
        random_seed: draw the weights instead, for tests.

    Raises:
        ConfigError: open_clip knows no such model or tag.
        DataError: the extra is not installed, or the weights cannot be had or do not fit.
    """
    try:
        import open_clip
    except ImportError as error:
        raise DataError("CLIP models need an extra", fix="pip install 'dkgzsl[clip]'") from error
    architecture, _, given = name.removeprefix(CLIP).partition("@")
    known = open_clip.list_models()
    if architecture not in known:
        hint = nearest(architecture, known).partition(" (known")[0]
        raise ConfigError(f"unknown CLIP model {architecture!r}", fix=f"{hint}; all: open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights is None and given and given not in tags:
        if not Path(given).is_file():
            raise ConfigError(
                f"{given!r} is no file, and no published weights of {architecture}",
                fix=f"one of {', '.join(tags[:6])}, or a file" if tags else "name a file",
            )
        weights = Path(given)
    if weights is None and random_seed is None and not given:
        given = tags[0] if tags else ""
    options = _options(open_clip, architecture, given) if given in tags else {}
    if weights is None and random_seed is None:
        model = _downloaded(open_clip, architecture, given, options)
        loaded: dict[str, Any] = {"source": "open_clip", "model": name, "sha256": state_sha256(model)}
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if random_seed is None else random_seed)
            with _unlogged():
                model = open_clip.create_model(architecture, load_weights=False, pretrained_text=False, **options)
        if weights is not None:
            loaded = load_weights(model, weights, head=())
        else:
            loaded = {"source": "random", "seed": random_seed, "sha256": state_sha256(model)}
    images = open_clip.get_model_preprocess_cfg(model)
    return ClipModel(architecture, model.eval().requires_grad_(False), loaded, images, open_clip.__version__)


def _options(open_clip: Any, architecture: str, tag: str) -> dict[str, Any]:
    """Settings that the weights of a tag were trained with and that the model's description lacks."""
    published = open_clip.get_pretrained_cfg(architecture, tag)
    images = {name: published[name] for name in _IMAGES if published.get(name) is not None}
    return {"force_quick_gelu": bool(published.get("quick_gelu")), "force_preprocess_cfg": images or None}


def _downloaded(open_clip: Any, architecture: str, tag: str, options: Mapping[str, Any]) -> nn.Module:
    if not tag:
        raise DataError(f"open_clip publishes no weights for {architecture!r}", fix="give a file: clip:MODEL@FILE")
    try:
        with hub_without_waiting(), _unlogged():
            model: nn.Module = open_clip.create_model(architecture, pretrained=tag, weights_only=True, **options)
    except Exception as error:  # of many kinds: no network, offline mode, a broken cache
        raise DataError(
            f"the weights {tag!r} of {architecture} are not on this machine, and cannot be fetched: "
            f"{why_not_fetched(error)}",
            fix=f"name a file that you have: clip:{architecture}@FILE; or run this once where there is a network",
        ) from error
    return model


@contextmanager
def _unlogged() -> Iterator[None]:
    """Silence open_clip: what it logs (no weights, a failed download) is intended, or reported by our messages."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
