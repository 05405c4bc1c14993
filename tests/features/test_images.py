import io
import struct
import tracemalloc
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkgzsl.features import images
from dkgzsl.features.images import UnreadableImageError, read_image


@pytest.fixture
def gradient() -> Image.Image:
    """Red grows to the right, green downwards: shows turns and channel swaps."""
    across, down = np.meshgrid(np.linspace(0, 255, 60), np.linspace(0, 255, 40))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 60)], -1).astype(np.uint8))


def pixels(path) -> np.ndarray:
    image, _ = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_the_hash_is_that_of_the_file(tmp_path, gradient):
    gradient.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[1] == sha256((tmp_path / "a.png").read_bytes()).hexdigest()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, gradient, orientation):
    upright = np.asarray(gradient).astype(int)
    # How a camera stores the upright picture, by the definition of each orientation in the EXIF standard.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored.astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_lose_the_photo(tmp_path, gradient):
    gradient.save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12")
    assert pixels(tmp_path / "a.jpg").shape == (40, 60, 3)


def test_gray_is_repeated_over_the_channels(tmp_path, gradient):
    gradient.convert("L").save(tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    assert np.array_equal(found, np.asarray(gradient.convert("L"))[..., None].repeat(3, -1))


def test_cmyk_comes_back_as_its_colours(tmp_path, gradient):
    gradient.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg") - np.asarray(gradient)).mean() < 4


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png")[..., 0].ravel(), np.arange(256))


def test_transparency_lies_on_white(tmp_path):
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[0, 0] = (10, 20, 30, 255)
    Image.fromarray(layer).save(tmp_path / "a.png")
    found = pixels(tmp_path / "a.png")
    assert found[0, 0].tolist() == [10, 20, 30]
    assert (found.reshape(-1, 3)[1:] == 255).all()


def test_palette_and_first_frame(tmp_path, gradient):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def why_not(path) -> str:
    with pytest.raises(UnreadableImageError) as first:
        read_image(path)
    with pytest.raises(UnreadableImageError) as second:
        read_image(path)
    assert first.value.why == second.value.why  # no addresses in it: a resumed index must be the same
    assert first.value.sha256 == (sha256(path.read_bytes()).hexdigest() if path.exists() else None)
    return first.value.why


def test_truncated_jpeg(tmp_path, gradient):
    gradient.resize((600, 400)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    assert "truncated" in why_not(tmp_path / "a.jpg")


def test_text_named_jpg(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    assert why_not(tmp_path / "a.jpg") == "not an image"


def test_empty_missing_and_floating(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert "empty" in why_not(tmp_path / "a.jpg")
    assert "No such file" in why_not(tmp_path / "none.jpg")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    assert "floating" in why_not(tmp_path / "a.tiff")


def png(width: int, height: int) -> bytes:
    """A gray PNG of any size, all black, written by hand: Pillow would need the memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, rows = zlib.compressobj(1), io.BytesIO()
    for _ in range(height):
        rows.write(packer.compress(bytes(width + 1)))
    rows.write(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows.getvalue()) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(30_000, 30_000), (10_000, 10_000)])
def test_a_bomb_is_refused_without_its_memory(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png(*size))
    tracemalloc.start()
    assert "too large" in why_not(tmp_path / "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_strip_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(30_000, 10))
    assert "too long" in why_not(tmp_path / "a.png")


def shown(tmp_path, values: np.ndarray) -> np.ndarray:
    """Gray values of a TIFF file as they are read."""
    Image.fromarray(values).save(tmp_path / "a.tiff")
    found = pixels(tmp_path / "a.tiff")
    assert (found == found[..., :1]).all()
    return found[..., 0].ravel()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint16, 0, 4095), (np.int32, 0, 10**9), (np.int32, -500, 70000), (np.float32, -2.5, 0.5)],
)
def test_measured_tiff_files_are_scaled_by_their_own_range(tmp_path, dtype, low, high):
    values = np.linspace(low, high, 256).astype(dtype).reshape(16, 16)
    expected = [
        (v - values.min()) / (float(values.max()) - values.min()) * 255 for v in values.astype(float).ravel()
    ]
    np.testing.assert_allclose(shown(tmp_path, values), expected, atol=0.51)


def test_sixteen_bit_tiff_files_keep_the_range_of_their_format(tmp_path):
    values = np.linspace(0, 30000, 256).astype(np.uint16).reshape(16, 16)
    assert np.array_equal(shown(tmp_path, values), values.ravel() // 257)


def test_gaps_in_floating_point_pixels_are_dark(tmp_path):
    values = np.array([[0, 1], [np.nan, np.inf]], np.float32)
    assert shown(tmp_path, values).tolist() == [0, 255, 0, 255]


def test_heic_is_read_where_its_reader_is_installed(tmp_path, gradient):
    heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    heif.from_pillow(gradient).save(tmp_path / "a.heic", quality=95)
    assert np.abs(pixels(tmp_path / "a.heic") - np.asarray(gradient)).mean() < 4


def test_heic_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("dkgzsl.features.images._READERS_OF_HEIF", ("no_such_reader",))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert "pip install 'dkgzsl[heic]'" in why_not(tmp_path / "a.heic")


def test_avif_is_read_by_pillow(tmp_path, gradient):
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    gradient.save(tmp_path / "a.avif", quality=95)
    assert np.abs(pixels(tmp_path / "a.avif") - np.asarray(gradient)).mean() < 4


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("name", ["a.eps", "a.png", "a.jpg"])
def test_an_eps_is_no_image_whatever_its_name(tmp_path, name, monkeypatch) -> None:
    from PIL import EpsImagePlugin

    with Image.open(io.BytesIO(EPS)) as opened:
        assert opened.format == "EPS", "otherwise nothing is tested"
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(tmp_path / name)


def test_images_are_opened_at_one_place() -> None:
    source = Path(images.__file__).parents[1]
    opening = [path.name for path in source.rglob("*.py") if "Image.open(" in path.read_text()]
    assert opening == ["images.py"]


@pytest.mark.parametrize("mode", ["16 bits", "12 bits", "float", "RGBA", "palette"])
def test_strips_give_what_the_whole_image_gives(tmp_path, monkeypatch, mode) -> None:
    generator = np.random.default_rng(0)
    file = tmp_path / ("a.tif" if mode in ("12 bits", "float") else "a.png")
    if mode == "RGBA":
        Image.fromarray(generator.integers(0, 256, (37, 53, 4)).astype(np.uint8)).save(file)
    elif mode == "palette":
        made = Image.fromarray(generator.integers(0, 256, (37, 53, 3)).astype(np.uint8)).quantize(16)
        made.save(file, transparency=3)
    elif mode == "float":
        Image.fromarray(generator.normal(size=(37, 53)).astype(np.float32)).save(file)
    else:
        highest = 4096 if mode == "12 bits" else 65536
        Image.fromarray(generator.integers(0, highest, (37, 53)).astype(np.uint16)).save(file)
    whole = np.asarray(read_image(file)[0])
    monkeypatch.setattr(images, "_STRIP", 200)
    assert np.array_equal(np.asarray(read_image(file)[0]), whole)
    assert len(np.unique(whole)) > 10
