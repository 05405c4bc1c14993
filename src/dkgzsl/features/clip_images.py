"""The half of a CLIP model that reads images, with the interface of a timm model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.data.clip_model import load_clip
from dkgzsl.errors import ConfigError

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


def clip_images(
    name: str, *, weights: Path | None, image_size: int | None, random_seed: int | None
) -> tuple[ClipImages, dict[str, Any], dict[str, Any]]:
    """The image half, what its images look like in timm's terms, and what is recorded of its weights.

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
        raise ConfigError(f"{name} takes images of {height} pixels alone", fix="leave --image-size out")
    wanted = loaded.images
    config = {
        "input_size": (3, height, width),
        "crop_pct": 1.0,
        "crop_mode": _CROPS[wanted.get("resize_mode", "shortest")],
        "interpolation": wanted.get("interpolation", "bicubic"),
        "mean": wanted["mean"],
        "std": wanted["std"],
    }
    return ClipImages(visual), config, dict(loaded.weights)
