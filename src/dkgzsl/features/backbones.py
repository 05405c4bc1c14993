"""Backbones by name: one `Backbone` protocol, one line a kind.

A kind from outside the package joins by an entry point of the group `dkgzsl.backbones`; its value is a function
with the arguments of `build_backbone`, and its name, alone or before a colon, selects it.

    [project.entry-points."dkgzsl.backbones"]
    my-net = "my_package.my_net:build"      # dkgzsl extract PROBLEM --backbone my-net
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.preprocessing import Preprocessing
from dkgzsl.features.weights import recorded_weights

GROUP: Final = "dkgzsl.backbones"
"""Entry points of this group are backbones from outside."""


@runtime_checkable
class Backbone(Protocol):
    """Turns images into tokens: a global one and a grid of regions. In evaluation mode; it is not trained."""

    @property
    def name(self) -> str:
        """What `build_backbone` makes it again from, but for a file of weights."""
        ...

    @property
    def model(self) -> nn.Module:
        """What `tokens` computes with; it is moved to a device, and its parameters are counted."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image to what `tokens` takes."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the regions."""
        ...

    @property
    def regions(self) -> int:
        """Number of regions R, rows times columns."""
        ...

    @property
    def channels(self) -> int:
        """Size C of a token."""
        ...

    @property
    def weights(self) -> Mapping[str, Any]:
        """What is recorded of the weights; empty where nothing is learned.

        `source` is `file`, `random` (with `seed`) or the name of who publishes them; `sha256` is of the weights;
        a file also has its name, `file`, and `path`, where it lay.
        """
        ...

    def tokens(self, images: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch tokens channels"]:
        """Tokens of scaled images [B, 1 + R, C]: the global one, then the regions row by row from the top left.

        Fixed tensor operations alone: the function is traced for the export to ONNX.
        """
        ...

    def record(self) -> dict[str, Any]:
        """What a feature store says of the backbone: enough to make the tokens again; JSON values.

        `backbone` (with `name`), `weights`, `preprocessing` (its `record()`), `grid`, and in words `global_token`
        and `token_order`.
        """
        ...


_OURS: Final = {
    "timm": "dkgzsl.features.timm_backbone:build",
    "clip": "dkgzsl.features.clip:build",
    "oriented-gradients": "dkgzsl.data.numbers.backbone:build",
}
_DEFAULT: Final = "timm"  # whose names have no prefix


def kinds() -> tuple[str, ...]:
    """All kinds of backbones: ours, then those from outside in alphabetical order."""
    return (*_OURS, *_outside())


def build_backbone(
    name: str, *, weights: Path | None = None, image_size: int | None = None, random_seed: int | None = None
) -> Backbone:
    """Build a backbone by name and load its weights.

    Args:
        name: `resnet101`, `vit-b/16`, any name that timm knows, with or without a tag of its weights,
            `clip:MODEL@WEIGHTS` (see `dkgzsl.features.clip`), `oriented-gradients` (of pictures of two digits), or
            a kind from outside.
        weights: a file of weights; without it published ones are used, from the cache or downloaded.
        image_size: side of the square image in pixels (default: the named backbone's or the model's own). Position
            embeddings are resampled to it.
        random_seed: draw the weights instead, for tests.

    Raises:
        ConfigError: no such model is known, it has no grid of regions at this image size, or a kind from outside
            cannot be imported.
        DataError: the weights cannot be had or do not fit.
    """
    kind = name.partition(":")[0]
    build = _builder(kind if kind in kinds() else _DEFAULT)
    backbone = build(name, weights=weights, image_size=image_size, random_seed=random_seed)
    if not isinstance(backbone, Backbone):
        raise ConfigError(
            f"the backbone {name!r} is a {type(backbone).__name__}, not a backbone",
            fix="return what has the members of dkgzsl.features.backbones.Backbone",
        )
    return backbone


def rebuild_backbone(record: Mapping[str, Any] | None, *, weights: Path | None = None) -> Backbone:
    """The backbone that features came from, to make those of another image.

    Args:
        record: of the feature store, or of an embedded data set.
        weights: the file of weights, where the features' came from one (default: the recorded one, while it is
            where it was, or in the folder `weights` of DKGZSL_HOME).

    Raises:
        DataError: nothing is recorded that can be run again, or the weights are others than the recorded ones.
    """
    if not record or not record.get("preprocessing"):
        raise DataError(
            "the run does not record how its features were computed from photos",
            fix="give features instead of photos; for photos, train on a store that dkgzsl extract wrote",
        )
    made_with = record["weights"]
    if made_with.get("source") == "file" and weights is None:
        weights = recorded_weights(made_with)
    size = record["preprocessing"]["image_size"][0]
    seed = made_with["seed"] if made_with.get("source") == "random" else None
    backbone = build_backbone(record["backbone"]["name"], weights=weights, image_size=size, random_seed=seed)
    if backbone.weights.get("sha256") != made_with.get("sha256"):
        raise DataError(
            "the run's features were made with other weights",
            where=str(weights or record["backbone"]["name"]),
            fix=f"name the file whose sha256 begins with {made_with['sha256'][:16]}",
        )
    return backbone


def _builder(kind: str) -> Callable[..., Any]:
    reference = _OURS.get(kind) or _outside()[kind]
    module, _, attribute = reference.partition(":")
    try:
        build: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the backbone {kind!r} cannot be imported: {error}", where=reference) from error
    return build


@cache
def _outside() -> dict[str, str]:
    """Entry points by name in alphabetical order; they do not replace a kind of this package."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return {entry.name: entry.value for entry in found if entry.name not in _OURS}
