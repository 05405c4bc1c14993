"""The field's file formats, written with scipy and h5py alone."""

from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from formats.toy import Toy


def write_xlsa17(
    folder: Path,
    data: Toy,
    *,
    version: str = "5",
    features: str = "res101",
    semantics: str = "att",
    without: Collection[str] = (),
    transposed: Collection[str] = (),
) -> Path:
    """Write `<features>.mat` and `<semantics>_splits.mat`; leaves keys out or transposes them on request."""
    folder.mkdir(parents=True, exist_ok=True)
    split = {
        "att": data.att.T,
        "original_att": None if data.original_att is None else data.original_att.T,
        "allclasses_names": data.class_names,
        **{f"{part}_loc": positions[:, None] + 1.0 for part, positions in data.parts.items()},
    }
    files = [f"images/{number:04d}.jpg" for number in range(len(data.labels))]
    feature = {"features": data.features.T, "labels": data.labels[:, None] + 1, "image_files": files}
    write = write_v5 if version == "5" else write_v73
    for path, contents in ((folder / f"{features}.mat", feature), (folder / f"{semantics}_splits.mat", split)):
        kept = {key: value for key, value in contents.items() if value is not None and key not in without}
        write(path, {key: value.T if key in transposed else value for key, value in kept.items()})
    return folder


def write_v5(path: Path, contents: dict) -> None:
    """MATLAB version 5: texts become cells."""
    savemat(path, {key: _cell(value) if _is_texts(value) else value for key, value in contents.items()})


def write_v73(path: Path, contents: dict) -> None:
    """MATLAB version 7.3: HDF5 with every matrix's axes reversed, cells as references to text."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in contents.items():
            if _is_texts(value):
                texts = file.create_group(f"#refs#/{key}")
                cell = file.create_dataset(key, (1, len(value)), dtype=h5py.ref_dtype)
                for number, text in enumerate(value):
                    codes = np.array([[ord(letter)] for letter in text], np.uint16)
                    cell[0, number] = texts.create_dataset(str(number), data=codes).ref
            else:
                file.create_dataset(key, data=np.ascontiguousarray(value.T))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM")


def write_feature_map(
    path: Path,
    data: Toy,
    *,
    chunked: bool = False,
    without: Collection[str] = (),
    transposed: Collection[str] = (),
    vectors: np.ndarray | None = None,
) -> Path:
    """The method's HDF5 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {
        "feature_map": data.features,
        "labels": data.labels,
        "att": data.att,
        "original_att": data.original_att,
        "w2v_att": vectors,
        **{f"{part}_loc": positions for part, positions in data.parts.items() if part not in ("train", "val")},
    }
    with h5py.File(path, "w") as file:
        for key, value in contents.items():
            if value is not None and key not in without:
                options = {"chunks": True, "compression": "gzip"} if chunked and key == "feature_map" else {}
                file.create_dataset(key, data=value.T if key in transposed else value, **options)
    return path


def _is_texts(value) -> bool:
    return isinstance(value, list | tuple)


def _cell(texts) -> np.ndarray:
    cell = np.empty((len(texts), 1), object)
    for number, text in enumerate(texts):
        cell[number, 0] = text
    return cell
