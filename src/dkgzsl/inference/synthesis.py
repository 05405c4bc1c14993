"""Visual features of any class of a run, from its description, as arrays in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float, Int64

from dkgzsl.errors import ConfigError, nearest
from dkgzsl.files import output_file, write_checkpoint
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import Generator
from dkgzsl.methods.registry import unable
from dkgzsl.methods.shared.training import seeded
from dkgzsl.runs.folder import version_of


@dataclass(frozen=True, eq=False)
class Synthesized:
    """Synthesized features of some classes.

    Attributes:
        features: on the scale of what the run's model takes: pooled features as the backbone gave them, or vectors
            of the run's representation.
        labels: class of each point, a position in `class_names`.
        class_names: the classes, in the order in which they were asked for.
        provenance: run, version, data set, semantics and seed, as JSON values.
    """

    features: Float[np.ndarray, "points visual"]
    labels: Int64[np.ndarray, " points"]
    class_names: tuple[str, ...]
    provenance: dict[str, Any]


def synthesize(
    run: Path,
    *,
    classes: Sequence[str] = (),
    number: int = 100,
    seed: int = 0,
    version: int | None = None,
) -> Synthesized:
    """Synthesize features from a run's descriptions of its classes, seen, unseen or added.

    A class's features depend only on the seed and the class's number, not on the other classes asked for.

    Args:
        run: folder of a finished run; its first seed's model is used.
        classes: names of classes (default: all that the run recognises).
        number: features a class, at least 1.
        seed: of the noise, 0 or more.
        version: of the run's classes (default: the newest).

    Raises:
        ConfigError: number or seed is out of range.
        DataError: a class is unknown.
        RunError: the run is not finished, or its model synthesizes nothing.
    """
    if number < 1:
        raise ConfigError(f"number must be at least 1, not {number}")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, not {seed}")
    recognizer = Recognizer.from_run(run, version)
    model = recognizer.model
    if not isinstance(model, Generator):
        raise unable(model, "generator", where=str(run))
    names = tuple(dict.fromkeys(classes)) or recognizer.known_names
    numbers = [recognizer.number_of(name) for name in names]
    made = [model.synthesize(model.semantics[[k]], number, seeded(seed, k))[0].float() for k in numbers]
    return Synthesized(
        features=torch.cat(made).cpu().numpy(),
        labels=np.repeat(np.arange(len(names), dtype=np.int64), number),
        class_names=names,
        provenance={
            "run": str(run),
            "version": version_of(run, version),
            "dataset": recognizer.record.dataset,
            "semantics": recognizer.record.semantics.name,
            "seed": seed,
        },
    )


def write_synthesized(path: Path, made: Synthesized) -> None:
    """Write the arrays in the format that the file's ending names; the file is there whole, or not at all.

    - `.npz`: `features` [N, C], `labels` [N] from 0, `class_names` [K], `provenance` (JSON text); no pickles.
    - `.safetensors`: `features` and `labels`; the header holds `class_names` and `provenance` as JSON.
    - `.mat`: as xlsa17 files are, `features` [C, N], `labels` [N, 1] from 1, `allclasses_names` [K, 1].

    Raises:
        ConfigError: the ending is another, or the file cannot be written.
    """
    if path.suffix == ".safetensors":
        tensors = {"features": torch.from_numpy(made.features), "labels": torch.from_numpy(made.labels)}
        write_checkpoint(path, tensors, {"class_names": made.class_names, "provenance": made.provenance})
        return
    write = _writer(path)
    try:
        with output_file(path) as draft, draft.open("wb") as file:
            write(file, made)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror or error}", where=str(path)) from error


def check_ending(path: Path) -> None:
    """Check that `write_synthesized` knows a file's ending.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix != ".safetensors":
        _writer(path)


def _write_npz(file: BinaryIO, made: Synthesized) -> None:
    np.savez(
        file,
        features=made.features,
        labels=made.labels,
        class_names=np.array(made.class_names, dtype=str),
        provenance=np.array(json.dumps(made.provenance)),
    )


def _write_mat(file: BinaryIO, made: Synthesized) -> None:
    from scipy.io import savemat

    names = np.empty((len(made.class_names), 1), dtype=object)  # an array of objects becomes a cell of texts
    names[:, 0] = made.class_names
    contents = {"features": made.features.T, "labels": made.labels[:, None] + 1, "allclasses_names": names}
    savemat(file, contents)


_WRITERS: dict[str, Callable[[BinaryIO, Synthesized], None]] = {".npz": _write_npz, ".mat": _write_mat}


def _writer(path: Path) -> Callable[[BinaryIO, Synthesized], None]:
    if path.suffix not in _WRITERS:
        raise ConfigError(
            f"the ending of {path.name!r} names no format that can be written",
            fix=nearest(path.suffix, [*_WRITERS, ".safetensors"], of="endings"),
        )
    return _WRITERS[path.suffix]
