"""README.md and docs/results.md: their tables of CUB and CUB100 have the figures of the benchmarks' CSV files."""

import csv
import re
from pathlib import Path

import pytest

from dkgzsl.methods.registry import method_info

ROOT = Path(__file__).parents[2]
SEMANTICS = {"sentences": ("sent", "sentences"), "attributes": ("att", "attributes")}


def measured(file: str) -> dict[tuple[str, str], tuple[str, str, str, str]]:
    """T1, calibrated H and AUSUC in percent with deviation, and the seconds, by method and semantics."""
    with (ROOT / "docs" / "benchmarks" / file).open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {
        (row["method"], row["semantics"]): (
            *(
                f"{100 * float(row[f'{name}_mean']):.1f} ± {100 * float(row[f'{name}_std']):.1f}"
                for name in ("t1", "h_calibrated", "ausuc")
            ),
            row["seconds"],
        )
        for row in rows
    }


def table(text: str) -> list[tuple[str, str, list[str]]]:
    """Semantics, method and figures of each row that names a method; the first of several has the semantics."""
    found, semantics = [], ""
    for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in line.split("|")]
        method = re.search(r"`([a-z0-9-]+)`", line)
        if method is None:
            continue
        semantics = next((name for name in SEMANTICS if name in line), semantics)
        found.append((semantics, method[1], [cell for cell in cells if re.match(r"\d", cell)]))
    return found


def section(title: str) -> str:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("**DKGZSL as published**")[0].split("\n## ")[0]


@pytest.mark.parametrize(("title", "file"), [("CUB", "cub.csv"), ("CUB100", "cub100-pooled.csv")])
def test_the_tables_of_the_results_have_every_figure_of_the_csv_files(title, file) -> None:
    known, shown = measured(file), table(section(title))
    assert len(shown) == len(known)
    for semantics, method, figures in shown:
        key = next((method, one) for one in SEMANTICS[semantics] if (method, one) in known)
        assert figures[:3] == list(known[key][:3]), key


def test_the_readme_has_the_default_and_the_best_peer() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Results\n")[1].split("\n## ")[0]
    shown = table(text)
    assert [method for _, method, _ in shown[::2]] == ["closed-form"] * 4
    for number, (semantics, method, figures) in enumerate(shown):
        known = measured("cub.csv" if number < 4 else "cub100-pooled.csv")
        key = next((method, one) for one in SEMANTICS[semantics] if (method, one) in known)
        assert figures == list(known[key][:3]), key
        if number % 2:
            peers = {one[0]: value[1] for one, value in known.items() if one[1] == key[1]}
            del peers["closed-form"]
            assert max(peers, key=lambda one: float(peers[one].split()[0])) == method


PAGES = {
    "cub.csv": ("cub.md", {"sent": "Semantics sent", "att": "Semantics att"}),
    "cub100-pooled.csv": (
        "cub100.md",
        {"sentences": "Pooled features, sentences", "attributes": "Pooled features, attributes"},
    ),
    "cub100-sovr.csv": ("cub100.md", {"sentences": "With SOVR, sentences", "attributes": "With SOVR, attributes"}),
}


@pytest.mark.parametrize("file", PAGES)
def test_the_pages_of_the_benchmarks_have_the_rows_of_the_csv_files(file) -> None:
    folder = ROOT / "docs" / "benchmarks"
    page, titles = PAGES[file]
    text = (folder / page).read_text(encoding="utf-8")
    with (folder / file).open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        part = re.split(r"\n##+ ", text.split(f"# {titles[row['semantics']]}\n")[1])[0]
        name = method_info(row["method"]).title if row["method"] != "closed-form" else "closed form, the default"
        (shown,) = [line for line in part.splitlines() if line.strip("|* ").startswith(name)]
        for figure in ("t1", "u", "s", "h", "h_calibrated", "ausuc"):
            mean, deviation = (100 * float(row[f"{figure}_{one}"]) for one in ("mean", "std"))
            cell = f"{mean:.1f}" if row["seeds"] == "1" else f"{mean:.1f} ± {deviation:.1f}"
            assert f"| {cell} |" in shown, (name, figure)
    tables = (re.split(r"\n##+ ", text.split(f"# {title}\n")[1])[0] for title in titles.values())
    assert sum(table.count("\n| ") - 1 for table in tables) == len(rows)
