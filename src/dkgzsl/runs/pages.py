"""A finished run read from its folder, and its page written there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dkgzsl.checksums import is_sealed
from dkgzsl.compatibility import upgraded_event
from dkgzsl.errors import RunError
from dkgzsl.files import output_file
from dkgzsl.methods.sections import read_settings_file
from dkgzsl.reading import read_json_lines, reading
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.record.record import Record
from dkgzsl.runs.folder import RunFolder, versions_of
from dkgzsl.runs.later import added_classes
from dkgzsl.runs.schema import Event
from dkgzsl.runs.summary import read_per_class

if TYPE_CHECKING:
    from dkgzsl.report.pages.compare import Compared


REPORT = "report.html"


def read_run(path: Path) -> RunContent:
    """What the folder of a finished run holds.

    Raises:
        RunError: it is no run folder, the run is not finished, or a file is damaged.
    """
    folder = RunFolder.open(path)
    result = folder.read_result()
    config = read_settings_file(folder.file("config.yaml"))
    damaged = "the run folder is damaged: metrics.jsonl"
    events = read_json_lines(folder.file("metrics.jsonl"), Event, damaged, error=RunError)
    log = [upgraded_event(event) for event in events]
    classes = read_per_class(folder.file("per_class.csv"))
    return RunContent(
        folder=path,
        result=result,
        environment=folder.read_json("environment.json"),
        config=config,
        log=log,
        records=tuple(Record.read(folder.record_file(position)) for position in range(len(result["seeds"]))),
        baseline=Record.read(folder.record_file("baseline")),
        default=Record.read(folder.record_file("default")),
        classes=classes,
        versions=len(versions_of(path)),
        added=added_classes(path),
        files=tuple(
            sorted((p.name, p.stat().st_size) for p in path.iterdir() if p.is_file() and p.name != REPORT)
        ),
    )


def write_report(path: Path, *, out: Path | None = None, images: bool = True) -> Path:
    """Make the page of a run.

    Args:
        path: the run folder.
        out: file to write (default: `report.html` in the folder).
        images: whether test images are put into the page, where they are found.

    Raises:
        RunError: the run is not finished, or the page cannot be written.
    """
    from dkgzsl.report.pages.run import render_run

    content = read_run(path)
    damaged, sealed = "the page cannot be made of what the run folder holds", is_sealed(path)
    with reading(damaged, path, error=RunError, fix="train again", verified=sealed):
        page = render_run(content, images=images)
    return write_page(out or path / REPORT, page)


def compare_runs(paths: Sequence[Path]) -> list[Compared]:
    """A comparison of runs with the first one.

    Raises:
        RunError: one of them is no finished run, or a run is named twice.
    """
    from dkgzsl.report.pages.compare import compare

    twice = next(
        (path for n, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:n]]), None
    )
    if twice is not None:
        raise RunError("the run is named twice", where=str(twice), fix="name each run once")
    contents = [read_run(path) for path in paths]
    sealed, where = all(map(is_sealed, paths)), paths[0] if paths else ""
    with reading("the runs cannot be compared", where, error=RunError, fix="train them again", verified=sealed):
        return compare(contents)


def write_comparison(paths: Sequence[Path], *, out: Path) -> Path:
    """Make one page of several runs.

    Raises:
        RunError: one of them is no finished run, or the page cannot be written.
    """
    from dkgzsl.report.pages.comparison import render_comparison

    return write_page(out, render_comparison(compare_runs(paths)))


def write_page(out: Path, page: str) -> Path:
    """Write a page, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with output_file(out) as draft:
            draft.write_bytes(page.encode())
    except OSError as error:
        raise RunError(f"cannot write the page: {error.strerror or error}", where=str(out)) from error
    return out
