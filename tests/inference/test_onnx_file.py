"""One ONNX file from pixels to probabilities, in ONNX Runtime, against the package's own way."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("timm", reason="the extra `images` is not installed")
pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.inference.export import onnx_file
from dkgzsl.inference.export.modules import PixelTokens, recognition_module
from dkgzsl.inference.export.onnx_file import read_metadata, run_onnx, write_onnx
from inference.worlds_of_photos import expected, fitted, photos, recognizer


def written(module: torch.nn.Module, path: Path, opset: int = 18) -> None:
    example = torch.from_numpy(photos(2))
    write_onnx(module, example, path, input_name="pixels", opset=opset, metadata={"classes": ["a", "é"]})


@pytest.mark.parametrize(
    "words",
    [
        {"blocks": ("pooled", "mean", "maximum", "generalised"), "kind": "plain"},
        {"blocks": ("pooled", "refined", "scores"), "denoising": "untrained", "kind": "balanced"},
        {"blocks": ("refined",), "denoising": "untrained", "kind": "dkgzsl"},
        {"blocks": ("refined",), "denoising": "untrained", "attention": "off"},
        {"name": "test_vit", "blocks": ("pooled", "scores"), "kind": "softmax"},
    ],
    ids=["poolings", "denoised", "published", "without attention", "transformer"],
)
def test_equal_in_onnx_runtime(words, tmp_path) -> None:
    world = fitted(**{"name": "test_resnet", **words})
    made = recognizer(world)
    file = tmp_path / "model.onnx"
    written(recognition_module(made, PixelTokens(world.backbone)), file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert read_metadata(file) == {"format": "dkgzsl onnx 2", "classes": ["a", "é"]}
    for number in (1, 2, 11):
        pixels = photos(24)[-number:]
        ours, score = run_onnx(file, pixels)
        theirs, their_score = expected(made, world.backbone, pixels)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
        np.testing.assert_allclose(score, their_score, rtol=1e-3)


@pytest.mark.parametrize("opset", [17, 20])
def test_other_opsets(opset, tmp_path) -> None:
    world = fitted("test_resnet", ("pooled", "refined"), denoising="untrained")
    made = recognizer(world)
    written(recognition_module(made, PixelTokens(world.backbone)), tmp_path / "model.onnx", opset)
    ours, _ = run_onnx(tmp_path / "model.onnx", photos(5))
    np.testing.assert_allclose(ours, expected(made, world.backbone, photos(5))[0], atol=1e-4)


def test_tokens_are_rounded_as_a_store_holds_them(tmp_path) -> None:
    class Rounded(torch.nn.Module):
        def forward(self, pixels):
            values = (pixels.float() / 3).half().float()
            return values.flatten(1), values.flatten(1).mean(1)

    written(Rounded(), tmp_path / "model.onnx")
    ours, _ = run_onnx(tmp_path / "model.onnx", photos(1))
    exact = photos(1).reshape(1, -1).astype(np.float32) / 3
    np.testing.assert_array_equal(ours, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(ours, exact)


class Broken(torch.nn.Module):
    def forward(self, pixels):
        raise NotImplementedError("this layer\nhas its reasons")


class Large(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(600_000_000, device="meta"))


def test_mistakes_are_told_and_leave_nothing(tmp_path, monkeypatch) -> None:
    file = tmp_path / "model.onnx"
    with pytest.raises(ConfigError, match="opset must be 17 to 20, not 9"):
        written(Broken(), file, opset=9)
    with pytest.raises(RunError, match=r"cannot trace this backbone: NotImplementedError: this layer\n  next"):
        written(Broken(), file)
    with pytest.raises(RunError, match=r"take 2.2 GiB, and one ONNX file holds 2"):
        written(Large(), file)
    with pytest.raises(RunError, match="no ONNX file"):
        read_metadata(file)
    file.write_text("hello")
    with pytest.raises(RunError, match="no ONNX file"):
        read_metadata(file)
    monkeypatch.setattr(onnx_file, "import_module", lambda name: __import__("no_such_package"))
    with pytest.raises(ConfigError, match="onnx is not installed"):
        written(Broken(), file)
