"""Every command and code block of README and docs is run, or a comment before it says why not."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.cli.main import main
from docs.blocks import ROOT, Block, blocks, pages
from inference.own_photos import DESCRIBED, draw, own_photos, tiny_weights

REASONS = ("makes an environment", "needs ", "tests/")
MOST_LEFT_OUT = 20
PHOTOS = [
    "dkgzsl data import birds --semantics attributes --out problem",
    "dkgzsl extract problem --backbone resnet50 --out problem-resnet50",
]
BEFORE = {
    "docs/adapt.md": [
        *PHOTOS,
        "dkgzsl train problem --features problem-resnet50 --out runs/birds --baseline none --report off",
        "dkgzsl extract problem --backbone resnet50 --out store-of-new-photos",
    ],
    "docs/methods/index.md": ["dkgzsl train numbers --method eszsl --out runs/eszsl --baseline none --report off"],
    "docs/own-photos.md": PHOTOS,
}
"""Commands that a page takes for granted."""
INSTEAD = {
    "--backbone resnet50": "--backbone test_resnet --weights tiny.safetensors --image-size 64",
    "--trials 60": "--trials 2",
}
"""No weights are fetched here, and a search is short."""


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if not block.reason and not block.file]


@pytest.fixture(scope="module")
def finished() -> dict[str, Path]:
    """The folder of each command on the bundled data that some page has run: another page takes it."""
    return {}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty working folder and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DKGZSL_HOME", str(tmp_path / "home"))
    return tmp_path


def with_photos(place: Path) -> None:
    """`birds` as the pages have it, photos that a model has not seen, and weights of a small network."""
    for module in ("timm", "openpyxl", "optuna"):
        pytest.importorskip(module, reason="needs the extras images, tables and tune")
    own_photos(place / "birds")
    tiny_weights(place / "tiny.safetensors")
    (place / "new-photos").mkdir()
    rng = np.random.default_rng(1)
    for number in range(6):
        draw(DESCRIBED[number % 2], rng).save(place / "new-photos" / f"{number}.jpg")
    draw(DESCRIBED[0], rng).save(place / "new-photo.jpg")


def run_or_copy(command: str, shown: str, capsys, finished: dict[str, Path]) -> None:
    """Run a command; a training or benchmark on `numbers` that another page has run already is copied."""
    words = shlex.split(command)
    kept = "numbers" in words and "--out" in words and not shown
    out = Path(words[words.index("--out") + 1]) if kept else Path()
    if kept and command in finished:
        shutil.copytree(finished[command], out)
        return
    run_command(command, shown, capsys)
    if kept:
        finished[command] = Path(shutil.copytree(out, Path("kept", out.name))).resolve()


def run_python(code: str, where: str, variables: dict[str, object], capsys) -> None:
    """Run a block; the comment after a `print(...)` is what it prints."""
    capsys.readouterr()
    exec(compile(code, where, "exec"), variables)
    printed = capsys.readouterr().out
    for expected in re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE):
        assert expected in printed, (where, expected, printed)


def run_command(command: str, shown: str, capsys) -> None:
    for words, instead in INSTEAD.items():
        command = command.replace(words, instead)
    program, *words = shlex.split(command, comments=True)
    assert program == "dkgzsl", f"a test cannot run this, mark it by a reason: {command}"
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as ended:  # `--help`
        code = ended.code or 0
    said = capsys.readouterr()
    if not shown:
        assert code == 0, (command, said.err[-2000:])
        return
    assert code == (2 if shown.startswith("error:") else 0), (command, said.err[-2000:])
    assert " ".join(shown.split()) in " ".join((said.out + said.err).split()), command


@pytest.mark.parametrize("page", [page for page in pages() if run_of(page)], ids=named)
def test_blocks_of_a_page_run_in_their_order(page, place, capsys, finished) -> None:
    text = "".join(block.text for block in run_of(page))
    before = BEFORE.get(named(page), [])
    if "birds" in text or any("birds" in command for command in before):
        with_photos(place)
    for command in before:
        run_command(command, "", capsys)
    variables: dict[str, object] = {"__name__": "page"}
    for block in run_of(page):
        where = f"{page}:{block.line}"
        if block.kind == "python":
            run_python(block.text, where, variables, capsys)
        elif block.kind == "yaml":
            (place / "page.yaml").write_text(block.text)
            run_command("dkgzsl train --config page.yaml --dry-run", "", capsys)
        else:
            assert block.kind == "console", f"{where}: mark a block of {block.kind} by a reason"
            for command, shown in block.commands():
                run_or_copy(command, shown, capsys, finished)


def test_blocks_that_are_not_run_say_why_and_are_few() -> None:
    left_out = [(named(page), block) for page in pages() for block in blocks(page) if block.reason]
    print(*(f"{page}:{block.line}: {block.reason}" for page, block in left_out), sep="\n")
    for page, block in left_out:
        assert block.reason.startswith(REASONS), (page, block.line, block.reason)
        if test := re.match(r"tests/\S+\.py", block.reason):
            assert (ROOT / test[0]).is_file(), (page, block.line)
    assert len(left_out) <= MOST_LEFT_OUT


def test_only_the_example_package_has_blocks_that_are_files() -> None:
    """tests/test_extend.py writes them, installs the package and runs it."""
    assert {named(page) for page in pages() for block in blocks(page) if block.file} == {"docs/extend.md"}


def test_every_comment_stands_right_before_a_block() -> None:
    for page in pages():
        comments = page.read_text(encoding="utf-8").count("<!-- no-run:")
        assert comments == sum(bool(block.reason) for block in blocks(page)), page


def test_scripts_of_a_cluster_are_shell() -> None:
    for page in pages():
        for block in blocks(page):
            if block.kind == "bash":
                found = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
                assert found.returncode == 0, (page, block.line, found.stderr)
