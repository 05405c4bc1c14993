"""The whole files that `fault_samples` damages copies of."""

import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from dkgzsl import TrainConfig, train
from dkgzsl.benchmark.cells import Cell, write_cell
from dkgzsl.cli.main import main
from dkgzsl.config import RefinementConfig
from dkgzsl.data.convert import store_from_file
from dkgzsl.estimator.estimator import ZeroShotClassifier
from dkgzsl.features.store import INDEX, RECORD

CLASSES, PER_CLASS, CHANNELS, ATTRIBUTES = 7, 10, 5, 4
CELL = Cell("TOY", None, "att", "pooled", "eszsl", 0, "validated", None, RefinementConfig())
MAPS = ("plain", "chunked")
PHOTOS = ("png", "jpg", "webp", "bmp", "tiff", "gif", "ppm")
NAMES = [f"Class_{k}" for k in range(CLASSES)]


def write_samples(folder: Path) -> None:
    """Write one whole file of each kind, and what its reader needs next to it."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), PER_CLASS))
    att = rng.random((CLASSES, ATTRIBUTES)) + 0.1
    att /= np.linalg.norm(att, axis=1, keepdims=True)
    features = (att @ rng.random((ATTRIBUTES, CHANNELS)))[labels] + 0.1 * rng.random((len(labels), CHANNELS))
    of_class = [np.flatnonzero(labels == k) for k in range(CLASSES)]
    parts = {
        "trainval_loc": np.concatenate([one[:8] for one in of_class[:5]]),
        "test_seen_loc": np.concatenate([one[8:] for one in of_class[:5]]),
        "test_unseen_loc": np.concatenate(of_class[5:]),
    }
    _xlsa17(folder / "TOY", features, labels, att, parts)
    _version_73(folder / "TOY73", features, labels, att, parts)
    regions = np.repeat(features[:, None], 5, 1).astype(np.float32)
    for name in MAPS:
        _map(folder / name, regions, labels, att, parts, chunked=name == "chunked")
    _tables(folder / "tables", features, labels, att)
    _own(folder / "own", features, labels, att)
    _texts(folder / "texts")
    train(training(folder, folder / "run"))
    draws = {name: rng.random(20) for name in ("h", "ausuc")}
    write_cell(folder / "cells", CELL, {**_CELL_RECORD, "draws": draws})
    seen = labels < 5
    fitted = ZeroShotClassifier(method="eszsl", random_state=0).fit(
        features[seen].astype(np.float32),
        [NAMES[k] for k in labels[seen]],
        semantics=dict(zip(NAMES, att, strict=True)),
    )
    fitted.save(folder / "estimator")
    _without_checksums(folder, att)
    _fetched(folder / "fetched")
    _archives(folder / "archives", folder / "tables" / "att.csv")
    _photos(folder / "photos")
    _torch(folder / "weights")


def training(folder: Path, out: Path, **options: Any) -> TrainConfig:
    """Settings of a run on the samples' own problem and store, which are read without a child process."""
    own = folder / "own"
    data: dict[str, Any] = {"dataset": str(own / "problem"), "features": str(own / "store"), "out": str(out)}
    return TrainConfig(**data, method="eszsl", seeds=1, **options)


def _without_checksums(folder: Path, att: Any) -> None:
    """Runs, estimators and stores as dkgzsl 0.2 wrote them: damage meets the readers, not the checksums."""
    shutil.copytree(folder / "run", folder / "run-before")
    (folder / "run-before" / "checksums.json").unlink()
    shutil.copytree(folder / "run-before", folder / "resume")
    (folder / "resume" / "result.json").unlink()
    shutil.copytree(folder / "run", folder / "version")
    np.save(folder / "vector.npy", att.mean(0))
    said = ["add-class", str(folder / "version"), "--name", "late", "--attributes", str(folder / "vector.npy")]
    if main(said):
        raise RuntimeError("add-class failed")
    for place in (folder / "version", folder / "version" / "versions" / "1"):
        (place / "checksums.json").unlink()
    shutil.copytree(folder / "estimator", folder / "estimator-before")
    (folder / "estimator-before" / "checksums.json").unlink()
    shutil.copytree(folder / "own", folder / "own-before")
    store = folder / "own-before" / "store"
    record = json.loads((store / RECORD).read_text(encoding="utf-8"))
    record.pop("sha256")
    (store / RECORD).write_text(json.dumps(record), encoding="utf-8")
    lines = (store / INDEX).read_text(encoding="utf-8").splitlines()
    old = [line.split(', "crc32"')[0] + "}\n" for line in lines]
    (store / INDEX).write_text("".join(old), encoding="utf-8")


