"""docs/methods/index.md says of the methods what the registry says."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from dkgzsl.cli.main import VERBS, main
from dkgzsl.cli.parse import parse
from dkgzsl.config import TrainConfig
from dkgzsl.methods.base import CAPABILITIES, SavedModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.registry import BUILT_IN, method_info, unable
from dkgzsl.methods.sections import read_train_config

PAGE = (Path(__file__).parents[2] / "docs" / "methods" / "index.md").read_text(encoding="utf-8")
LINKED = re.compile(r"\[`([a-z0-9-]+)`\]\(\1\.md\)")  # a method's name, linked to its page
BY_CLASS = {one.protocol.__name__: name for name, one in CAPABILITIES.items()}


def tables() -> list[list[list[str]]]:
    """The cells of each table, without the line under its header."""
    found = re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE)
    rows = [[line.strip("|").split("|") for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in table if set(row[0]) != {"-"}] for table in rows]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Named:
    """A model of a kind without capabilities."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    seen = unseen = semantics = torch.empty(0)

    def scores(self, features):
        raise NotImplementedError

    conventional_scores = load = scores

    def save(self) -> SavedModel:
        return SavedModel(self.kind, {}, {})


def test_the_table_has_the_capabilities_of_the_registry() -> None:
    header, *rows = tables()[0]
    columns = [BY_CLASS[cell.strip("`")] for cell in header[1:]]
    assert columns == list(CAPABILITIES)
    shown = {LINKED.fullmatch(row[0])[1]: dict(zip(columns, row[1:], strict=True)) for row in rows}
    assert list(shown) == list(BUILT_IN)
    assert len(rows) == len(shown)
    for name, cells in shown.items():
        has = method_info(name).capabilities
        assert cells == {one: "yes" if one in has else "no" for one in columns}, name


def test_every_method_is_described_once_with_its_paper() -> None:
    section = PAGE.split("## What each method is\n")[1].split("\n## ")[0]
    found = re.findall(rf"^- {LINKED.pattern} \((.+?)\)", section, re.MULTILINE)
    assert [name for name, _ in found] == list(BUILT_IN)
    for name, cited in found:
        authors, venue = cited.rsplit(", ", 1)
        paper = method_info(name).paper
        assert paper.endswith(venue), name
        assert paper.startswith(authors), name


def test_the_pages_of_the_methods_are_in_the_table_of_contents() -> None:
    (contents,) = re.findall(r"^```\{toctree\}\n:hidden:\n\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert contents.split() == list(BUILT_IN)


def test_the_methods_that_train_by_epochs_are_named() -> None:
    (sentence,) = re.findall(r"^(`dkgzsl`, .*?) train by epochs", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"`(.+?)`", sentence) == [name for name in BUILT_IN if method_info(name).iterative]


def test_the_verbs_errors_are_as_printed() -> None:
    _, *rows = tables()[1]
    for verb, _, needed, says in rows:
        assert verb.split("`")[1] in VERBS
        capability = BY_CLASS[re.findall(r"`(\w+)`", needed)[-1]]
        kind = re.search(r"\((.+?)\)", says)[1]
        assert kind == "my-method" or capability not in method_info(kind).capabilities
        assert says.strip("`") == unable(Named(kind), capability).what
    assert {BY_CLASS[one] for row in rows for one in re.findall(r"`(\w+)`", row[2])} == set(CAPABILITIES)
    (shown,) = [block for block in blocks("console") if block.startswith("$ dkgzsl synthesize")]
    assert shown.split("\n", 1)[1] == f"error: {unable(Named('eszsl'), 'generator', where='runs/eszsl')}\n"


@pytest.mark.parametrize("line", re.findall(r"^dkgzsl (train .+)$", PAGE, re.MULTILINE))
def test_the_commands_are_taken(line, capsys) -> None:
    assert main([*shlex.split(line), "--dry-run"]) == 0
    assert "dry run: nothing was written" in capsys.readouterr().out


def test_the_yaml_file_sets_the_section_as_the_flags_do(tmp_path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(text)
    config = read_train_config(tmp_path / "mine.yaml")
    assert isinstance(config.settings, ClosedFormSettings)
    assert config.settings.ridge == (0.01, 0.1)
    words = "numbers --method closed-form --closed-form.classifier softmax --closed-form.softmax.per-class 50"
    assert f"dkgzsl train {words}\n" in PAGE
    by_flags = parse(TrainConfig, words.split(), verb="train").settings
    assert (by_flags.classifier, by_flags.softmax) == (config.settings.classifier, config.settings.softmax)


def test_the_python_blocks_run_and_print_what_they_say(capsys) -> None:
    for text in blocks("python"):
        exec(text, {})
        printed = re.findall(r"  # (.+)$", text, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == printed
