"""Pictures of test images and attention maps, as the page shows them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from dkgzsl.features.images import UnreadableImageError, open_image, read_image
from dkgzsl.report import wording
from dkgzsl.report.record.record import Record
from dkgzsl.representation.overlay import overlay

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE: Final = 168
_QUALITY: Final = 78
_SMALL: Final = 32  # pixels of the longer side below which an image is enlarged pixel by pixel under a map
_ENLARGED: Final = 16


class Pictures:
    """Pictures of a run's test images as `data:` addresses.

    Args:
        source: the `pictures` of a record.
        wanted: whether the page is to have pictures.
    """

    def __init__(self, source: Mapping[str, Any], *, wanted: bool = True) -> None:
        self._kept = source.get("png", {}) if wanted else {}
        self._files = source.get("files", {}) if wanted else {}

    @property
    def kind(self) -> str | None:
        """`pixels` (so small that each pixel shows), `photos`, or None where no image is known."""
        return "pixels" if self._kept else "photos" if self._files else None

    def thumbnail(self, position: int) -> str | None:
        """A small picture of a test image; None where it is not found or cannot be read."""
        if self._kept:
            kept = self._kept.get(str(position))
            return None if kept is None else f"data:image/png;base64,{kept}"
        photo = self._photo(position)
        return None if photo is None else _address(_square(photo, 1.0), "JPEG")

    def under_map(
        self,
        position: int,
        weights: Float[np.ndarray, " regions"],
        grid: tuple[int, int],
        preprocessing: Mapping[str, Any] | None,
    ) -> str | None:
        """A test image with a map over its regions drawn on it; None where the image is not found.

        Args:
            position: position of the image in the problem.
            weights: one weight for each region, row by row.
            grid: rows and columns of the regions.
            preprocessing: how the photo was cropped for the backbone; None takes the whole short side.
        """
        photo = self._photo(position)
        if photo is None:
            return None
        share = 1.0 if preprocessing is None else float(preprocessing["crop_share"])
        whole = preprocessing is not None and preprocessing["crop_mode"] != "center"
        if max(photo.size) < _SMALL:
            crop = photo.resize((photo.width * _ENLARGED, photo.height * _ENLARGED), 0)
        else:
            crop = photo.resize((SIDE, SIDE)) if whole else _square(photo, share)
        if preprocessing is not None and "region_size" in preprocessing:
            weights, grid = spread_regions(weights, grid, preprocessing)
        return _address(_from_pixels(overlay(np.asarray(crop), weights, grid)), "JPEG")

    def _photo(self, position: int) -> Image | None:
        kept, path = self._kept.get(str(position)), self._files.get(str(position))
        if kept is not None:
            return open_image(b64decode(kept)).convert("RGB")
        if path is None:
            return None
        try:
            return read_image(Path(path))[0]
        except UnreadableImageError:
            return None


def _square(photo: Image, share: float) -> Image:
    """The middle of a photo, `share` of its short side."""
    side = max(1, round(share * min(photo.size)))
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.resize((SIDE, SIDE), box=(left, top, left + side, top + side), reducing_gap=2.0)


def _from_pixels(pixels: np.ndarray) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)


def spread_regions(
    weights: Float[np.ndarray, " regions"], grid: tuple[int, int], preprocessing: Mapping[str, Any]
) -> tuple[Float[np.ndarray, " pixels"], tuple[int, int]]:
    """Weights of overlapping regions, spread over pixels: each pixel has the mean of the regions that cover it.

    Args:
        weights: one weight for each region, row by row.
        grid: rows and columns of the regions, evenly spaced over the image.
        preprocessing: with `image_size` and `region_size` in pixels.

    Returns:
        One weight for each pixel, row by row, and the image's height and width.
    """
    (height, width), (high, wide) = preprocessing["image_size"], preprocessing["region_size"]
    heat, covered = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    down, across = (height - high) // max(1, grid[0] - 1), (width - wide) // max(1, grid[1] - 1)
    for number, weight in enumerate(weights):
        row, column = divmod(number, grid[1])
        place = np.s_[row * down : row * down + high, column * across : column * across + wide]
        heat[place] += weight
        covered[place] += 1
    return (heat / np.maximum(covered, 1)).ravel(), (height, width)


def _address(image: Image, form: str) -> str:
    content = BytesIO()
    options: dict[str, Any] = {"quality": _QUALITY} if form == "JPEG" else {"optimize": True}
    image.save(content, form, **options)
    return f"data:image/{form.lower()};base64,{b64encode(content.getvalue()).decode()}"


@dataclass(frozen=True)
class Overlaid:
    """A photo with the attention map of an attribute."""

    picture: str
    attribute: str
    strength: str


@dataclass(frozen=True)
class AttentionRow:
    """A photo, its class, the predicted class, and the attention maps of its strongest attributes."""

    picture: str
    true: str
    predicted: str
    correct: bool
    attributes: list[Overlaid]


def attention_rows(record: Record, pictures: Pictures) -> list[AttentionRow]:
    """One row for each photo that is found; empty for a run without attribute attention (ARA)."""
    found = record.attention_maps
    if found is None:
        return []
    predicted = record.predictions.predicted(record.constant)
    rows = []
    for number, position in enumerate(found.images.tolist()):
        photo = pictures.thumbnail(position)
        if photo is None:
            continue
        overlaid = []
        for attribute, strength, weights in zip(
            found.names[number], found.strengths[number].tolist(), found.maps[number].numpy(), strict=True
        ):
            under = pictures.under_map(position, weights, found.grid, found.preprocessing)
            if under is not None:
                overlaid.append(Overlaid(under, wording.printable(attribute), f"{strength:+.1f}"))
        row = int(np.flatnonzero(record.predictions.images == position)[0])
        true, other = int(record.predictions.labels[row]), int(predicted[row])
        names = record.class_names
        rows.append(
            AttentionRow(photo, wording.name(names[true]), wording.name(names[other]), true == other, overlaid)
        )
    return rows
