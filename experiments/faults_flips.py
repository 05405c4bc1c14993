"""Flipped bits in every file of a run, a version, an estimator and a store: an error, or the same results.

Each flip is drawn by its number and the file's name. A flip after which a result is another one, without an error
of ours, is a fault, and so is an error that is none of ours.
"""

from __future__ import annotations

import json
import random
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.errors import DkgzslError
from dkgzsl.estimator.estimator import ZeroShotClassifier
from dkgzsl.features.store import FeatureStore, open_store
from dkgzsl.features.store_writer import StoreWriter
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.later import card_of
from dkgzsl.runs.pages import read_run

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--closed-form.unit-length", "on"]
QUICK += ["--closed-form.seen-blend", "0", "--closed-form.feature-kernel-width", "0"]
SHAPE = (9, 4, 8)
NAMES = [f"p/{row}.jpg" for row in range(SHAPE[0])]
FAULTS = ("other results", "traceback")


def make_run(path: Path) -> None:
    """A run of two seeds with a baseline, a page, and a version with a class of its own."""
    made = main(["train", "numbers", *QUICK, "--seeds", "2", "--out", str(path)])
    added = main(["add-class", str(path), "--name", "new", "--set", "left_loop_whole=0.9"])
    if made or added:
        raise RuntimeError("the run cannot be made")


def photos() -> np.ndarray:
    """Features of the photos that are predicted."""
    return np.asarray(numbers().features[::200])


def results_of(run: Path) -> list[object]:
    """All that is said of a run by those who read it, but its list of files."""
    scores = [Recognizer.from_run(run, version).scores(photos()).tobytes() for version in (0, 1)]
    estimated = ZeroShotClassifier.load(run, version=0).predict(photos()).tobytes()
    content = read_run(run)
    kept = [sorted((k, v) for k, v in vars(one).items()) for one in content.records]
    rest = (content.result, content.environment, content.config, content.log, content.classes, content.added)
    return [*scores, estimated, repr(kept), *map(repr, rest), card_of(run)]


def write_store(folder: Path, rows: range, tokens: np.ndarray) -> None:
    """Rows of a store, two at a time; opened again it goes on."""
    record = {"class_names": ["a", "b"], "grid": [1, 3], "batch_size": 2, "backbone": {"name": "x"}}
    labels = [row % 2 for row in range(SHAPE[0])]
    with StoreWriter(folder, record=record, paths=NAMES, labels=labels, tokens=4, channels=8) as store:
        for start in range(store.done, rows.stop, 2):
            stop = min(start + 2, SHAPE[0])
            store.append(tokens[start:stop], [(f"{row:064d}", None) for row in range(start, stop)])


def said_of(store: FeatureStore) -> tuple[object, ...]:
    """All that a store says."""
    return store.tokens[:].tobytes(), store.paths, store.labels.tobytes(), store.record, store.provenance()


def flip_at(path: Path, at: int, bit: int) -> None:
    """Flip bits of one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def flip(path: Path, generator: random.Random) -> tuple[int, int]:
    """Flip one bit; returns where, to flip it back."""
    at, bit = generator.randrange(path.stat().st_size), 1 << generator.randrange(8)
    flip_at(path, at, bit)
    return at, bit


@dataclass(frozen=True)
class Target:
    """A folder whose files are flipped.

    Attributes:
        folder: it.
        results_of: all that is said of it.
    """

    folder: Path
    results_of: Callable[[Path], object]

    def files(self) -> list[Path]:
        """Those that hold anything."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size)


def targets(work: Path) -> list[Target]:
    """A run with a version, an estimator and a store; made where they are not there yet."""
    run, estimator, store = work / "run", work / "estimator", work / "store"
    if not (work / "made").is_file():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        make_run(run)
        found = numbers()
        seen = np.flatnonzero(np.isin(found.labels, found.labels[found.parts.trainval]))[::7]
        semantics = dict(zip(found.class_names, np.asarray(found.semantics), strict=True))
        names = [found.class_names[k] for k in np.asarray(found.labels)[seen]]
        fitted = ZeroShotClassifier(method="eszsl", random_state=0)
        fitted.fit(np.asarray(found.features)[seen], names, semantics=semantics).save(estimator)
        write_store(store, range(SHAPE[0]), np.random.default_rng(0).normal(size=SHAPE).astype(np.float16))
        (work / "made").touch()

    def estimated(folder: Path) -> object:
        return ZeroShotClassifier.load(folder).predict_proba(photos()).tobytes()

    return [
        Target(run, results_of),
        Target(estimator, estimated),
        Target(store, lambda folder: said_of(open_store(folder))),
    ]


def outcome(target: Target, file: Path, number: int, expected: object) -> str:
    """What one flip does: `error`, `same`, or one of `FAULTS`; the file is as it was afterwards."""
    at, bit = flip(file, random.Random(f"{file.relative_to(target.folder).as_posix()} {number}"))
    try:
        return "same" if target.results_of(target.folder) == expected else "other results"
    except DkgzslError:
        return "error"
    except Exception:
        traceback.print_exc()
        return "traceback"
    finally:
        flip_at(file, at, bit)


def run(out: Path, *, flips: int) -> list[dict[str, Any]]:
    """The flips that are not done yet, spread over all files; a line for each is kept.

    Args:
        out: folder for the lines (`flips.jsonl`) and the work; whole files stay there between calls.
        flips: wanted in all.

    Returns:
        All lines, the last one of each flip.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "flips.jsonl"
    lines = {_key(one): one for one in map(json.loads, kept.read_text().splitlines())} if kept.is_file() else {}
    done = {key for key, one in lines.items() if one["kind"] not in FAULTS}
    every = targets(out / "flips.work")
    expected = [target.results_of(target.folder) for target in every]
    files = [(at, file) for at, target in enumerate(every) for file in target.files()]
    for number in range(-(-flips // len(files))):
        for at, file in files:
            target = every[at]
            line = {"folder": target.folder.name, "file": file.relative_to(target.folder).as_posix(), "n": number}
            if _key(line) in done:
                continue
            line["kind"] = outcome(target, file, number, expected[at])
            lines[_key(line)] = line
            with kept.open("a") as opened:
                opened.write(json.dumps(line) + "\n")
    return list(lines.values())


def _key(line: Mapping[str, Any]) -> tuple[str, str, int]:
    return line["folder"], line["file"], line["n"]


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines summed by file, in Markdown."""
    rows = ["| file | flips | errors | same results | other results | tracebacks |", "|---|---|---|---|---|---|"]
    for name in [*dict.fromkeys((one["folder"], one["file"]) for one in lines), None]:
        mine = [one["kind"] for one in lines if name in (None, (one["folder"], one["file"]))]
        counts = " | ".join(str(mine.count(kind)) for kind in ("error", "same", *FAULTS))
        rows.append(f"| {'all' if name is None else '/'.join(name)} | {len(mine)} | {counts} |")
    return "\n".join(rows)
