"""A module as one ONNX file: the graph with its weights, and its record as metadata."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from dkgzsl.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator


FORMAT: Final = "dkgzsl onnx 2"
_READ: Final = (FORMAT, "dkgzsl onnx 1")  # 1 called the output `in_distribution` `fit`
OUTPUTS: Final = ("probabilities", "in_distribution")
OPSETS: Final = range(17, 21)
_LARGEST: Final = 2 * 2**30 - 2**20  # what one protobuf file holds, less room for the graph itself


def write_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    input_name: str,
    opset: int,
    metadata: Mapping[str, Any],
) -> None:
    """Trace `module` by torch's TorchScript exporter and write it.

    The first axis of input and output is free. Of torch's two exporters this is the one that works from torch 2.6
    to 2.14: the other, dynamo's, fixes the batch size under 2.6, needs an onnxscript of the same year, and takes
    ten times as long for the same graph.

    Args:
        module: one tensor in, `OUTPUTS` out; in evaluation mode.
        example: an input, two rows at least.
        path: the file, in a folder that exists; a draft where an older file must not be lost.
        input_name: name of the input.
        opset: version of ONNX's operators, 17 to 20.
        metadata: JSON values, each under its own key.

    Raises:
        ConfigError: a package of the extra `export` is missing, or the opset is out of range.
        RunError: the module is too large for one file, or cannot be traced.
        OSError: the file cannot be written.
    """
    if opset not in OPSETS:
        raise ConfigError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, not {opset}", fix="leave --opset out")
    onnx = _needed("onnx")
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if size > _LARGEST:
        raise RunError(
            f"the weights take {size / 2**30:.1f} GiB, and one ONNX file holds 2 at most",
            fix="export the classifier alone with --features-only, or train on features of a smaller backbone",
        )
    proto = _traced(onnx, module, example, input_name, opset)
    for key, value in {"format": FORMAT, **metadata}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = f"dkgzsl.{key}", json.dumps(value, ensure_ascii=False)
    path.write_bytes(proto.SerializeToString())


def _traced(onnx: Any, module: nn.Module, example: Tensor, input_name: str, opset: int) -> Any:
    """The graph with its weights, as ONNX's own object."""
    axes = {name: {0: "batch"} for name in (input_name, *OUTPUTS)}
    try:
        with _quiet(), _plain_attention(), TemporaryDirectory(prefix="dkgzsl-") as folder:
            graph = Path(folder) / "graph.onnx"
            torch.onnx.export(
                module,
                (example,),
                graph,
                dynamo=False,
                input_names=[input_name],
                output_names=list(OUTPUTS),
                dynamic_axes=axes,
                opset_version=opset,
            )
            return onnx.load_model(graph)
    except OSError:  # no room for temporary files, and no fault of the graph
        raise
    except Exception as error:  # of many kinds; the exporter's own texts span pages
        raise RunError(
            f"torch cannot trace this backbone: {type(error).__name__}: {_first_line(error)}",
            fix="export the classifier alone with --features-only",
        ) from error


def run_onnx(path: Path, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and in-distribution scores of a batch by ONNX Runtime, on the CPU.

    Raises:
        ConfigError: onnxruntime is missing.
    """
    session = _needed("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    probabilities, in_distribution = session.run(OUTPUTS, {session.get_inputs()[0].name: value})
    return probabilities, in_distribution


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_onnx` was given, by key.

    Raises:
        RunError: the file is no export of this package.
    """
    onnx = _needed("onnx")
    try:
        proto = onnx.load_model(path, load_external_data=False)
        found = {e.key.removeprefix("dkgzsl."): json.loads(e.value) for e in proto.metadata_props
                 if e.key.startswith("dkgzsl.")}  # fmt: skip
    except Exception as error:  # protobuf's own, OSError, ValueError
        raise RunError(f"no ONNX file: {_first_line(error)}", where=str(path)) from error
    if found.get("format") not in _READ:
        raise RunError("no export of this package", where=str(path))
    return found


def _needed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"the package {name} is not installed", fix="pip install 'dkgzsl[export]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of each size that it takes for a number; the comparison of outputs finds what matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Fused attention has no counterpart in ONNX."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
