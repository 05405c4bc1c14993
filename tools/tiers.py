"""List the tests that take longer than their tier allows, and exit with 1 where there is one.

    pytest -n 2 --junitxml=build/tests.xml
    python tools/tiers.py build/tests.xml

Printed: tests and seconds of each tier, the slowest files, tests that are too long for their tier, and standard
files that are fast enough for `quick`. The seconds of a test include its fixtures; a fixture that several tests
share counts for the first of them. tests/tiers.py has the tiers.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

MOST = {"quick": 2.0, "standard": 30.0, "long": 400.0}
"""Seconds that one test of a tier may take."""
BUDGETS = {"quick": 60.0, "quick and standard": 600.0}
"""Seconds that the tests of a tier may take together, on `CORES` cores."""
CORES = 2
FAST_FILE = 1.0
"""Seconds of a whole file, below which it could be quick."""


class Unreadable(Exception):
    """The file is no result of these tests."""


@dataclass(frozen=True)
class Timed:
    """One test, its file, its tier, and its seconds."""

    name: str
    file: str
    tier: str
    seconds: float


def read(path: Path) -> list[Timed]:
    """The tests of a JUnit file that pytest has written; skipped ones are left out.

    Raises:
        Unreadable: the file is missing, is no XML, or has a test without a tier.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise Unreadable(f"{path} cannot be read ({error}); write it: pytest --junitxml={path}") from error
    return [_timed(case, path) for case in root.iter("testcase") if case.find("skipped") is None]


def _timed(case: ElementTree.Element, path: Path) -> Timed:
    file = case.get("classname", "").replace(".", "/") + ".py"
    name = f"{file}::{case.get('name')}"
    tiers = [each.get("value", "") for each in case.iter("property") if each.get("name") == "tier"]
    if not tiers or tiers[0] not in MOST:
        raise Unreadable(f"{path}: {name} has no tier; write the file again with the tests of this folder")
    return Timed(name, file, tiers[0], float(case.get("time", "0")))


def seconds_of(tests: Sequence[Timed]) -> dict[str, float]:
    """Seconds of each tier, all tests one after the other."""
    return {tier: sum(test.seconds for test in tests if test.tier == tier) for tier in MOST}


def files_of(tests: Sequence[Timed], tier: str) -> dict[str, float]:
    """Seconds of each file in a tier, the slowest first."""
    found: dict[str, float] = defaultdict(float)
    for test in tests:
        if test.tier == tier:
            found[test.file] += test.seconds
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def too_long(tests: Sequence[Timed], most: Mapping[str, float] = MOST) -> list[Timed]:
    """Tests that take longer than one test of their tier may take, the slowest first."""
    return sorted((test for test in tests if test.seconds > most[test.tier]), key=lambda test: -test.seconds)


def over_budget(tests: Sequence[Timed], cores: int = CORES) -> Iterator[str]:
    """A line for each tier whose tests take too long together."""
    seconds = seconds_of(tests)
    sums = {"quick": seconds["quick"], "quick and standard": seconds["quick"] + seconds["standard"]}
    for name, limit in BUDGETS.items():
        if sums[name] > limit * cores:
            yield f"{name}: {sums[name]:.0f} s, more than {limit:.0f} s on {cores} cores"


def main(words: Sequence[str] | None = None) -> int:
    """Print the lists; 1 where a test or a tier is too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what `pytest --junitxml=FILE` has written")
    parser.add_argument("--files", type=int, default=10, help="slowest files to print for each tier")
    given = parser.parse_args(words)
    try:
        tests = read(given.file)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    for tier, seconds in seconds_of(tests).items():
        print(f"{tier}: {sum(test.tier == tier for test in tests)} tests, {seconds:.0f} s")
        for file, of_file in list(files_of(tests, tier).items())[: given.files]:
            print(f"  {of_file:7.1f} s  {file}")
    fast = [file for file, seconds in files_of(tests, "standard").items() if seconds < FAST_FILE]
    print(f"standard files that could be quick (below {FAST_FILE:.0f} s): {', '.join(fast) or 'none'}")
    slow = too_long(tests)
    for test in slow:
        print(f"too long for {test.tier} ({MOST[test.tier]:.0f} s): {test.seconds:.1f} s  {test.name}")
    over = list(over_budget(tests))
    print(*over, sep="\n", end="\n" if over else "")
    return 1 if slow or over else 0


if __name__ == "__main__":
    sys.exit(main())
