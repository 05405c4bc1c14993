"""docs/adapt.md: its commands and Python blocks work, and the figures of the rule in it are the package's."""

import re
import shlex
from pathlib import Path

import pytest

from dkgzsl.cli.adapt import Config
from dkgzsl.cli.main import main
from dkgzsl.cli.parse import parse
from dkgzsl.methods.adaptation import HOLDS_DESCRIBED
from dkgzsl.methods.closed_form.adaptation import ITERATIONS, TEMPERATURE

PAGE = (Path(__file__).parents[2] / "docs" / "adapt.md").read_text(encoding="utf-8")
QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += [
    "--closed-form.kernel-width",
    "2",
    "--closed-form.feature-kernel-width",
    "0",
    "--closed-form.episodes",
    "off",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_first_steps_work_in_their_order(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[0], {})
    commands = [shlex.split(line)[1:] for line in blocks("console")[0].splitlines()]
    assert [words[0] for words in commands] == ["train", "adapt", "adapt"]
    for words in commands:
        quick = [*QUICK, "--baseline", "none", "--report", "off"] if words[0] == "train" else []
        if words[-1] == "--force" and (tmp_path / "runs" / "numbers" / "versions").exists():
            continue  # this machine's first one was not refused, and the same pool is
        assert main([*words, *quick]) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "numbers" / "versions" / "1").is_dir()


@pytest.mark.parametrize("line", [line for block in blocks("console")[1:] for line in block.splitlines()])
def test_the_other_commands_are_taken(line, capsys) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "adapt":
        assert parse(Config, words[1:], verb="adapt").run == "runs/birds"
    else:
        assert main([*words, "--dry-run"]) == 0
        assert "dry run: nothing was written" in capsys.readouterr().out


def test_the_python_block_prints_what_it_says(tmp_path, monkeypatch, capsys) -> None:
    text = blocks("python")[1]
    exec(text, {})
    said = re.findall(r"print\(.*\)  # (.+)$", text, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


def test_the_rules_are_the_packages() -> None:
    assert pytest.approx(1 / 5) == HOLDS_DESCRIBED
    assert "less than a fifth of the pool" in PAGE
    assert f"a temperature of {TEMPERATURE:.0f}" in PAGE
    assert f"repeated {ITERATIONS} times" in PAGE.replace("\n", " ")
