"""One whole file of each kind that the package reads, and what reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkgzsl import load_dataset, train
from dkgzsl.benchmark.cells import read_cell
from dkgzsl.data.convert import store_from_file
from dkgzsl.data.fetching.archives import unpack
from dkgzsl.data.fetching.download import Partial
from dkgzsl.data.fetching.fetch import read_origins
from dkgzsl.data.formats.feature_files import read_features, read_labelled
from dkgzsl.data.formats.problem_folder import read_problem_folder
from dkgzsl.data.formats.tables import read_semantic_table
from dkgzsl.errors import DataError
from dkgzsl.estimator.estimator import ZeroShotClassifier
from dkgzsl.evaluation.selection import FiguresLine, ScoresLine, read_evaluations
from dkgzsl.features.images import UnreadableImageError, read_image
from dkgzsl.features.store import open_store
from dkgzsl.features.weights import _read as read_weights
from dkgzsl.inference.hub.package import read_manifest
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.sections import read_train_config
from dkgzsl.runs.evaluation import evaluate
from dkgzsl.runs.pages import write_report
from fault_files import CELL, CHANNELS, MAPS, PHOTOS, training


@dataclass(frozen=True)
class Sample:
    """A file that is damaged.

    Attributes:
        folder: the folder that is copied for each case.
        file: the file in it.
        read: reads the folder.
        words: the command line that reads it; None where no verb does so by itself.
    """

    folder: str
    file: str
    read: Callable[[Path], Any]
    words: Callable[[Path], list[str]] | None = None


def _page(folder: Path) -> None:
    write_report(folder)


def _load(folder: Path) -> None:
    problem = load_dataset(folder)
    np.asarray(problem.features[:3])


def _load_map(folder: Path) -> None:
    problem = load_dataset(folder / "map.hdf5")
    np.asarray(problem.features[np.arange(3)])


def _estimate(folder: Path) -> None:
    loaded = ZeroShotClassifier.load(folder)
    loaded.predict(np.zeros((1, CHANNELS), np.float32))


def _convert(name: str) -> Callable[[Path], None]:
    return lambda folder: store_from_file(folder / name, folder / "made", backbone="b")


def _problem(folder: Path) -> None:
    load_dataset(folder / "problem", features=folder / "store")


def _resume(folder: Path) -> None:
    train(training(folder.parent, folder, resume=True, report="off"))


def _open(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        try:
            read_image(folder / name)
        except UnreadableImageError as error:
            raise DataError(error.why) from error  # extraction keeps the reason, and goes on

    return read


def _unpack(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        (folder / "out").mkdir()
        unpack(folder / name, folder / "out", limit=2**24)

    return read


def _all_rows(folder: Path) -> None:
    np.asarray(open_store(folder).tokens)


def _check(folder: Path) -> list[str]:
    return ["data", "check", str(folder)]


def _check_problem(folder: Path) -> list[str]:
    return [*_check(folder / "problem"), "--features", str(folder / "store")]


def _samples() -> dict[str, Sample]:
    run = {
        name: Sample("run", name, _page, lambda folder: ["report", str(folder)])
        for name in ("result.json", "environment.json", "metrics.jsonl", "per_class.csv", "report.safetensors")
    }
    model = {
        name: Sample("run", name, Recognizer.from_run, lambda folder: ["evaluate", str(folder)])
        for name in ("recognizer.json", "model.safetensors", "in_distribution.safetensors")
    }
    config = Sample("run", "config.yaml", evaluate, lambda folder: ["evaluate", str(folder)])
    store = {f"store/{n}": Sample("own/store", n, open_store) for n in ("store.json", "index.jsonl", "tokens.npy")}
    own = {
        name: Sample("own", f"problem/{name}", _problem, _check_problem)
        for name in ("problem.json", "images.csv", "semantics/att.csv", "semantics/att.json")
    }
    tables = {
        name: Sample("tables", name, lambda folder, name=name: read_semantic_table(folder / name))
        for name in ("att.csv", "att.xlsx", "att.parquet")
    }
    features = {
        f"features/{name}": Sample("tables", name, lambda folder, name=name: read_features(folder / name))
        for name in ("rows.npy", "labelled.npz", "rows.csv")
    }
    mats = {
        f"{kind}/{name}": Sample(kind, name, _load, _check)
        for kind in ("TOY", "TOY73")
        for name in ("res101.mat", "att_splits.mat")
    }
    maps = {f"{kind}.hdf5": Sample(kind, "map.hdf5", _load_map, lambda f: _check(f / "map.hdf5")) for kind in MAPS}
    others = {**_further(), **_without_checksums()}
    others |= {
        "labelled.npz": Sample("tables", "labelled.npz", lambda folder: read_labelled(folder / "labelled.npz")),
        "converted .mat": Sample("TOY", "res101.mat", _convert("res101.mat")),
        "converted .hdf5": Sample("chunked", "map.hdf5", _convert("map.hdf5")),
        "settings.yaml": Sample(
            "texts", "settings.yaml", lambda folder: read_train_config(folder / "settings.yaml"),
            lambda folder: ["train", "--config", str(folder / "settings.yaml"), "--dry-run"]),
        "manifest.json": Sample("texts", "manifest.json", lambda folder: read_manifest(
            (folder / "manifest.json").read_bytes(), where="package")),
        "estimator.json": Sample("estimator", "estimator.json", _estimate),
        "weights.safetensors": Sample("texts", "weights.safetensors",
                                      lambda folder: read_weights(folder / "weights.safetensors")),
        "cell.json": Sample("cells", f"{CELL.slug}.json", lambda folder: read_cell(folder, CELL)),
        "cell.npz": Sample("cells", f"{CELL.slug}.npz", lambda folder: read_cell(folder, CELL)),
        "evaluations.jsonl": Sample("texts", "figures.jsonl", lambda folder: read_evaluations(
            folder / "figures.jsonl", FiguresLine)),
        "scores.jsonl": Sample("texts", "scores.jsonl", lambda folder: read_evaluations(
            folder / "scores.jsonl", ScoresLine)),
        "problem.json alone": Sample("own/problem", "problem.json", read_problem_folder),
    }  # fmt: skip
    return {**mats, **maps, **tables, **features, **store, **own, **run, **model, "config.yaml": config, **others}


def _without_checksums() -> dict[str, Sample]:
    """Files of dkgzsl 0.2, without checksums: whatever is damaged in them meets what reads them."""

    def report(folder: Path) -> list[str]:
        return ["report", str(folder)]

    def scored(folder: Path) -> list[str]:
        return ["evaluate", str(folder)]

    def trained(folder: Path) -> list[str]:
        return ["evaluate", str(folder), "--version", "0"]

    pages = ("result.json", "environment.json", "metrics.jsonl", "per_class.csv", "report.safetensors")
    models = ("recognizer.json", "model.safetensors", "in_distribution.safetensors")
    found = {f"before/{name}": Sample("run-before", name, _page, report) for name in pages}
    found |= {f"before/{name}": Sample("run-before", name, Recognizer.from_run, trained) for name in models}
    found |= {
        f"before/{name}, scored": Sample("run-before", name, evaluate, scored)
        for name in ("config.yaml", "result.json", "environment.json", "model.safetensors")
    }
    later = ("history.json", *models)
    found |= {f"version/{n}": Sample("version", f"versions/1/{n}", evaluate, scored) for n in later}
    again = ("config.yaml", "environment.json", "seeds/0.json", "metrics.jsonl", "model.safetensors")
    found |= {f"resume/{name}": Sample("resume", name, _resume) for name in again}
    found["checksums.json"] = Sample("run", "checksums.json", Recognizer.from_run, scored)
    stores = ("store.json", "index.jsonl", "tokens.npy")
    found |= {f"before/store/{name}": Sample("own-before/store", name, _all_rows) for name in stores}
    parts = ("estimator.json", "recognizer.json", "model.safetensors")
    return found | {f"before/estimator/{name}": Sample("estimator-before", name, _estimate) for name in parts}


def _further() -> dict[str, Sample]:
    """Photos, archives, PyTorch files, and what a download has left."""
    found = {f"photo.{ending}": Sample("photos", f"photo.{ending}", _open(f"photo.{ending}")) for ending in PHOTOS}
    found |= {name: Sample("archives", name, _unpack(name)) for name in ("a.zip", "a.tgz")}
    found |= {
        name: Sample("weights", name, lambda folder, name=name: read_weights(folder / name))
        for name in ("weights.pt", "older.pth")
    }
    found["fetched.json"] = Sample("fetched", "fetched.json", read_origins)
    found["x.zip.part.json"] = Sample(
        "fetched",
        "x.zip.part.json",
        lambda folder: Partial(folder / "x.zip").state("https://example.org/x.zip"),
    )
    return found


SAMPLES = _samples()