def _fetched(folder: Path) -> None:
    folder.mkdir()
    origin = {
        "url": "https://example.org/x.zip", "sha256": "0" * 64, "checked": "known", "size": 10, "etag": None,
        "date": "2026-01-01T00:00:00+00:00", "terms": "none",
    }  # fmt: skip
    (folder / "fetched.json").write_text(json.dumps({"data": origin, "images": origin}), encoding="utf-8")
    state = {"url": "https://example.org/x.zip", "etag": '"x"', "modified": None, "total": 10}
    (folder / "x.zip.part.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "x.zip.part").write_bytes(b"01234")


def _archives(folder: Path, file: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "data/att.csv")
        archive.write(file, "data/more/att.csv")
    with tarfile.open(folder / "a.tgz", "w:gz") as archive:
        archive.add(file, "data/att.csv")
        archive.add(file, "data/more/att.csv")


def _photos(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    rows = np.arange(30)[:, None, None] * np.ones((30, 40, 3)) * 8
    image = Image.fromarray(rows.astype(np.uint8))
    for ending in PHOTOS:
        image.save(folder / f"photo.{ending}")


def _torch(folder: Path) -> None:
    import torch

    folder.mkdir()
    state = {"layer.weight": torch.ones(3, 4), "layer.bias": torch.zeros(3, dtype=torch.float16)}
    torch.save(state, folder / "weights.pt")
    torch.save(state, folder / "older.pth", _use_new_zipfile_serialization=False)


def _cell(texts: list[str]) -> np.ndarray:
    cell = np.empty((len(texts), 1), object)
    cell[:, 0] = texts
    return cell


def _xlsa17(folder: Path, features: Any, labels: Any, att: Any, parts: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    files = _cell([f"{n:04d}.jpg" for n in range(len(labels))])
    named = {"features": features.T, "labels": labels[:, None] + 1.0, "image_files": files}
    savemat(folder / "res101.mat", named, do_compression=False)
    places = {name: at[:, None] + 1.0 for name, at in parts.items()}
    split = {"att": att.T, "original_att": 100 * att.T, "allclasses_names": _cell(NAMES), **places}
    savemat(folder / "att_splits.mat", split, do_compression=True)


def _version_73(folder: Path, features: Any, labels: Any, att: Any, parts: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    with h5py.File(folder / "res101.mat", "w", userblock_size=512) as file:
        file["features"], file["labels"] = features, labels[None] + 1.0
    with h5py.File(folder / "att_splits.mat", "w", userblock_size=512) as file:
        file["att"], texts = att, file.create_group("#refs#")
        named = file.create_dataset("allclasses_names", (1, CLASSES), dtype=h5py.ref_dtype)
        for k, name in enumerate(NAMES):
            codes = np.array([[ord(letter)] for letter in name], np.uint16)
            named[0, k] = texts.create_dataset(str(k), data=codes).ref
        for name, at in parts.items():
            file[name] = at[None] + 1.0


def _map(folder: Path, regions: Any, labels: Any, att: Any, parts: dict[str, Any], *, chunked: bool) -> None:
    folder.mkdir(parents=True)
    how = {"chunks": (8, 5, CHANNELS), "compression": "gzip", "shuffle": True} if chunked else {}
    with h5py.File(folder / "map.hdf5", "w") as file:
        file.create_dataset("feature_map", data=regions, **how)
        for name, values in {"labels": labels, "att": att, **parts}.items():
            file[name] = values
        file["allclasses_names"] = [name.encode() for name in NAMES]


def _tables(folder: Path, features: Any, labels: Any, att: Any) -> None:
    folder.mkdir(parents=True)
    header = ["class", *(f"a{k}" for k in range(ATTRIBUTES))]
    rows = [[name, *map(float, row)] for name, row in zip(NAMES, att, strict=True)]
    text = "\n".join(",".join(map(str, row)) for row in [header, *rows])
    (folder / "att.csv").write_text(text + "\n", encoding="utf-8")
    from openpyxl import Workbook
    from pyarrow import parquet, table

    book = Workbook()
    for row in (header, *rows):
        book.active.append(row)
    book.save(folder / "att.xlsx")
    parquet.write_table(
        table({name: [row[n] for row in rows] for n, name in enumerate(header)}), folder / "att.parquet"
    )
    np.save(folder / "rows.npy", features.astype(np.float32))
    np.savetxt(folder / "rows.csv", features, delimiter=",")
    names = np.array([NAMES[k] for k in labels])
    np.savez(
        folder / "labelled.npz", features=features, labels=names, image_files=np.arange(len(labels)).astype(str)
    )


def _own(folder: Path, features: Any, labels: Any, att: Any) -> None:
    problem = folder / "problem"
    (problem / "semantics").mkdir(parents=True)
    roles = ["seen"] * 5 + ["unseen"] * 2
    classes = [{"class": name, "role": role} for name, role in zip(NAMES, roles, strict=True)]
    record = {
        "format": "dkgzsl problem 1",
        "name": "own",
        "source": "/nowhere",
        "semantics": "att",
        "classes": classes,
    }
    (problem / "problem.json").write_text(json.dumps(record), encoding="utf-8")
    paths = [f"image {n}" for n in range(len(labels))]
    lines = [f"{path},{NAMES[k]}" for path, k in zip(paths, labels, strict=True)]
    (problem / "images.csv").write_text("path,class\n" + "\n".join(lines) + "\n", encoding="utf-8")
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(NAMES, att, strict=True)]
    (problem / "semantics" / "att.csv").write_text("class,a,b,c,d\n" + "\n".join(rows) + "\n", encoding="utf-8")
    origin = {"encoder": "e", "library": "l", "texts": dict.fromkeys(NAMES, "a bird")}
    (problem / "semantics" / "att.json").write_text(json.dumps(origin), encoding="utf-8")
    np.savez(folder / "all.npz", features=features, labels=np.array([NAMES[k] for k in labels]))
    store_from_file(folder / "all.npz", folder / "store", backbone="b")


_FIGURES = dict.fromkeys(("t1", "u", "s", "h", "h_calibrated", "u_calibrated", "s_calibrated", "ausuc"), 0.5)
_CELL_RECORD = {
    "name": "TOY", "backbone": "b", "title": "ESZSL", "paper": None, "balance": "none", "figures": _FIGURES,
    "validation": _FIGURES, "setting": {"gamma": 1}, "chosen_by": "AUSUC", "constant": 0.1, "evaluations": 3,
    "split_sha256": "0" * 64, "seconds": 1.5, "epoch": None, "epochs_trained": None, "schedule": None,
}  # fmt: skip


def _texts(folder: Path) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    settings = (
        "dataset: numbers\nseeds: 2\nmethod: closed-form\n"
        "closed_form:\n  ridge: [0.1, 1.0]\nrefinement:\n  steps: 3\n"
    )
    (folder / "settings.yaml").write_text(settings, encoding="utf-8")
    needed = (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "recognizer.json",
        "result.json",
    )
    files = {name: {"size": 10, "sha256": "0" * 64} for name in needed}
    manifest = {"format": "dkgzsl package 2", "dkgzsl": "0.2.0", "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    save_file({"layer.weight": np.ones((3, 4), np.float32)}, folder / "weights.safetensors")
    line = {"setting": {"gamma": 1}, "figures": _FIGURES, "constant": 0.1, "candidate": True}
    (folder / "figures.jsonl").write_text((json.dumps(line) + "\n") * 3, encoding="utf-8")
    scores = {"setting": {"gamma": 1}, "scores": [0.1, 0.2]}
    (folder / "scores.jsonl").write_text((json.dumps(scores) + "\n") * 3, encoding="utf-8")
