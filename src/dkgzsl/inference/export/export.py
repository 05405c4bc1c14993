"""A run as one ONNX file: from pixels (or features) to calibrated probabilities, with its record as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from torch import nn

import dkgzsl
from dkgzsl.errors import ConfigError, RunError, refuse_without
from dkgzsl.features.backbones import Backbone, rebuild_backbone
from dkgzsl.features.store import stored_as
from dkgzsl.files import output_file, write_whole
from dkgzsl.inference.export.modules import PixelTokens, recognition_module
from dkgzsl.inference.export.onnx_file import run_onnx, write_onnx
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.representation.blocks import VisualFeatures
from dkgzsl.runs.folder import RunFolder

OPSET: Final = 18
SCRIPT: Final = "run_onnx.py"
"""Of the folder `examples`; a wheel has a copy of it next to this module."""
TOLERANCE: Final = 1e-4
"""Largest difference of a probability that is allowed between an export and this package."""
TOLERANCE_OF_CUTS: Final = 5e-3
"""The same from pixels where FDE keeps each channel's largest regions: rounding in the backbone decides about a
region at the border. From tokens `TOLERANCE` holds there, too; that is a second check."""
_ROWS: Final = 3  # rows of the check; not the two of the example, so that a fixed batch size is found


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        input_name: `pixels` or `features`.
        input_shape: of one image.
        classes: how many.
        size: bytes of the file.
        difference: largest difference of a probability between ONNX Runtime and this package, on random input.
    """

    path: Path
    input_name: str
    input_shape: tuple[int, ...]
    classes: int
    size: int
    difference: float


