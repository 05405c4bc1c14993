"""Comparison of several runs: figures over seeds, and paired differences where the test images are the same."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

from dkgzsl.display import latex_table
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.paired import Difference, Pair, paired_differences, same_images
from dkgzsl.report.wording import FIGURES, mean_percent, printable


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        name: a short name; no two runs have the same.
        content: content of its folder.
        seeds: seeds that both this run and the first have, with the same test images.
        differences: its figures minus those of the first run, over these seeds; empty for the first.
        reason: why `differences` is empty; None for the first run and where it is not empty.
    """

    name: str
    content: RunContent
    seeds: tuple[int, ...]
    differences: dict[str, Difference]
    reason: str | None


def compare(contents: Sequence[RunContent]) -> list[Compared]:
    """Compare runs with the first of them.

    Args:
        contents: at least one run; the first is the reference.
    """
    names = _names(contents)
    first = contents[0]
    compared = [Compared(names[0], first, tuple(first.seeds), {}, None)]
    for name, content in zip(names[1:], contents[1:], strict=True):
        reason, pairs, seeds = _pairs(content, first)
        differences = paired_differences(pairs) if pairs else {}
        compared.append(Compared(name, content, seeds, differences, reason))
    return compared


def _pairs(content: RunContent, first: RunContent) -> tuple[str | None, list[tuple[Pair, Pair]], tuple[int, ...]]:
    if content.result["dataset"] != first.result["dataset"]:
        return "another data set", [], ()
    if content.environment["split_sha256"] != first.environment["split_sha256"]:
        return "another split", [], ()
    if content.on_test != first.on_test:
        return "another protocol", [], ()
    pairs: list[tuple[Pair, Pair]] = []
    seeds = []
    for seed, record in zip(content.seeds, content.records, strict=True):
        other = first.records[first.seeds.index(seed)] if seed in first.seeds else None
        if record is not None and other is not None and same_images(record.predictions, other.predictions):
            pairs.append(((record.predictions, record.constant), (other.predictions, other.constant)))
            seeds.append(seed)
    if not pairs:
        kept = any(content.records) and any(first.records)
        return ("no seed in common" if kept else "a folder without predictions for the test images"), [], ()
    return None, pairs, tuple(seeds)


def _names(contents: Sequence[RunContent]) -> list[str]:
    """The last parts of the folders' paths, as many as make the names different."""
    paths = [content.folder.resolve().parts for content in contents]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(path)} ({number})" for number, path in enumerate(paths, 1)]


def as_object(compared: Sequence[Compared]) -> dict[str, Any]:
    """The comparison as JSON values; fractions of 1."""
    return {
        "reference": str(compared[0].content.folder),
        "runs": [
            {
                **_about(one.content),
                "metrics": one.content.result["metrics"],
                "seconds": one.content.result["seconds"],
                "split_sha256": one.content.environment["split_sha256"],
                "difference": {
                    "seeds": list(one.seeds),
                    "figures": {key: asdict(found) for key, found in one.differences.items()},
                }
                if one.differences
                else None,
                "no_difference": one.reason,
            }
            for one in compared
        ],
    }


def _about(content: RunContent) -> dict[str, Any]:
    """What was run: the first columns of the table."""
    result = content.result
    return {
        "run": str(content.folder),
        "dataset": result["dataset"],
        "method": content.method,
        "protocol": content.protocol,
        "semantics": result["semantics"],
        "backbone": result["backbone"],
        "seeds": content.seeds,
    }


def as_csv(compared: Sequence[Compared]) -> str:
    """The comparison as comma-separated values: a line for each run, fractions of 1, empty where undefined."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    head = [*_about(compared[0].content), "seconds"]
    for key in FIGURES:
        head += [key, f"{key}_std", f"{key}_difference", f"{key}_low", f"{key}_high"]
    writer.writerow(head)
    for one in compared:
        result = one.content.result
        about = {**_about(one.content), "seeds": " ".join(map(str, one.content.seeds))}
        row: list[Any] = [*about.values(), result["seconds"]]
        for key in FIGURES:
            value, found = result["metrics"][key], one.differences.get(key)
            row += ["", ""] if value is None else [value["mean"], value["std"]]
            row += ["", "", ""] if found is None else [found.value, found.low, found.high]
        writer.writerow(["" if cell is None else cell for cell in row])
    return text.getvalue()


def as_latex(compared: Sequence[Compared]) -> str:
    """The figures as a booktabs table, in percent: a line for each run, mean ± deviation over seeds."""
    several = any(one.content.several for one in compared)
    rows = []
    for one in compared:
        metrics = one.content.result["metrics"]
        rows.append([printable(one.name), *(mean_percent(metrics.get(key), several=several) for key in FIGURES)])
    return latex_table(["%", *(label for label, _ in FIGURES.values())], rows)
