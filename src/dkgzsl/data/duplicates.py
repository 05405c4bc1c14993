"""Images that are the same: by their files before there are features, by their features afterwards."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int

from dkgzsl.data.checks import PARTS, Finding
from dkgzsl.data.raw import RawData
from dkgzsl.features.photo_files import as_on_disk

Pairs = Int[np.ndarray, "pairs 2"]
_NAMED: Final = 20
"""Pairs that a message names; a screen holds no more. `--json` has all of them."""


def equal_files(paths: Sequence[str]) -> Pairs:
    """Pairs of images whose files have the same content; only files of one size are read."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for image, path in enumerate(paths):
        try:
            size = as_on_disk(Path(path)).stat().st_size
        except OSError:
            continue
        if size:  # two empty files are no two photos
            by_size[size].append(image)
    pairs: list[tuple[int, int]] = []
    for images in by_size.values():
        first_of: dict[bytes, int] = {}
        for image in images if len(images) > 1 else ():
            digest = sha256(as_on_disk(Path(paths[image])).read_bytes()).digest()
            twin = first_of.setdefault(digest, image)
            if twin != image:
                pairs.append((twin, image))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def duplicate_findings(raw: RawData, twins: Pairs, *, by: str) -> Iterator[Finding]:
    """What is said of images that are the same: first of those in two classes, then of all.

    Args:
        raw: the data.
        twins: pairs of equal images.
        by: what is equal, for the messages: files or features.
    """
    labels = raw.labels
    apart = np.zeros(len(twins), bool) if labels is None else labels[twins[:, 0]] != labels[twins[:, 1]]
    if apart.any():
        yield Finding(
            "warning",
            "duplicate images",
            f"{int(apart.sum())} images stand in two classes, with the same {by}: {_named(raw, twins[apart])}",
            "decide which class each shows, and take it out of the other",
        )
    if len(twins):
        across, within = _across_parts(raw, twins), twins[~apart]
        pairs = f": {_named(raw, within)}" if len(within) else ""
        yield Finding(
            "warning" if across else "note",
            "duplicate images",
            f"{len(twins)} images have exactly the {by} of another; {across} of these pairs are in trainval "
            f"and in a test part{pairs}",
            "take one of each pair out" if across else None,
        )


def as_rows(raw: RawData, twins: Pairs) -> list[dict[str, Any]]:
    """All pairs as JSON values."""
    rows = []
    for first, second in twins.tolist():
        known = raw.image_files is not None and max(first, second) < len(raw.image_files)
        files = raw.image_files if known else None
        one = {"images": [files[at] if files else image_name(raw, at) for at in (first, second)]}
        labels = [] if raw.labels is None else [raw.named(int(raw.labels[image])) for image in (first, second)]
        rows.append(one | {"classes": labels})
    return rows


def image_name(raw: RawData, image: int) -> str:
    """Path of an image's file from the folder that all of them share; or else its number in the data's files."""
    if raw.image_files is None or image >= len(raw.image_files):
        return f"image {image + raw.counts_from}"
    files = [file.replace("\\", "/") for file in raw.image_files]
    folders = [file.rpartition("/")[0].rpartition("/")[0] for file in files]
    shared = os.path.commonpath(folders) if all(folders) else ""
    return files[image].removeprefix(shared).lstrip("/")


def _named(raw: RawData, twins: Pairs) -> str:
    def one(image: int) -> str:
        of = "" if raw.labels is None else f" ({raw.named(int(raw.labels[image]))})"
        return image_name(raw, image) + of

    shown = [f"{one(first)} = {one(second)}" for first, second in twins[:_NAMED].tolist()]
    more = f"; and {len(twins) - _NAMED} more pairs (--json has all)" if len(twins) > _NAMED else ""
    return "; ".join(shown) + more


def _across_parts(raw: RawData, twins: Pairs) -> int:
    part_of = np.full(int(twins.max()) + 1, -1)
    for number, part in enumerate(PARTS):
        positions = raw.parts[part]
        part_of[positions[(positions >= 0) & (positions < len(part_of))]] = number
    trained, tested = (part_of[twins] == 0).any(1), (part_of[twins] > 0).any(1)
    return int((trained & tested).sum())
