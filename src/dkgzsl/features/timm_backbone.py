"""Any timm model as a backbone: what it gives of an image becomes a global token and a grid of regions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.errors import ConfigError, DataError, nearest
from dkgzsl.features.backbones import kinds
from dkgzsl.features.preprocessing import PhotoPreprocessing
from dkgzsl.features.weights import hub_without_waiting, load_weights, state_sha256, why_not_fetched


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone that the field knows by another name than timm does.

    Attributes:
        timm_name: the model and its weights in timm.
        image_size: side of the square image in pixels.
        note: what is recorded with every number.
    """

    timm_name: str
    image_size: int
    note: str


NAMED: Final[Mapping[str, NamedBackbone]] = {
    "resnet101": NamedBackbone(
        "resnet101.tv_in1k", 448, "ImageNet-1k, torchvision's first weights; 14 x 14 regions of 2048"
    ),
    "vit-b/16": NamedBackbone(
        "vit_base_patch16_224.augreg_in21k",
        224,
        "class token and 14 x 14 regions of 768; the exact weights behind the published numbers are unknown; "
        "pre-training on ImageNet-21k has seen kin of the benchmarks' unseen classes",
    ),
}


@dataclass(frozen=True)
class TokenBackbone:
    """A timm model, or another with the same way of giving features, with all that is recorded of it.

    Attributes:
        name: as the user named it.
        model: without its classifier.
        preprocessing: how the model's images are resized and scaled.
        grid: rows and columns of the regions.
        channels: size C of a token.
        has_class_token: whether the global token is the model's; otherwise it is the mean of the regions.
        weights: source and sha256 of the weights.
        timm: the model's name in timm, where it has one.
        note: what is recorded with every number.
    """

    name: str
    model: nn.Module
    preprocessing: PhotoPreprocessing
    grid: tuple[int, int]
    channels: int
    has_class_token: bool
    weights: Mapping[str, Any]
    timm: str | None = None
    note: str = ""

    @property
    def regions(self) -> int:
        """Number of regions R."""
        return self.grid[0] * self.grid[1]

    def tokens(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch tokens channels"]:
        """Tokens of scaled images: first the global token, then the regions row by row from the top left."""
        regions, class_token = _regions(self.model, self.model.forward_features(images))  # type: ignore[operator]
        first = regions.mean(1, keepdim=True) if class_token is None else class_token
        return torch.cat([first, regions], 1)

    def record(self) -> dict[str, Any]:
        """What a store says of its backbone: enough to make the tokens again."""
        return {
            "backbone": {
                "name": self.name,
                "timm": self.timm,
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "note": self.note,
            },
            "weights": dict(self.weights),
            "preprocessing": self.preprocessing.record(),
            "grid": list(self.grid),
            "global_token": "class token" if self.has_class_token else "mean of the regions",
            "token_order": "global token, then regions row by row from the top left",
        }


def build(
    name: str, *, weights: Path | None = None, image_size: int | None = None, random_seed: int | None = None
) -> TokenBackbone:
    """Build one of timm's models; see `dkgzsl.features.backbones.build_backbone` for the arguments.

    Raises:
        ConfigError: timm knows no such model, or the model has no grid of regions at this image size.
        DataError: the weights cannot be had or do not fit.
    """
    name = name.removeprefix("timm:")
    model, config, loaded = _timm_model(name, weights=weights, image_size=image_size, random_seed=random_seed)
    named = NAMED.get(name)
    return token_backbone(name, model, config, loaded, timm=_timm_name(name), note=named.note if named else "")


def token_backbone(
    name: str,
    model: nn.Module,
    config: Mapping[str, Any],
    weights: Mapping[str, Any],
    *,
    timm: str | None,
    note: str,
) -> TokenBackbone:
    """A backbone of a model with `forward_features`, its grid and channels found by running it once.

    Args:
        name: as the user named it, without a file of weights.
        model: what it gives are maps [B, C, H, W] (NHWC where `output_fmt` says so) or tokens [B, 1 + R, C].
        config: what its images look like, in the terms of timm's `resolve_model_data_config`.
        weights: what is recorded of its weights.
        timm: its name in timm, where it has one.
        note: what is recorded with every number.

    Raises:
        ConfigError: it has no grid of regions at this image size.
    """
    model.eval().requires_grad_(False)
    preprocessing = PhotoPreprocessing.from_timm(config)
    regions, class_token = _probe(model, name, preprocessing.image_size)
    return TokenBackbone(
        name=name,
        model=model,
        preprocessing=preprocessing,
        grid=_grid(model, name, preprocessing.image_size, regions.shape[1]),
        channels=regions.shape[2],
        has_class_token=class_token is not None,
        weights=weights,
        timm=timm,
        note=note,
    )


def _timm_name(name: str) -> str:
    return NAMED[name].timm_name if name in NAMED else name


def _timm_model(
    name: str, *, weights: Path | None, image_size: int | None, random_seed: int | None
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """The model, what its images look like in timm's terms, and what is recorded of its weights."""
    import timm
    from timm.data.config import resolve_model_data_config

    named, timm_name = NAMED.get(name), _timm_name(name)
    if not timm.is_model(timm_name):
        raise ConfigError(f"unknown backbone {name!r}", fix=_nearest_models(name))
    if weights is None and random_seed is None:
        model = _downloaded(timm, timm_name, name)
        loaded: dict[str, Any] = {"source": "timm", "model": timm_name, "sha256": state_sha256(model)}
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if random_seed is None else random_seed)
            model = timm.create_model(timm_name, pretrained=False, num_classes=0)
        if weights is not None:
            loaded = load_weights(model, weights, head=_classifier_names(model))
        else:
            loaded = {"source": "random", "seed": random_seed, "sha256": state_sha256(model)}
    config = dict(resolve_model_data_config(model))  # type: ignore[no-untyped-call]
    size = image_size or (named.image_size if named else None)
    if size is not None and (size, size) != tuple(config["input_size"][1:]):
        _resize(model, name, size)
        config["input_size"] = (3, size, size)
    return model, config, loaded


def _downloaded(timm: Any, timm_name: str, name: str) -> nn.Module:
    config = timm.models.get_pretrained_cfg(timm_name)
    if config is None or not config.has_weights:
        raise DataError(
            f"timm publishes no weights for {name!r}",
            fix="give a file with --weights, or name a model with weights, such as resnet50 or vit-b/16",
        )
    try:
        with hub_without_waiting():
            model: nn.Module = timm.create_model(timm_name, pretrained=True, num_classes=0)
    except Exception as error:  # of many kinds: no network, offline mode, no such revision, a broken cache
        raise DataError(
            f"the weights of {name!r} are not on this machine, and cannot be fetched: {why_not_fetched(error)}",
            where=f"{config.hf_hub_id or config.url} (timm's name: {timm_name})",
            fix="give a file that you have: --weights FILE; or fetch model.safetensors from there, "
            "where there is a network",
        ) from error
    return model


def _resize(model: nn.Module, name: str, size: int) -> None:
    """Let a model of fixed input size take another: position embeddings are resampled. Others take any size."""
    if hasattr(model, "set_input_size"):
        try:
            model.set_input_size(img_size=(size, size))  # type: ignore[operator]
        except (AssertionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{name} does not take images of {size} pixels: {error}", fix=_SIZES) from error
    elif getattr(model, "pretrained_cfg", {}).get("fixed_input_size"):
        raise ConfigError(f"{name} takes no other image size than its default", fix="leave --image-size out")


_SIZES: Final = "an --image-size that is a multiple of the model's patch or window, such as 224 or 448"


def _probe(model: nn.Module, name: str, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    with torch.inference_mode():
        try:
            features = model.forward_features(torch.zeros(1, 3, *size))  # type: ignore[operator]
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(f"{name} does not take images of {size[0]} pixels: {error}", fix=_SIZES) from error
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise ConfigError(
                f"the features of {name} are no grid of regions", fix="take a ResNet, a ConvNeXt, a ViT or a Swin"
            )
        return _regions(model, features)


def _regions(model: nn.Module, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Regions [B, R, C] and the class token [B, 1, C], if there is one, from what a timm model gives."""
    if features.ndim == 4:
        if getattr(model, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2), None
        return features.flatten(2).transpose(1, 2), None
    # Class, distillation and register tokens stand before the regions; the class token, if any, is the first.
    before = int(getattr(model, "num_prefix_tokens", 0))
    has_class_token = before > 0 and getattr(model, "cls_token", None) is not None
    return features[:, before:], features[:, :1] if has_class_token else None


def _grid(model: nn.Module, name: str, size: tuple[int, int], regions: int) -> tuple[int, int]:
    patches = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if patches is not None and math.prod(patches) == regions:
        return (int(patches[0]), int(patches[1]))
    rows = math.isqrt(regions)
    if size[0] == size[1] and rows * rows == regions:
        return (rows, rows)
    raise ConfigError(f"the {regions} regions of {name} at {size[0]} x {size[1]} pixels form no known grid")


def _classifier_names(model: nn.Module) -> tuple[str, ...]:
    names = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _nearest_models(name: str) -> str:
    import timm

    others = [kind for kind in kinds() if kind not in ("timm", "clip")]
    known = f"known: {', '.join([*NAMED, *others])}, clip:MODEL@WEIGHTS and every name in timm.list_models()"
    close = nearest(name.partition(".")[0], [*NAMED, *others, *timm.list_models()])
    return f"{close.partition(' (')[0]} ({known})" if close.startswith("did you mean") else known
