"""The docs site is built without a warning, its search finds the field's words, its references are current."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from dkgzsl.runs import schema

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TERMS = ["T1", "U", "S", "H", "AUSUC", "calibration", "validated", "oracle", "seen", "unseen", "semantics"]
TERMS += ["transductive", "inductive", "hubness", "harmonic", "attributes", "bootstrap", "chance", "baseline"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    pytest.importorskip("myst_nb", reason="the extra docs is not installed")
    pytest.importorskip("furo", reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    words = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(out / "html"),
    ]
    found = subprocess.run([*words, "-d", str(out / "trees")], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr[-3000:]
    return out / "html"


def test_the_search_finds_the_terms_of_the_glossary(site) -> None:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    stems = [*index["terms"], *index["titleterms"]]  # without their endings, and without words of one letter
    glossary = (DOCS / "reading-the-report.md").read_text(encoding="utf-8").lower()
    for term in TERMS:
        assert re.search(rf"\b{term.lower()}\b", glossary), term
        word = term.lower()
        found = (
            stem.startswith(word[:5]) or word.startswith(stem) for stem in stems if len(stem) > 2 or stem == word
        )
        assert len(term) == 1 or any(found), term


def test_pages_ask_nothing_of_the_network(site) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]*)"', text)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="(https?:[^"]*)"', text)
        assert not loaded, (page, loaded)


def test_the_command_line_reference_is_current() -> None:
    words = [sys.executable, str(ROOT / "tools" / "cli_reference.py"), "--check"]
    found = subprocess.run(words, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_run_folder_page_names_every_key() -> None:
    page = (DOCS / "run-folder.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_0-9]+)`", page))
    models = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    left_out = {"files", "store"}  # of `data`, which the page describes as a whole
    for model in models:
        missing = set(model.model_fields) - named - left_out
        assert not missing, (model.__name__, missing)


def test_the_model_of_large_data_prints_what_the_page_shows(capsys) -> None:
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def hours" in block)
    exec(code, {})
    assert capsys.readouterr().out.strip() in page
