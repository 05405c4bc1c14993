"""Attacks on the package, as one command that goes on where it stopped and prints one table.

    python experiments/faults.py [readers|kills|flips|all] --out FOLDER

`readers`: damaged files through every reader, some of them through the command line (`fault_readers.py`).
`kills`: writing verbs killed at random moments, and ended right before each of their steps (`faults_kills.py`).
`flips`: flipped bits in every file of a run, an estimator and a store (`faults_flips.py`).

FOLDER keeps a line for each case; another call does what is missing and sums all parts. A case that was a fault is
done again, so that the table shows the code as it is now. FOLDER/table.md has the table with day and machine,
FOLDER/details.md one for each attack by file or verb. The exit code is 1 where there was a fault.
"""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

STEADY = ("train", "train --overwrite", "extract --overwrite", "push --overwrite", "add-class", "adapt")
"""Verbs that are ended before each of their steps."""


def readers(given: argparse.Namespace) -> tuple[list[str], str, bool]:
    """Rows of the table, details, and whether all was well."""
    import fault_readers

    fine = fault_readers.run(given.inputs, given.commands, given.out / "readers.jsonl", log=_log)
    done = fault_readers.outcomes_of(given.out / "readers.jsonl")
    kinds = [one.kind for one in done]
    counts = f"{kinds.count('read'):,} read, {kinds.count('refused'):,} refused in our words"
    faults = ", ".join(f"{kinds.count(kind)} {kind}" for kind in fault_readers.FAULTS)
    worst = f"slowest {max(one.seconds for one in done):.1f} s, most {max(one.bytes for one in done) >> 20:,} MiB"
    by_command = sum(one.case.by_command for one in done)
    what = f"{len(done):,} damaged files, {by_command:,} of them through the command line"
    return [f"| {what} | {counts} | {faults}; {worst} |"], fault_readers.table(done), fine


def kills(given: argparse.Namespace) -> tuple[list[str], str, bool]:
    """Rows of the table, details, and whether all was well."""
    import faults_kills

    stops = STEADY if given.stops is None else given.stops
    lines = faults_kills.run(given.out, kills=given.kills, stops=bool(stops), only=stops) if stops else []
    lines = faults_kills.run(given.out, kills=given.kills, stops=False)
    rows = []
    for kind, what in (("kill", "kills at random moments"), ("stop", "stops before a step")):
        mine = [one for one in lines if one["kind"] == kind]
        whole = sum(one["fault"] is None for one in mine)
        number = sum(one["kills"] for one in mine)
        chains = f" in {len(mine):,} chains" if kind == "kill" else ""
        verbs = len({one["verb"] for one in mine})
        rows.append(
            f"| {number:,} {what}{chains}, {verbs} verbs | {whole:,} of {len(mine):,} identical after going on "
            f"| {len(mine) - whole} others |"
        )
    return rows, faults_kills.table(lines), all(one["fault"] is None for one in lines)


def flips(given: argparse.Namespace) -> tuple[list[str], str, bool]:
    """Rows of the table, details, and whether all was well."""
    import faults_flips

    lines = faults_flips.run(given.out, flips=given.flips)
    kinds = [one["kind"] for one in lines]
    files = len({(one["folder"], one["file"]) for one in lines})
    good = f"{kinds.count('error'):,} errors, {kinds.count('same'):,} with the same results to the last bit"
    bad = [kinds.count(kind) for kind in faults_flips.FAULTS]
    row = f"| {len(lines):,} flipped bits in {files} files | {good} | {bad[0]} other results, {bad[1]} traceback |"
    return [row], faults_flips.table(lines), not any(bad)


ATTACKS: dict[str, Callable[[argparse.Namespace], tuple[list[str], str, bool]]] = {
    "readers": readers,
    "kills": kills,
    "flips": flips,
}


def machine() -> str:
    """The day, and what this ran on, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory} GiB, "
        f"Python {platform.python_version()}"
    )


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parsed(words: Sequence[str] | None) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", nargs="?", choices=[*ATTACKS, "all"], default="all")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--inputs", type=int, default=10_000, help="damaged files in all")
    parser.add_argument("--commands", type=int, default=500, help="of them, through the command line")
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments, over all verbs")
    parser.add_argument("--flips", type=int, default=1_000, help="flipped bits, over all files")
    parser.add_argument("--stops", nargs="*", help=f"verbs that are ended before each step (default: {STEADY})")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Carry out attacks, print the table, and keep it."""
    given = parsed(words)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = ["| what was done | what came of it | faults |", "|---|---|---|"]
    details, fine = [], True
    for name, attack in ATTACKS.items():
        if given.attack in (name, "all"):
            more, detail, good = attack(given)
            rows, details, fine = rows + more, [*details, f"## {name}\n\n{detail}\n"], fine and good
    table = "\n".join(rows) + f"\n\n{machine()}\n"
    (given.out / "table.md").write_text(table, encoding="utf-8")
    (given.out / "details.md").write_text("\n".join(details), encoding="utf-8")
    print(table, end="")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
