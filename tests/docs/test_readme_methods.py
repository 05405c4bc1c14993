"""README.md lists the methods of the registry, each with its paper and its page, on about one screen."""

import re
from pathlib import Path

from dkgzsl.methods.registry import BUILT_IN, method_info

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_methods_are_those_of_the_registry_with_their_papers() -> None:
    rows = re.findall(r"^\| \[`([a-z0-9-]+)`\]\(docs/methods/\1\.md\) \| (.+) \|$", README, re.MULTILINE)
    assert [name for name, _ in rows] == list(BUILT_IN)
    for name, cited in rows:
        authors, _, venue = cited.rpartition(", ")
        paper = method_info(name).paper
        assert paper.startswith(authors), name
        assert paper.endswith(venue), name


def test_it_stays_short() -> None:
    assert README.count("\n") <= 120


def test_one_line_installs_and_runs_the_tests() -> None:
    assert len(re.findall(r"^python3 -m venv .*pytest", README, re.MULTILINE)) == 1