@dataclass(frozen=True)
class _Input:
    """What the file takes."""

    name: str
    shape: tuple[int, ...]
    what: str
    first: nn.Module | None
    backbone: Backbone | None = None

    def random(self, number: int) -> np.ndarray:
        """Random input of the right kind, different from image to image."""
        rng = np.random.default_rng(0)
        if self.name == "features":
            return np.asarray(rng.gamma(0.5, 1.0, (number, *self.shape)), dtype=np.float32)
        height, width, channels = self.shape
        coarse = rng.integers(0, 256, (number, 4, 4, channels), np.uint8)
        return coarse.repeat(-(-height // 4), 1)[:, :height].repeat(-(-width // 4), 2)[:, :, :width]


def export_run(
    run: Path,
    out: Path,
    *,
    weights: Path | None = None,
    features_only: bool = False,
    opset: int = OPSET,
    version: int | None = None,
) -> Exported:
    """Export a run's recognizer and check the file in ONNX Runtime against it.

    Outputs are `probabilities` [batch, classes] and `in_distribution` [batch]; an image whose score is below the
    metadata's threshold is none of the classes. What FDE rounds to bfloat16 is rounded in the file, too, and
    multiplied in float32.

    Args:
        run: the run folder.
        out: the file, `.onnx`.
        weights: the backbone's weights, where the features were extracted with a file of them (default: the file
            that the run records).
        features_only: leave the backbone out: input is `features`, one vector an image, or its tokens where the
            run's representation needs regions.
        opset: version of ONNX's operators.
        version: of the run's classes (default: the newest).

    Raises:
        ConfigError: a setting, or a missing package of the extras `export` and `images`.
        DataError: the backbone cannot be built again.
        RunError: the run cannot be exported, or the file cannot be written, or it differs from the run by more
            than `TOLERANCE` (from pixels with FDE `TOLERANCE_OF_CUTS`). An older file stays as it was.
        InUseError: another command writes the file.
    """
    refuse_without("onnx", "onnxruntime")
    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"the file must be named .onnx, not {out.name!r}")
    if out.is_dir():
        raise ConfigError("there is a folder of that name", where=str(out), fix="name another --out")
    recognizer = Recognizer.from_run(run, version)
    taken = _features(recognizer) if features_only else _pixels(recognizer, weights)
    module = recognition_module(recognizer, taken.first)
    metadata = {**_metadata(recognizer, taken), "provenance": _provenance(run, recognizer, taken)}
    example = torch.from_numpy(taken.random(2))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with output_file(out) as draft:  # an older file stays until the new one is checked
            write_onnx(module, example, draft, input_name=taken.name, opset=opset, metadata=metadata)
            difference = _checked(recognizer, taken, draft, run=run, opset=opset)
    except OSError as error:
        raise RunError(f"cannot write the file: {error.strerror or error}", where=str(out)) from error
    return Exported(out, taken.name, taken.shape, len(recognizer.known_names), out.stat().st_size, difference)


def _checked(recognizer: Recognizer, taken: _Input, file: Path, *, run: Path, opset: int) -> float:
    """Largest difference of a probability between the file and this package.

    Raises:
        RunError: it is larger than allowed.
    """
    difference = _difference(recognizer, taken, file)
    checked = [(difference, _tolerance(recognizer, taken))]
    if checked[0][1] > TOLERANCE:
        checked.append((_difference_from_tokens(recognizer, opset), TOLERANCE))
    for found, allowed in checked:
        if not found <= allowed:
            raise RunError(
                f"ONNX Runtime's probabilities differ by up to {found:.1e} from the model's own",
                where=str(run),
                fix="try another --opset, or --features-only",
            )
    return difference


def write_script(model: Path) -> Path | None:
    """Put the script that runs an exported file next to it, where nothing of its name lies there.

    Args:
        model: the file.

    Returns:
        Its path; None where this installation has no copy of it.

    Raises:
        ConfigError: it cannot be written.
    """
    checkout = Path(__file__).parents[4] / "examples" / SCRIPT
    source = next((path for path in (Path(__file__).with_name(SCRIPT), checkout) if path.is_file()), None)
    if source is None:
        return None
    target = model.with_name(SCRIPT)
    if not target.exists():
        try:
            write_whole(target, source.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot write {SCRIPT}: {error.strerror}", where=str(target.parent)) from error
    return target


def _tolerance(recognizer: Recognizer, taken: _Input) -> float:
    refiner = recognizer.refiner
    cuts = refiner is not None and refiner.denoising is not None
    return TOLERANCE_OF_CUTS if cuts and taken.first is not None else TOLERANCE


def _difference_from_tokens(recognizer: Recognizer, opset: int) -> float:
    """The same for all that comes after the backbone."""
    tokens = _features(recognizer)
    with TemporaryDirectory() as folder:
        file, module = Path(folder) / "tokens.onnx", recognition_module(recognizer, None)
        example = torch.from_numpy(tokens.random(2))
        write_onnx(module, example, file, input_name=tokens.name, opset=opset, metadata={})
        return _difference(recognizer, tokens, file)


def _features(recognizer: Recognizer) -> _Input:
    shape = recognizer.record.features
    if recognizer.visual is None:
        return _Input("features", shape[-1:], "unscaled pooled features, float32", None)
    return _Input("features", shape, "unscaled tokens, the global one first, then the regions, float32", None)


def _pixels(recognizer: Recognizer, weights: Path | None) -> _Input:
    images = recognizer.record.images
    if not images.get("preprocessing"):
        raise RunError(
            "the run does not record how its features were computed from photos",
            fix="export the classifier alone with --features-only, or train on a store of dkgzsl extract",
        )
    backbone = rebuild_backbone(images, weights=weights)
    what = "RGB pixels 0 to 255, resized and cropped as `preprocessing` says, uint8"
    shape = (*backbone.preprocessing.image_size, 3)
    return _Input("pixels", shape, what, PixelTokens(backbone, getattr(torch, stored_as(images))), backbone)


def _difference(recognizer: Recognizer, taken: _Input, path: Path) -> float:
    value = taken.random(_ROWS)
    features = torch.from_numpy(value)
    if taken.first is not None:
        with torch.inference_mode():
            features = taken.first(features)
        if len(recognizer.record.features) == 1:  # trained on the global token alone
            features = features[:, 0]
    scores = recognizer.scores(features)
    own = recognizer.calibration.probabilities(scores)[:, recognizer.is_known]
    probabilities, in_distribution = run_onnx(path, value)
    within = 10 * _tolerance(recognizer, taken)
    if not np.allclose(in_distribution, recognizer.fit(features), rtol=within, atol=within):
        return float("inf")
    return float(np.abs(probabilities - own).max())


def _metadata(recognizer: Recognizer, taken: _Input) -> dict[str, Any]:
    calibration, seen, known = recognizer.calibration, recognizer.is_seen, recognizer.is_known
    return {
        "input": {"name": taken.name, "shape": ["batch", *taken.shape], "what": taken.what},
        "preprocessing": taken.backbone.preprocessing.record() if taken.backbone else None,
        "classes": list(recognizer.known_names),
        "seen": seen[known].tolist(),
        "calibration": {
            "constant": calibration.constant,
            "temperature": calibration.temperature,
            "threshold": calibration.threshold,
        },
    }


def _provenance(run: Path, recognizer: Recognizer, taken: _Input) -> dict[str, Any]:
    """Where the numbers come from; names of files and folders, no paths."""
    images = recognizer.record.images
    found: dict[str, Any] = {
        "dkgzsl": dkgzsl.__version__,
        "run": run.resolve().name,
        "dataset": recognizer.record.dataset,
        "semantics": recognizer.record.semantics.name,
        "representation": list(_blocks(recognizer.visual)),
        "backbone": images.get("backbone", {}).get("name"),
        "weights": None if taken.backbone is None else _without_path(taken.backbone.weights),
    }
    if (run / "result.json").is_file():
        folder = RunFolder.open(run)
        result, environment = folder.read_result(), folder.read_json("environment.json")
        for name in ("method", "protocol", "backbone", "seeds", "metrics"):
            found[name] = result[name]
        for name in ("split_sha256", "commit"):
            found[name] = environment[name]
    return found


def _without_path(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in weights.items() if key != "path"}


def _blocks(visual: VisualFeatures | None) -> tuple[str, ...]:
    return ("pooled",) if visual is None else visual.blocks
