"""`dkgzsl export`: a run as one ONNX file."""

from __future__ import annotations

import json as json_format
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.cli.next_step import next_line, python
from dkgzsl.errors import refuse_without


@dataclass(frozen=True)
class Config:
    """One ONNX file from pixels to calibrated probabilities: backbone, refinement and classifier.

    Next to it goes run_onnx.py, a short script that recognises photos with the file, onnxruntime, numpy and
    pillow; a file of that name stays as it is.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path
    """The file, named .onnx; an older one is replaced."""
    weights: Path | None = None
    """The backbone's weights (default: those that the run records, by path and sha256)."""
    features_only: bool = False
    """Leave the backbone out: the input is features."""
    opset: int = 18
    """Version of ONNX's operators, 17 to 20."""
    version: int | None = None
    """Version of the run's classes (default: the newest that add-class, adapt or remove-class made)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Export, check, print what was written."""
    refuse_without("onnx", "onnxruntime")
    from dkgzsl.inference.export.export import export_run, write_script
    from dkgzsl.runs.places import example_photo

    done = export_run(
        Path(config.run),
        config.out,
        weights=config.weights,
        features_only=config.features_only,
        opset=config.opset,
        version=config.version,
    )
    script = None if config.features_only else write_script(config.out)
    if config.json:
        print(
            json_format.dumps(
                {
                    "out": str(done.path),
                    "input": {"name": done.input_name, "shape": ["batch", *done.input_shape]},
                    "classes": done.classes,
                    "bytes": done.size,
                    "difference": done.difference,
                    "script": None if script is None else str(script),
                }
            )
        )
        return
    shape = ", ".join(map(str, ("batch", *done.input_shape)))
    print(f"file     {done.path}, {done.size / 1e6:.1f} MB")
    print(f"takes    {done.input_name} [{shape}]")
    print(f"gives    probabilities [batch, {done.classes}], in_distribution [batch]")
    print(f"checked  in ONNX Runtime on random input: probabilities differ by {done.difference:.0e} at most")
    photo = example_photo(Path(config.run))
    if script is not None:
        print(f"script   {script}: photos to classes, without dkgzsl")
        if photo is not None:
            print(next_line(shlex.join([python(), str(script), str(done.path), str(photo)]), width=8))
