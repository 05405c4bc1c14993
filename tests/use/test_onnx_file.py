"""One ONNX file from pixels to probabilities, in ONNX Runtime, against the package's own way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

for package in ("timm", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason="the extras `images` and `export` are not installed")

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.use.export_module import Decision, PixelTokens, TokenFeatures, scores_module
from dkgzsl.use.onnx_file import read_metadata, run_onnx, write_onnx
from use.worlds_of_photos import calibration, expected, fitted, photos


def exported(world, path: Path, opset: int = 18) -> None:
    unseen = torch.isin(torch.cat([world.model.seen, world.model.unseen]).sort().values, world.model.unseen)
    module = nn.Sequential(
        PixelTokens(world.backbone),
        TokenFeatures(world.visual),
        scores_module(world.model),
        Decision(unseen, *calibration(world)),
    ).eval()
    side = world.backbone.preprocessing.image_size[0]
    example = torch.from_numpy(photos(2, side))
    write_onnx(module, example, path, input_name="pixels", opset=opset, metadata={"classes": ["a", "é"]})


@pytest.mark.parametrize(
    "words",
    [
        {"blocks": ("pooled", "mean", "maximum", "generalised"), "kind": "uncertain"},
        {"blocks": ("pooled", "refined", "scores"), "denoising": "untrained"},
        {"blocks": ("refined",), "denoising": "untrained", "kind": "paper"},
        {"name": "test_vit", "blocks": ("pooled", "scores"), "kind": "softmax"},
    ],
    ids=["poolings", "denoised", "published", "transformer"],
)
def test_equal_in_onnx_runtime(words, tmp_path) -> None:
    world = fitted(**{"name": "test_resnet", **words})
    file = tmp_path / "model.onnx"
    exported(world, file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert read_metadata(file)["classes"] == ["a", "é"]
    for number in (1, 2, 11):
        pixels = photos(24)[-number:]
        ours, fit = run_onnx(file, pixels)
        theirs, their_fit = expected(world, pixels)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))
        np.testing.assert_allclose(fit, their_fit, rtol=1e-3)
