"""From a file to an upright RGB image, or to the reason why it is unreadable."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST: Final = 89_478_485
"""Pixels beyond which an image is taken for a decompression bomb (a quarter of a gigabyte as RGB)."""
LONGEST: Final = 100
"""Ratio of long to short side beyond which an image is not resized: the resized one would not fit in memory."""


class UnreadableImageError(Exception):
    """An image that cannot be used; the text says why and is the same at every attempt.

    Attributes:
        sha256: of the file's bytes, where they could be read.
    """

    def __init__(self, why: str, digest: str | None) -> None:
        super().__init__(why)
        self.why, self.sha256 = why, digest


def read_image(path: Path) -> tuple[Image, str]:
    """Read an image file upright, in RGB with 8 bits a channel, with the sha256 of its bytes.

    The EXIF orientation is applied. Gray, palette and CMYK images are converted, 16-bit ones scaled to 8 bits,
    transparent ones laid on white; of an animation the first frame counts. The size is checked before any pixel
    is decoded.

    Raises:
        UnreadableImageError: the file is missing, empty, cut off, no image, too large or too long.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened: {error.strerror}", None) from error
    digest = sha256(content).hexdigest()
    try:
        return _decode(content), digest
    except UnreadableImageError as error:
        raise UnreadableImageError(error.why, digest) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        why = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error))  # addresses differ at every attempt
        raise UnreadableImageError(f"cannot be decoded: {why}", digest) from error


def png_text(pixels: UInt8[np.ndarray, "height width 3"]) -> str:
    """A small picture as the base64 text of a PNG file, to be kept where images lie in no files."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", optimize=True)
    return b64encode(content.getvalue()).decode()


def _decode(content: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise UnreadableImageError("the file is empty", None)
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:  # its own text names an address in memory
        raise UnreadableImageError("not an image", None) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"too large: more than {LARGEST:,} pixels", None) from error
    width, height = image.size
    if width * height > LARGEST:
        raise UnreadableImageError(f"too large: more than {LARGEST:,} pixels", None)
    if max(width, height) > LONGEST * min(width, height):
        raise UnreadableImageError(f"too long: {width} x {height} pixels", None)
    image.load()
    return _to_rgb(_upright(image))


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the pixels, which are decoded by now
        return image


def _to_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no fixed range: save it with 8 bits", None)
    if image.mode.startswith("I"):  # 16 bits a pixel, or 32 that hold 16; convert() would clip them at 255
        gray = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
