"""What to type next, as a command that runs as it is printed: with real paths, quoted, without placeholders."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dkgzsl.inference.recognizer import Recognizer

WIDTH = 10


def command(*words: str | Path) -> str:
    """A command of this package, its words quoted for a shell where they need it.

    Args:
        words: the verb, then its arguments.
    """
    return shlex.join(["dkgzsl", *map(str, words)])


def next_line(line: str, *, width: int = WIDTH) -> str:
    """The last line of a verb's output: `next`, then a command and nothing else."""
    return f"{'next':<{width}} {line}"


def python() -> str:
    """The name by which a shell starts this Python, or else its path."""
    found = which("python")
    here = found is not None and Path(found).resolve() == Path(sys.executable).resolve()
    return "python" if here and Path(str(found)).parent == Path(sys.executable).parent else sys.executable


def free_name(name: str) -> str:
    """A name in the working folder under which nothing lies: the name itself, or one with a number."""
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, 10_000))
    return next(one for one in names if not Path(one).exists())


def after_training(run: str) -> str:
    """Try the run on a photo of its own, or, where it has none, compute its figures again."""
    from dkgzsl.runs.places import example_photo

    photo = example_photo(Path(run))
    return command("evaluate", run) if photo is None else command("predict", run, photo)


def after_prediction(run: str, recognizer: Recognizer) -> str | None:
    """Describe a class, as an example, or, where the run has later versions, hand the model out; None: neither."""
    from dkgzsl.inference.new_classes import example_class
    from dkgzsl.runs.folder import versions_of

    example = None if versions_of(Path(run)) else example_class(recognizer)
    if example is None:
        return _export(run, recognizer)
    name, values = example
    return command(
        "add-class", run, "--name", name, "--set", *(f"{key}={value:.3g}" for key, value in values.items())
    )


def after_version(run: str, recognizer: Recognizer, photos: tuple[str, ...] = ()) -> str:
    """Try a new version on the photos that it was made with, or hand it out, or compute its figures.

    Args:
        run: the run folder.
        recognizer: the new version.
        photos: arguments of `predict` that name photos or features; none: there were none.
    """
    if photos:
        return command("predict", run, *photos)
    return _export(run, recognizer) or command("evaluate", run)


def after_pull(out: Path, run: str) -> str:
    """Open the page of a pulled run, or hand the model out, or read how photos are named."""
    from dkgzsl.inference.recognizer import Recognizer

    recognizer = Recognizer.from_run(out)
    if find_spec("PIL") is not None and recognizer.record.images.get("preprocessing"):
        return command("app", run)
    return _export(run, recognizer) or command("help", "predict")


def _export(run: str, recognizer: Recognizer) -> str | None:
    from dkgzsl.methods.base import Exportable

    if not isinstance(recognizer.model, Exportable) or not (find_spec("onnx") and find_spec("onnxruntime")):
        return None
    whole = bool(recognizer.record.images.get("preprocessing"))
    target = free_file(Path(f"{str(run).rstrip('/')}.onnx"))
    return command("export", run, "--out", target, *(() if whole else ("--features-only",)))


def free_file(path: Path) -> Path:
    """The path, or one with a number where something lies there already."""
    paths = (path if n == 1 else path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, 10_000))
    return next(one for one in paths if not one.exists())
