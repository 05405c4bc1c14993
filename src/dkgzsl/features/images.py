"""From a file to an upright RGB image, or to the reason why it is unreadable."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Shaped, UInt8

from dkgzsl.features.photo_files import as_on_disk

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST: Final = 89_478_485
"""Pixels beyond which an image is taken for a decompression bomb (a quarter of a gigabyte as RGB)."""
LONGEST: Final = 100
"""Ratio of long to short side beyond which an image is not resized: the resized one would not fit in memory."""
_TWELVE_BITS: Final = 4095
_HEIF: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
"""Brands of HEIC files (ISO/IEC 23008-12), at byte 8 after the word `ftyp`."""
FORMATS: Final = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "HEIF", "AVIF")
"""Formats that are read, by Pillow's names. Its other readers are never asked: that of EPS starts Ghostscript."""
_STRIP: Final = 4 * 2**20
"""Pixels that are converted at once where a conversion takes many bytes a pixel."""
_READERS_OF_HEIF: Final = ("pillow_heif", "pi_heif")


class UnreadableImageError(Exception):
    """An image that cannot be used; the text says why and is the same at every attempt.

    Attributes:
        sha256: of the file's bytes, where they could be read.
    """

    def __init__(self, why: str, digest: str | None) -> None:
        super().__init__(why)
        self.why, self.sha256 = why, digest


def open_image(content: bytes) -> Image:
    """An image of one of the `FORMATS`, not decoded yet; nothing else in this package opens images.

    Raises:
        PIL.UnidentifiedImageError: it is none.
        PIL.Image.DecompressionBombError: it has far too many pixels.
    """
    from PIL import Image

    Image.init()  # else a format counts as known only after it was used
    image: Image.Image = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
    return image


def read_image(path: Path) -> tuple[Image, str]:
    """Read an image file upright, in RGB with 8 bits a channel, with the sha256 of its bytes.

    The EXIF orientation is applied. Gray, palette and CMYK images are converted, 16-bit ones scaled to 8 bits,
    transparent ones laid on white; of an animation the first frame counts. The size is checked before any pixel
    is decoded. Gray TIFF images of 12 bits, of 32 bits or of floating point are scaled by their own range: their
    smallest value becomes 0, their largest 255. A HEIC file is decoded by pillow-heif, where it is installed.

    Raises:
        UnreadableImageError: the file is missing, empty, cut off, no image, too large or too long.
    """
    try:
        content = as_on_disk(path).read_bytes()
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


def unreadable_photos(root: Path, paths: Sequence[str], labels: Sequence[int]) -> dict[int, str]:
    """Photos of the classes of which none can be read, by position, and why; empty without Pillow.

    Of each class, photos are read until one can be: one a class, where all is well.

    Args:
        root: folder that the paths are relative to.
        paths: of the photos.
        labels: class of each photo.
    """
    if find_spec("PIL") is None:
        return {}
    of_class: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        of_class.setdefault(label, []).append(position)
    found: dict[int, str] = {}
    for positions in of_class.values():
        whys: dict[int, str] = {}
        for position in positions:
            try:
                read_image(root / paths[position])
            except UnreadableImageError as error:
                whys[position] = error.why
            else:
                break
        if len(whys) == len(positions):
            found |= whys
    return found


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
        _learn_heif(content)
        image = open_image(content)
    except UnidentifiedImageError as error:  # its own text names an address in memory
        avif = content[4:12] in (b"ftypavif", b"ftypavis")
        why = "AVIF needs Pillow 11.3 or later: pip install --upgrade pillow" if avif else "not an image"
        raise UnreadableImageError(why, None) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"too large: more than {LARGEST:,} pixels", None) from error
    width, height = image.size
    if width * height > LARGEST:
        raise UnreadableImageError(f"too large: more than {LARGEST:,} pixels", None)
    if max(width, height) > LONGEST * min(width, height):
        raise UnreadableImageError(f"too long: {width} x {height} pixels", None)
    image.load()
    return _to_rgb(_upright(image), tiff=image.format == "TIFF")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    # A damaged EXIF block says nothing about the pixels, which are decoded by now.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # else a second copy of all pixels
    return image


def _learn_heif(content: bytes) -> None:
    """Register the reader of HEIC files with Pillow when the first such file comes."""
    if content[4:8] != b"ftyp" or content[8:12] not in _HEIF:
        return
    for name in _READERS_OF_HEIF:
        try:
            import_module(name).register_heif_opener()
        except ImportError:
            continue
        return
    raise UnreadableImageError("HEIC needs pillow-heif: pip install 'dkgzsl[heic]', or save it as JPEG", None)


def _to_rgb(image: Image, *, tiff: bool) -> Image:
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):  # convert() would clip them at 255
        return Image.fromarray(_eight_bits(np.asarray(image), tiff=tiff)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def _ends(pixels: Shaped[np.ndarray, "height width"]) -> list[float]:
    """The smallest and the largest finite value; nothing where there is none."""
    finite = pixels[np.isfinite(pixels)]
    return [float(finite.min()), float(finite.max())] if finite.size else []


def _on_white(image: Image) -> Image:
    """A transparent image on white, strip by strip: at once it would take 16 bytes a pixel."""
    from PIL import Image

    made = Image.new("RGB", image.size)
    for top, bottom in _strips(image.size):
        layer = image.crop((0, top, image.width, bottom)).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        made.paste(Image.alpha_composite(white, layer).convert("RGB"), (0, top))
    return made


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First row of each strip of an image, and the row after its last."""
    width, height = size
    rows = max(1, _STRIP // max(1, width))
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def _eight_bits(pixels: Shaped[np.ndarray, "height width"], *, tiff: bool) -> UInt8[np.ndarray, "height width"]:
    """Gray values of more than 8 bits, scaled to 0 to 255.

    A 16-bit image fills the range of its format. TIFF has images of 12, 32 and floating-point bits, too, which
    measured something: their own range is what can be shown.
    """
    strips = [slice(*rows) for rows in _strips((pixels.shape[1], pixels.shape[0]))]
    ends = [end for rows in strips for end in _ends(pixels[rows])]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    made = np.empty(pixels.shape, np.uint8)
    floating = pixels.dtype.kind == "f"
    sixteen = pixels.dtype.itemsize == 2 or not tiff  # Pillow gives 16-bit PNG in 32 bits, too
    if not floating and sixteen and not (tiff and high <= _TWELVE_BITS):
        for rows in strips:
            made[rows] = pixels[rows].astype(np.int64).clip(0, 65535) // 257
        return made
    if high <= low:
        if floating:
            raise UnreadableImageError(
                "floating-point pixels that are all the same: there is no range to show", None
            )
        return np.full(pixels.shape, min(max(low, 0), 255), np.uint8)
    for rows in strips:
        values = (pixels[rows].astype(np.float64) - low) * (255 / (high - low))
        made[rows] = np.nan_to_num(values, nan=0, posinf=255, neginf=0).round()
    return made
