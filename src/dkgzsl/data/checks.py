"""The checks of every data set, whatever its format: where one fails, no honest figure can be computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final, Literal

import numpy as np
from jaxtyping import Int

from dkgzsl.data.gaps import gap_notes
from dkgzsl.data.raw import RawData
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import Features, rows_of

Severity = Literal["error", "warning", "note"]
PARTS: Final = ("trainval", "test_seen", "test_unseen")
_SAMPLED_IMAGES: Final = 64


@dataclass(frozen=True)
class Finding:
    """One thing found in a data set.

    Attributes:
        severity: error: no honest figure can be computed; warning: likely a mistake; note: worth knowing.
        check: name of the check, for machines.
        message: what was found, one sentence.
        fix: what to do about it.
    """

    severity: Severity
    check: str
    message: str
    fix: str | None = None


def refuse_errors(raw: RawData) -> None:
    """Raise the first error of `structure`.

    Raises:
        DataError: there is one.
    """
    for finding in structure(raw):
        if finding.severity == "error":
            raise DataError(finding.message, where=raw.where, fix=finding.fix)


def structure(raw: RawData, *, every_region: bool = False) -> Iterator[Finding]:
    """Errors and warnings of counts, labels, parts and roles; those that others depend on come first.

    A check that needs what an earlier one found broken is left out. Of region features, which may be far larger
    than memory, a sample of images is searched for NaN, unless `every_region`.
    """
    counts = list(_counts(raw))
    yield from counts
    labels = list(_labels(raw)) if not counts else []
    yield from labels
    parts = list(_parts(raw))
    yield from parts
    broken = any(finding.severity == "error" for finding in (*counts, *labels, *parts))
    if raw.unreadable and not counts and not labels:
        yield from _unreadable_classes(raw)
    if raw.labels is not None and not counts and not labels and not _out_of_range(raw):
        yield from _roles(raw)
        if not broken:
            yield from _empty_classes(raw)
    yield from _descriptions(raw)
    yield from _finite_features(raw, every_region=every_region)


def mending_shift(raw: RawData) -> dict[str, int] | None:
    """The smallest shift of the parts' positions by one that makes them sound; None where none does.

    Several releases of the field carry indices that are off by one (PROTOCOL: trap 2). Sound is: in range,
    disjoint, covering all images and, with labels, no class of `test_unseen` in the other parts.
    """
    total = raw.number_of_images
    if total is None:
        total = sum(len(raw.parts[part]) for part in PARTS)
    candidates = sorted(product((0, -1, 1), repeat=3), key=lambda shift: sum(map(abs, shift)))
    for shift in candidates[1:]:
        moved = {part: raw.parts[part] + by for part, by in zip(PARTS, shift, strict=True)}
        together = np.concatenate(list(moved.values()))
        if len(together) != total or not np.array_equal(np.sort(together), np.arange(total)):
            continue
        if raw.labels is not None and len(_shared_classes(raw.labels, moved)):
            continue
        return {part: by for part, by in zip(PARTS, shift, strict=True) if by}
    return None


def _counts(raw: RawData) -> Iterator[Finding]:
    def differ(what: str, found: int, expected: int, of: str) -> Finding:
        return Finding("error", "counts", f"{what}: {found}, but {expected} {of}", "use files of one release")

    total, classes = raw.number_of_images, raw.number_of_classes
    if raw.features is not None:
        if raw.features.ndim not in (2, 3):
            yield Finding(
                "error", "counts", f"features have {raw.features.ndim} axes, not 2 (pooled) or 3 (regions)"
            )
        elif total is not None and len(raw.features) != total:
            yield differ("images with features", len(raw.features), total, "labels")
    if raw.image_files is not None and total is not None and len(raw.image_files) != total:
        yield differ("image files", len(raw.image_files), total, "labels")
    for source, table in raw.tables.items():
        if len(table) != classes:
            yield differ(f"class descriptions {source!r}", len(table), classes, "classes")
    if raw.class_names is not None and len(set(raw.class_names)) != classes:
        yield Finding("error", "counts", "two classes have the same name", "give every class another name")


def _labels(raw: RawData) -> Iterator[Finding]:
    if raw.labels is None:
        return
    classes, first = raw.number_of_classes, raw.counts_from
    if not len(raw.labels):
        yield Finding("error", "labels", "there are no images")
        return
    low, high = int(raw.labels.min()), int(raw.labels.max())
    if low >= 0 and high < classes:
        return
    fix = "use labels and class descriptions of one release"
    for shift in (1, -1):
        if low + shift >= 0 and high + shift < classes and low + shift == 0:
            fix = (
                f"the labels seem to count from {1 - first} instead of {first}: adding {shift} to each mends them"
            )
    yield Finding(
        "error",
        "labels",
        f"labels out of range: from {low + first} to {high + first}, where {classes} classes are described, "
        f"{first} to {classes - 1 + first}",
        fix,
    )


def _parts(raw: RawData) -> Iterator[Finding]:
    out = _out_of_range(raw)
    doubled = [(p, len(raw.parts[p]) - len(np.unique(raw.parts[p]))) for p in PARTS]
    overlaps = [(a, b, len(np.intersect1d(raw.parts[a], raw.parts[b]))) for a, b in combinations(PARTS, 2)]
    union = np.unique(np.concatenate([raw.parts[p] for p in PARTS]))
    total = raw.number_of_images
    if total is None:  # no features: the parts of the field's files cover 1 to N without a gap
        total = int(union.max()) + 1 if len(union) else 0
    missing = total - int(((union >= 0) & (union < total)).sum())
    fix = _shift_hint(raw) if out or missing or any(n for *_, n in overlaps) else None
    for part, number, low, high in out:
        yield Finding(
            "error",
            "range",
            f"{part}: {number} positions out of range (from {low} to {high}; there are {total} images, "
            f"counted from {raw.counts_from})",
            fix,
        )
    for part, number in doubled:
        if number:
            yield Finding("error", "repeats", f"{part} lists {number} images twice", "list each image once")
    for a, b, number in overlaps:
        if number:
            yield Finding(
                "error", "overlap", f"{number} images are in {a} and in {b}", fix or "give each image one part"
            )
    if missing:
        yield Finding("warning", "coverage", f"{missing} of {total} images are in no part", fix)
    if not len(raw.parts["trainval"]):
        yield Finding("error", "parts", "trainval is empty: nothing can be trained")


def _out_of_range(raw: RawData) -> list[tuple[str, int, int, int]]:
    total = raw.number_of_images
    found = []
    for part, positions in raw.parts.items():
        bad = positions < 0 if total is None else (positions < 0) | (positions >= total)
        if bad.any():
            first = raw.counts_from
            found.append((part, int(bad.sum()), int(positions.min()) + first, int(positions.max()) + first))
    return found


def _shift_hint(raw: RawData) -> str | None:
    shift = mending_shift(raw)
    if shift is None:
        return None
    amounts = set(shift.values())
    if len(shift) == len(PARTS) and len(amounts) == 1:
        return f"the positions are off by one: adding {amounts.pop():+d} to all of them mends the split"
    moves = " and ".join(f"{by:+d} to {part}" for part, by in shift.items())
    return f"positions are off by one: adding {moves} mends the split"


def _shared_classes(labels: Int[np.ndarray, " _"], parts: dict[str, np.ndarray]) -> Int[np.ndarray, " _"]:
    seen = np.union1d(labels[parts["trainval"]], labels[parts["test_seen"]])
    return np.intersect1d(seen, labels[parts["test_unseen"]])


def _roles(raw: RawData) -> Iterator[Finding]:
    assert raw.labels is not None
    parts = {part: raw.parts[part] for part in PARTS}
    both = _shared_classes(raw.labels, parts)
    if len(both):
        leaked = int(np.isin(raw.labels[parts["trainval"]], both).sum())
        stray = int(np.isin(raw.labels[parts["test_unseen"]], both).sum())
        names = ", ".join(raw.named(int(k)) for k in both[:3]) + (", ..." if len(both) > 3 else "")
        yield Finding(
            "error",
            "roles",
            f"{len(both)} classes are seen and unseen at once ({names}): {leaked} images of them in trainval, "
            f"{stray} in test_unseen",
            _shift_hint(raw) or "give each class one role",
        )
    untrained = np.setdiff1d(raw.labels[parts["test_seen"]], raw.labels[parts["trainval"]])
    if len(untrained):
        yield Finding(
            "error",
            "roles",
            f"{len(untrained)} classes of test_seen have no training image "
            f"(the first: {raw.named(int(untrained[0]))})",
            "move their images to test_unseen, or some of them to trainval",
        )


def _unreadable_classes(raw: RawData) -> Iterator[Finding]:
    """A class whose images cannot be read would become an unseen class without images."""
    assert raw.labels is not None
    reasons: dict[int, list[str]] = {}
    for position, why in raw.unreadable.items():
        reasons.setdefault(int(raw.labels[position]), []).append(why)
    for label, whys in sorted(reasons.items()):
        if len(whys) == int((raw.labels == label).sum()):
            why, count = Counter(whys).most_common(1)[0]
            shown = why if count == len(whys) else f"{count} of them: {why}"
            yield Finding(
                "error",
                "unreadable class",
                f"class {raw.named(label)}: {len(whys)} files, none can be read as an image ({shown})",
                "replace the files, or take the class's folder out; then import and extract again",
            )


def _empty_classes(raw: RawData) -> Iterator[Finding]:
    assert raw.labels is not None
    empty = np.setdiff1d(np.arange(raw.number_of_classes), raw.labels)
    if len(empty) and not raw.described_only:
        yield Finding(
            "error",
            "empty class",
            f"{len(empty)} classes have no image (the first: {raw.named(int(empty[0]))})",
            "take them out of the class descriptions, or use features and splits of one release",
        )


def _descriptions(raw: RawData) -> Iterator[Finding]:
    if not raw.tables:
        yield Finding("error", "descriptions", "no class is described: there is no table of class descriptions")
    for source, table in raw.tables.items():
        if table.ndim != 2 or not table.size:
            yield Finding("error", "descriptions", f"class descriptions {source!r} are empty")
            continue
        gaps = np.isnan(table) & ~np.isnan(table).all(1, keepdims=True)
        if gaps.any() and raw.described_only:  # one's own table; in a published one NaN is a mistake
            for note in gap_notes(
                np.where(gaps, np.nan, table), classes=[raw.named(k) for k in range(len(table))]
            ):
                severity: Severity = "warning" if note.startswith("warning: ") else "note"
                yield Finding(severity, "missing values", f"{source!r}: {note.removeprefix('warning: ')}")
            table = np.where(gaps, 0.0, table)
        broken = np.flatnonzero(~np.isfinite(table).all(1))
        if len(broken):
            yield Finding(
                "error",
                "nan",
                f"class descriptions {source!r} hold NaN or infinity in {len(broken)} classes "
                f"(the first: {raw.named(int(broken[0]))})",
                "fill in the missing values",
            )
        zero = np.flatnonzero((table == 0).all(1))
        if len(zero):
            yield Finding(
                "error",
                "descriptions",
                f"class descriptions {source!r} are all zero for {len(zero)} classes "
                f"(the first: {raw.named(int(zero[0]))})",
                "describe every class, or take the class out",
            )


def _finite_features(raw: RawData, *, every_region: bool) -> Iterator[Finding]:
    features = raw.features
    if features is None or features.ndim not in (2, 3) or not len(features):
        return
    sampled = features.ndim == 3 and not every_region
    blocks: list[slice | np.ndarray] = (
        [np.unique(np.linspace(0, len(features) - 1, _SAMPLED_IMAGES).astype(int))]
        if sampled
        else [*rows_of(features)]
    )
    broken, first = 0, 0
    for rows in blocks:
        found = np.arange(len(features))[rows][~_finite_rows(features, rows)]
        if len(found) and not broken:
            first = int(found[0])
        broken += len(found)
    if broken:
        yield Finding(
            "error",
            "nan",
            f"features hold NaN or infinity in {broken} images (the first: {first + raw.counts_from})",
            "extract these images again, or take them out",
        )


def _finite_rows(features: Features, rows: slice | np.ndarray) -> np.ndarray:
    block = np.asarray(features[rows])
    if block.dtype.kind not in "fiu":
        raise DataError(f"features must be numbers, not {block.dtype}")
    return np.asarray(np.isfinite(block.reshape(len(block), -1)).all(1))
