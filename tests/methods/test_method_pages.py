"""docs/methods/NAME.md: each method has a page that says of it what the code says."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from dkgzsl.methods.base import CAPABILITIES
from dkgzsl.methods.registry import BUILT_IN, method_info

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = (
    "When to use it",
    "How it works",
    "Settings",
    "Where it differs from the paper",
    "Cost",
    "Capabilities",
)


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return page(name).split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of the only table in a text, without its header."""
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [line.split(" | ") for line in lines if not line.startswith("setting |")]


def defaults(settings: type[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and default of each setting, as the pages print them."""
    for one in fields(settings):
        value = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
        if is_dataclass(value):
            yield from defaults(type(value), f"{prefix}{one.name}.")
        elif isinstance(value, tuple):
            yield f"`{prefix}{one.name}`", ", ".join(map(str, value))
        else:
            yield f"`{prefix}{one.name}`", "open" if value is None else str(value)


def test_there_is_a_page_for_each_method_and_no_other() -> None:
    assert {one.stem for one in FOLDER.glob("*.md")} == {*BUILT_IN, "index"}


@pytest.mark.parametrize("name", BUILT_IN)
class TestPage:
    def test_it_has_name_paper_and_sections(self, name) -> None:
        text = page(name)
        assert text.startswith(f"# {name}\n")
        assert f"**Paper**: {method_info(name).paper} ## When" in " ".join(text.split())
        assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == SECTIONS
        assert all(section(name, title).strip() for title in SECTIONS)
        assert "$$\n" in section(name, "How it works")

    def test_its_settings_are_those_of_the_settings_class(self, name) -> None:
        shown = [(setting, default) for setting, default, _ in rows(section(name, "Settings"))]
        assert shown == list(defaults(method_info(name).settings))

    def test_its_section_and_flags_are_those_of_the_command_line(self, name) -> None:
        text = section(name, "Settings")
        if rows(text):
            assert f"Section `{method_info(name).section}:` in YAML, flags `--{name}.NAME`." in text

    def test_its_capabilities_are_those_of_the_registry(self, name) -> None:
        shown = re.findall(r"^\| (\w+): .+ \| (yes|no) \|$", section(name, "Capabilities"), re.MULTILINE)
        has = method_info(name).capabilities
        assert shown == [
            (capability.protocol.__name__, "yes" if one in has else "no")
            for one, capability in CAPABILITIES.items()
        ]

    def test_its_seconds_say_where_they_were_measured(self, name) -> None:
        cost = section(name, "Cost")
        linked = re.findall(r"\]\(\.\./(benchmarks/[\w/-]+\.md)\)", cost)
        assert bool(linked) == bool(re.search(r"\d s\b", cost))
        assert all((FOLDER.parent / one).is_file() for one in linked)
