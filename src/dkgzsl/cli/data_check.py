"""`dkgzsl data check`: search for leaks, off-by-ones, NaN and other traps in a data set."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dkgzsl.cli.next_step import command, next_line
from dkgzsl.errors import DataError

if TYPE_CHECKING:
    from dkgzsl.data.checks import Finding


@dataclass(frozen=True)
class Config:
    """Search for leaks, off-by-ones, NaN and other traps in a data set; exit code 2 where there are errors.

    It also says what `train` would refuse. An imported problem is checked without --features, too, before it is
    extracted.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME_OR_FOLDER")]
    """Data set by name, a folder in the xlsa17 layout, a feature map file, or an imported problem."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    features: str | None = None
    """Feature file by name or path, or a feature store (default: res101, or the only one there is)."""
    semantics: str | None = None
    """Split file to start from, by the name of its class descriptions (default: att)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Print the findings.

    Raises:
        DataError: there is no such data set, a file cannot be read, or a finding is an error.
    """
    from dkgzsl.data.doctor import examined
    from dkgzsl.data.duplicates import as_rows
    from dkgzsl.data.load import read_unchecked
    from dkgzsl.runs.plan import refusals

    raw = read_unchecked(
        config.name, data_root=config.data_root, features=config.features, semantics=config.semantics
    )
    findings, twins = examined(raw)
    if not any(finding.severity == "error" for finding in findings):
        findings = [*refusals(raw), *findings]
    number = Counter(finding.severity for finding in findings)
    if config.json:
        content = {"dataset": raw.name, "where": raw.where, "findings": [asdict(f) for f in findings]}
        print(json.dumps({**content, "duplicates": as_rows(raw, twins)}))
    else:
        _print(findings)
        seen = "" if raw.number_of_images is None else f"{raw.number_of_images} images, "
        print(
            f"{raw.name}: {seen}{raw.number_of_classes} classes; {number['error']} errors, {number['warning']} "
            f"warnings, {number['note']} notes"
        )
    if not number["error"] and not config.json:
        print(next_line(_next(config)))
    if number["error"]:
        untrainable = all(finding.check == "training" for finding in findings if finding.severity == "error")
        why = "train refuses it" if untrainable else "no honest figure can be computed from it"
        raise DataError(f"{raw.name} has {number['error']} errors: {why}", where=raw.where)


def _next(config: Config) -> str:
    """Extract what has no features yet, and train on what has."""
    from dkgzsl.data.formats.problem_folder import extract_command, is_problem_folder

    problem = Path(config.name)
    if config.features is None and is_problem_folder(problem):
        return extract_command(problem)
    given = {"data-root": config.data_root, "features": config.features, "semantics": config.semantics}
    flags = [word for key, value in given.items() if value is not None for word in (f"--{key}", value)]
    return command("train", config.name, *flags)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    colours = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        line = Text(f"{finding.severity:<8}", style=colours[finding.severity])
        console.print(line.append(f"{finding.check}: {finding.message}", style="default"))
        if finding.fix:
            console.print(Text(f"{'':<8}-> {finding.fix}"))
