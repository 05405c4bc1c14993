"""The comparison of several runs: in the terminal, as JSON and CSV, as a page."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from dkgzsl.cli.main import main
from dkgzsl.display import percent
from report.reading import Page
from sealing import reseal


@pytest.fixture
def lost_split(default_run, tmp_path):
    """A run on another split."""
    other = tmp_path / "elsewhere" / "default"
    shutil.copytree(default_run, other)
    environment = json.loads((other / "environment.json").read_text())
    (other / "environment.json").write_text(json.dumps({**environment, "split_sha256": "0" * 64}))
    reseal(other)
    return other


def test_the_terminal_shows_figures_and_differences(default_run, seeds_run, capsys) -> None:
    assert main(["compare", str(default_run), str(seeds_run)]) == 0
    said = capsys.readouterr().out
    result = json.loads((seeds_run / "result.json").read_text())
    h = result["metrics"]["h"]
    assert f"{percent(h['mean'])} ± {percent(h['std'])}" in said
    assert "seeds minus default" in said
    assert "H calibrated" in said


def test_the_object_and_the_table_say_the_same(default_run, published_run, seeds_run, capsys) -> None:
    runs = [str(default_run), str(published_run), str(seeds_run)]
    assert main(["compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == runs[0]
    assert [one["run"] for one in found["runs"]] == runs
    assert main(["compare", *runs, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for one, row in zip(found["runs"], rows, strict=True):
        result = json.loads(Path(one["run"], "result.json").read_text())
        assert one["metrics"] == result["metrics"]
        assert float(row["u"]) == result["metrics"]["u"]["mean"]
        assert float(row["u_std"]) == result["metrics"]["u"]["std"]
    assert found["runs"][0]["difference"] is None
    assert rows[0]["u_difference"] == ""
    first, second = (json.loads((run / "result.json").read_text()) for run in (default_run, published_run))
    difference = found["runs"][1]["difference"]
    assert difference["seeds"] == [0]
    for key, value in difference["figures"].items():
        expected = second["metrics"][key]["mean"] - first["metrics"][key]["mean"]
        assert value["value"] == pytest.approx(expected, abs=1e-6), key
        assert value["low"] <= value["value"] <= value["high"]
        assert float(rows[1][f"{key}_difference"]) == value["value"]
    assert found["runs"][2]["difference"]["seeds"] == [0]
    assert found["runs"][2]["difference"]["figures"]["t1"]["value"] == 0


def test_runs_that_cannot_be_compared_say_why(
    default_run, lost_split, oracle_run, seeds_run, tmp_path, capsys
) -> None:
    old = tmp_path / "old"
    shutil.copytree(seeds_run, old)
    for file in (*old.glob("report*"), old / "checksums.json"):
        file.unlink()
    runs = [str(run) for run in (default_run, lost_split, oracle_run, old)]
    assert main(["compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [one["no_difference"] for one in found] == [
        None,
        "another split",
        "another protocol",
        "a folder without predictions for the test images",
    ]
    assert main(["compare", *runs]) == 0
    said = capsys.readouterr().out
    assert "not compared, another split" in said
    assert "chosen on the test images" in said
    page = tmp_path / "page.html"
    assert main(["report", *runs, "--out", str(page)]) == 0
    words = Page(page.read_text()).text
    assert "different data sets or splits" in words
    assert "Chosen on the test images" in words
    assert "another protocol" in words


def test_one_page_compares_them(default_run, published_run, seeds_run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(default_run), str(published_run), str(seeds_run)]) == 0
    text = (tmp_path / "comparison.html").read_text()
    page = Page(text)
    assert page.left_open == []
    assert len(page.all("svg")) == 2
    assert all(chart["role"] == "img" for chart in page.all("svg"))
    assert page.all("script") == page.all("img") == []
    assert "http:" not in text
    for run in (default_run, published_run, seeds_run):
        u = json.loads((run / "result.json").read_text())["metrics"]["u"]
        assert f"{percent(u['mean'])} ± {percent(u['std'])}" in page.text
    assert "Differences to default" in page.text
    assert "The same in all runs" in page.text


@pytest.mark.parametrize(
    "words", [[], ["{a}"], ["{a}", "{a}"], ["{a}", "{none}"], ["{a}", "{b}", "--json", "--csv"]]
)
def test_bad_comparisons_are_refused(words, default_run, seeds_run, tmp_path, capsys) -> None:
    given = [word.format(a=default_run, b=seeds_run, none=tmp_path) for word in words]
    try:
        code = main(["compare", *given])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err


def test_runs_of_the_same_name_get_longer_names(default_run, lost_split, capsys) -> None:
    assert main(["compare", str(default_run), str(lost_split)]) == 0
    assert "elsewhere/default" in capsys.readouterr().out
