"""The doctor of data sets: what is wrong, odd or worth knowing in their files."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import combinations
from typing import Final

import numpy as np

from dkgzsl.data.catalog import KnownDataset, known
from dkgzsl.data.checks import PARTS, Finding, structure
from dkgzsl.data.duplicates import Pairs, duplicate_findings, equal_files
from dkgzsl.data.raw import RawData, validation_classes
from dkgzsl.features.arrays import rows_of

_ORDER: Final = {"error": 0, "warning": 1, "note": 2}
_FEW_NEGATIVE: Final = 0.05


def examine(raw: RawData) -> list[Finding]:
    """All findings, errors first; features are read in blocks, once."""
    return examined(raw)[0]


def examined(raw: RawData) -> tuple[list[Finding], Pairs]:
    """All findings, errors first, and the pairs of images that are the same."""
    findings = list(structure(raw, every_region=True))
    findings += [Finding("note", "notes", note) for note in raw.notes]
    entry = known(raw.name)
    if entry is not None:
        findings += _official_counts(raw, entry)
    findings += _published_lists(raw)
    findings += _semantics(raw)
    findings += _file_names(raw)
    found, twins = _features(raw)
    by = "features"
    if raw.features is None and raw.image_files is not None:
        twins, by = equal_files(raw.image_files), "files"
    findings += [*found, *duplicate_findings(raw, twins, by=by), *_unchecked(raw)]
    return sorted(findings, key=lambda finding: _ORDER[finding.severity]), twins


def _official_counts(raw: RawData, entry: KnownDataset) -> Iterator[Finding]:
    counts = [("classes", raw.number_of_classes, entry.classes)]
    counts += [(part, len(raw.parts[part]), getattr(entry, part)) for part in PARTS]
    if raw.number_of_images is not None:
        counts.append(("images", raw.number_of_images, entry.images))
    if raw.labels is not None and _in_range(raw):
        counts.append(("seen classes", len(np.unique(raw.labels[raw.parts["trainval"]])), entry.seen_classes))
        counts.append(
            ("unseen classes", len(np.unique(raw.labels[raw.parts["test_unseen"]])), entry.unseen_classes)
        )
    for what, found, official in counts:
        if found != official:
            yield Finding(
                "warning",
                "official counts",
                f"{what}: {found}, where the official split of {entry.name} has {official}",
                "figures do not compare with published ones",
            )
    sizes = {"att": entry.attributes, "sent": entry.sentences}
    for source, size in sizes.items():
        if size is not None and source in raw.tables and raw.tables[source].shape[1] != size:
            yield Finding(
                "warning",
                "official counts",
                f"class descriptions {source!r} have {raw.tables[source].shape[1]} entries, officially {size}",
            )


def _published_lists(raw: RawData) -> Iterator[Finding]:
    lists = {part: raw.parts[part] for part in ("train", "val") if part in raw.parts}
    leaked = {f"{part}_loc": len(np.intersect1d(at, raw.parts["test_seen"])) for part, at in lists.items()}
    if sum(leaked.values()):
        counts = " and ".join(f"{number} in {part}" for part, number in leaked.items())
        yield Finding(
            "note",
            "published lists",
            f"{sum(leaked.values())} of {len(raw.parts['test_seen'])} seen test images are listed for training "
            f"and validation ({counts})",
            "nothing to do: both lists are intersected with trainval here, and only name classes",
        )
    for part, positions in lists.items():
        number = len(np.intersect1d(positions, raw.parts["test_unseen"]))
        if number:
            yield Finding("warning", "published lists", f"{number} unseen test images are listed in {part}_loc")
    if "val" not in lists:
        yield Finding("note", "validation", "no validation classes are named: a third of the seen are drawn")
    elif _in_range(raw) and validation_classes(raw) is None:
        yield Finding(
            "warning",
            "validation",
            "train_loc and val_loc share classes, or one is without: a third of the seen classes is taken",
        )


def _semantics(raw: RawData) -> Iterator[Finding]:
    for source, table in raw.tables.items():
        if table.ndim != 2 or not np.isfinite(table).all():
            continue
        for a, b in _equal_rows(table):
            yield Finding(
                "warning",
                "descriptions",
                f"{raw.named(a)} and {raw.named(b)} have the same description in {source!r}",
                "no method can distinguish them if one is unseen: describe them in more detail",
            )
        constant = int((table == table[:1]).all(0).sum())
        if constant:
            yield Finding("note", "descriptions", f"{constant} columns of {source!r} are the same for all classes")
        negative = table < 0
        if 0 < negative.mean() < _FEW_NEGATIVE:
            names = ", ".join(raw.named(int(k)) for k in np.flatnonzero(negative.any(1))[:3])
            yield Finding(
                "note",
                "negative entries",
                f"{int(negative.sum())} entries of {source!r} are negative ({names})",
                "nothing to do: they are kept; some code sets them to 0",
            )


def _file_names(raw: RawData) -> Iterator[Finding]:
    if raw.image_files is None or raw.labels is None or raw.class_names is None:
        return
    if len(raw.image_files) != len(raw.labels) or raw.labels.min() < 0 or raw.labels.max() >= len(raw.class_names):
        return
    folders = [
        file.replace("\\", "/").split("/")[-2] if "/" in file.replace("\\", "/") else ""
        for file in raw.image_files
    ]
    plain = {name: _plain(name) for name in {*folders, *raw.class_names}}
    if not {plain[folder] for folder in folders} <= {plain[name] for name in raw.class_names}:
        return  # the folders are not named after the classes
    wrong = sum(plain[folder] != plain[raw.class_names[k]] for folder, k in zip(folders, raw.labels, strict=True))
    if wrong:
        yield Finding(
            "warning", "file names", f"{wrong} images lie in the folder of another class than their label says"
        )


def _features(raw: RawData) -> tuple[list[Finding], Pairs]:
    """Findings of the features, and pairs of images that have the same ones."""
    features = raw.features
    if features is None or features.ndim not in (2, 3) or not len(features):
        return [], np.empty((0, 2), np.int64)
    first_of: dict[bytes, int] = {}
    constant, twins = 0, []
    lowest = np.full(int(np.prod(features.shape[1:])) if features.ndim == 2 else features.shape[2], np.inf)
    highest = -lowest
    for rows in rows_of(features):
        block = np.asarray(features[rows])
        flat = np.ascontiguousarray(block.reshape(len(block), -1))
        tokens = block.reshape(-1, block.shape[-1])
        lowest, highest = np.minimum(lowest, tokens.min(0)), np.maximum(highest, tokens.max(0))
        constant += int((flat == flat[:, :1]).all(1).sum())
        for offset, row in enumerate(flat):
            image = rows.start + offset
            twin = first_of.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), image)
            if twin != image and image not in raw.unreadable:
                twins.append((twin, image))
    found = []
    if constant:
        message = f"{constant} images have the same value in every feature"
        found.append(Finding("warning", "constant images", message))
    dead = int((lowest == highest).sum())
    if dead:
        message = f"{dead} of {len(lowest)} features are the same for all images"
        found.append(Finding("note", "constant features", message))
    return found, np.array(twins, np.int64).reshape(-1, 2)


def _unchecked(raw: RawData) -> Iterator[Finding]:
    if raw.labels is not None and raw.features is None:
        yield Finding("note", "not checked", "there are no features yet: whether they are finite is unchecked")
    if raw.labels is None:
        yield Finding(
            "note",
            "not checked",
            "without a feature file there are no labels: roles, empty classes and features are unchecked",
        )
    if raw.class_names is None:
        yield Finding("note", "class names", "the classes have no names: they are numbered class_1, class_2, ...")


def _equal_rows(table: np.ndarray) -> list[tuple[int, int]]:
    _, group = np.unique(table, axis=0, return_inverse=True)
    members = [np.flatnonzero(group == g) for g in np.flatnonzero(np.bincount(group.ravel()) > 1)]
    return [(int(a), int(b)) for rows in members for a, b in combinations(rows, 2)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalpha())


def _in_range(raw: RawData) -> bool:
    total = raw.number_of_images
    return raw.labels is not None and all(
        not len(positions) or (positions.min() >= 0 and positions.max() < (total or 0))
        for positions in raw.parts.values()
    )
