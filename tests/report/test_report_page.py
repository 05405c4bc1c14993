"""The page of a run: whole in itself, in words as well as in pictures, safe, and true to the run's figures."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.report.charts import svg as canvas
from dkgzsl.report.pages.run import render_run
from dkgzsl.report.record.attention import AttendedPhotos
from dkgzsl.report.record.record import Record, shown_images
from dkgzsl.report.wording import printable
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.pages import read_run
from report.conftest import FEW
from report.reading import Page

RUNS = ["default_run", "seeds_run", "paper_run", "published_run"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "$\\frac{a}{b}$ & 5 < 6",
    "null \x00 bell \x07 escape \x1b[31m",
    "turned \u202e around",
    "{{ 7 * 7 }} {% raw %}",
    "]]> <!-- --> </svg></title>",
    "鳥 " + "long " * 60,
]


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(params=RUNS)
def run(request) -> Path:
    return request.getfixturevalue(request.param)


def test_a_page_asks_nothing_of_any_network(run) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "video", "audio"}
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in {"src", "href", "xlink:href", "srcset", "action", "poster", "background"}:
                assert value.startswith(("#", "data:")), (tag, key, value)
    assert not re.search(r"@import|https?:|//cdn", text)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "default-src 'none'" in text


def test_every_chart_and_picture_has_words_and_every_id_is_one(run) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.left_open == []
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    charts = page.all("svg")
    assert len(charts) >= 4
    assert len(page.all("style")) == 1, "a chart's own style would reach the whole page"
    assert not [tag for tag, _ in page.elements if "metadata" in tag]
    for chart in charts:
        assert chart["role"] == "img"
        assert chart["viewbox"]
        title, description = (page.under[name] for name in chart["aria-labelledby"].split())
        assert title.strip()
        assert re.search(r"\d", description), "a description says what is to be seen"
    assert text.count("The same as a table") == len(charts)
    assert all(picture["alt"].strip() for picture in page.all("img"))
    targets = {a["href"][1:] for a in page.all("a") + page.all("use")}
    assert targets <= set(names)


def test_the_figures_are_those_of_the_result(run) -> None:
    result = json.loads((run / "result.json").read_text())
    text = (run / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<span class="label">(.*?)</span>\s*<span class="value">(.*?)</span>', text, re.S)
    labels = {"T1": "t1", "U": "u", "S": "s", "H": "h", "H calibrated": "h_calibrated", "AUSUC": "ausuc"}
    assert [label for label, _ in shown] == list(labels)
    for label, markup in shown:
        value = result["metrics"][labels[label]]
        words = unescape(re.sub(r"<[^>]*>", "", markup)).replace("%", "").strip()
        if value is None:
            assert words == "–"
        elif len(result["seeds"]) > 1:
            assert words == f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}"
        else:
            assert words == f"{100 * value['mean']:.1f}"
    table = Page(text).text
    if result["baseline"]:
        assert f"ESZSL {100 * result['baseline']['figures']['u']:.1f}" in table
    assert f"chance {100 * result['chance']['t1']:.1f}" in table


def test_the_default_stands_beside_the_published_form(published_run, default_run, capsys) -> None:
    result = json.loads((published_run / "result.json").read_text())
    alone = json.loads((default_run / "result.json").read_text())
    assert alone["default"] is None
    beside = result["default"]["figures"]
    assert result["default"]["method"] == "dkgzsl"
    page = page_of(published_run)
    assert f"default {100 * beside['u']:.1f}" in page.text
    assert f"default form: AUSUC {100 * beside['ausuc']:.1f} %" in page.text
    assert "default form" not in page_of(default_run).text
    assert main(["evaluate", str(published_run)]) == 0
    assert re.search(rf"default +{100 * beside['t1']:.1f} ", capsys.readouterr().out)


def test_probabilities_are_shown_as_they_were_measured(default_run) -> None:
    found = json.loads((default_run / "result.json").read_text())["seeds_detail"][0]["reliability"]
    said = page_of(default_run).text
    assert f"Expected calibration error {100 * found['ece']:.1f} points" in said
    assert f"{100 * found['confidence'][-1]:.1f} {100 * found['accuracy'][-1]:.1f}" in said
    content = read_run(default_run)
    detail = {**content.detail, "reliability": None}
    without = render_run(replace(content, result={**content.result, "seeds_detail": [detail]}))
    assert "mean what they say" not in without


def test_versions_made_since_are_told(default_run) -> None:
    assert "added or taken away 2 times" in Page(render_run(replace(read_run(default_run), versions=2))).text
    assert "added or taken away" not in page_of(default_run).text


def test_every_number_has_its_provenance(run) -> None:
    result = json.loads((run / "result.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    said = page_of(run).text
    for expected in (
        environment["split_sha256"],
        environment["libraries"]["torch"],
        environment["started"][:10],
        f"{result['variant']}, classifier",
        f"seeds {', '.join(map(str, result['seeds']))}",
        "att, 8 numbers a class",
    ):
        assert expected in said
    evaluations = sum(detail["evaluations"] for detail in result["seeds_detail"])
    if result["protocol"] == "oracle":
        assert f"scored {evaluations} times" in said
        assert "Not a forecast." in said
    else:
        assert f"{evaluations} models were compared on validation images; the test images were scored once" in said
        assert "Not a forecast" not in said


def test_what_was_trained_is_drawn_by_epoch_and_what_was_tried_by_setting(
    default_run, published_run, paper_run
) -> None:
    assert "Settings tried, and what they gave" in page_of(default_run).text
    assert "Training, epoch by epoch" not in (default_run / "report.html").read_text()
    for trained in (published_run, paper_run):
        said = (trained / "report.html").read_text()
        assert "4 epochs, distance at the end" in said
        assert "Settings tried" not in said


def test_several_seeds_stand_one_by_one_and_their_curves_thin(seeds_run, default_run) -> None:
    result = json.loads((seeds_run / "result.json").read_text())
    said = page_of(seeds_run).text
    for detail in result["seeds_detail"]:
        assert f"{detail['seed']} {100 * detail['figures']['t1']:.1f} {100 * detail['figures']['u']:.1f}" in said
    assert "Thin lines are the further seeds" in said
    assert "Seed by seed" not in page_of(default_run).text


def test_hostile_class_names_are_only_ever_text(default_run) -> None:
    content = read_run(default_run)
    record = content.first
    assert record is not None
    names = tuple(HOSTILE[number % len(HOSTILE)] + str(number) for number in range(len(record.class_names)))
    rows = [{**row, "class": name} for row, name in zip(content.classes, names, strict=True)]
    result = {**content.result, "dataset": HOSTILE[0], "semantics": HOSTILE[1], "backbone": HOSTILE[6]}
    known = replace(record.acquaintance, names=tuple(HOSTILE), attributes=torch.arange(6).expand(16, 6))
    known = replace(known, values=torch.ones(16, 6), strengths=torch.ones(16, 6), source=HOSTILE[5])
    text = render_run(
        replace(
            content,
            result=result,
            classes=rows,
            records=(replace(record, class_names=names, acquaintance=known),),
            config={"name": HOSTILE[6]},
        )
    )
    page = Page(text)
    assert page.left_open == []
    assert page.all("script") == []
    assert page.all("img") == []
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "$\\frac{a}{b}$" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)


def test_names_in_a_chart_are_taken_letter_by_letter() -> None:
    def paint(figure) -> None:
        for place, name in enumerate(HOSTILE):
            axes = canvas.one_axes(figure) if place == 0 else figure.axes[0]
            canvas.label(axes, 0.5, 0.1 * place, printable(name))

    svg = canvas.draw("x", title=HOSTILE[0], description=printable(HOSTILE[4]), height=200, paint=paint)
    root = ElementTree.fromstring(svg)
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    assert set(map(printable, HOSTILE)) <= set(texts)
    assert root.find("title").text == HOSTILE[0]
    assert "#fe00" not in svg, "every colour is one of the page's"


def test_a_folder_without_the_record_has_its_page_and_says_what_it_lacks(seeds_run, tmp_path) -> None:
    old = tmp_path / "old"
    shutil.copytree(seeds_run, old)
    for file in old.glob("report*"):
        file.unlink()
    environment = json.loads((old / "environment.json").read_text())
    del environment["started"]
    (old / "environment.json").write_text(json.dumps(environment))
    log = [json.loads(line) for line in (old / "metrics.jsonl").read_text().splitlines()]
    for line in log:
        line.pop("representation", None)
    (old / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    assert main(["report", str(old)]) == 0
    said = page_of(old).text
    assert "What this page lacks" in said
    assert "train again to have them" in said
    assert "not recorded (an older run)" in said
    assert "All 16 classes" in said
    assert "Settings tried" in said
    assert "What this page lacks" not in said.replace("What this page lacks", "", 1)


def test_the_page_is_made_again_without_the_data(default_run, data, tmp_path, monkeypatch, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(default_run, copy)
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    monkeypatch.setattr("dkgzsl.data.load.load_dataset", lambda *_, **__: pytest.fail("the data was asked for"))
    capsys.readouterr()
    assert main(["report", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(copy / "report.html")}
    assert (copy / "report.html").read_text() == before
    assert main(["report", str(copy), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").read_text() == before


@pytest.mark.parametrize("broken", ["dkgzsl.runs.training.full_record", "dkgzsl.report.pages.run.render_run"])
def test_a_failure_of_the_report_never_loses_the_run(data, tmp_path, monkeypatch, capsys, broken) -> None:
    def fail(*_, **__):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(broken, fail)
    out = tmp_path / "run"
    assert main(["train", data, *FEW, "--baseline", "none", "--json", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["metrics"]["h"]["mean"] > 0
    assert "no room for a picture" in captured.err
    assert f"dkgzsl report {out}" in captured.err.replace("\n", " ")
    assert main(["evaluate", str(out), "--json"]) == 0


def test_a_run_without_a_report_keeps_nothing_for_it(data, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert main(["train", data, *FEW, "--report", "off", "--json", "--out", str(out)]) == 0
    assert [file.name for file in out.iterdir() if file.name.startswith("report")] == []
    assert main(["report", str(out)]) == 0
    assert "What this page lacks" in page_of(out).text


def test_what_is_no_finished_run_is_explained(tmp_path, capsys, default_run) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    shutil.copytree(default_run, unfinished)
    (unfinished / "result.json").unlink()
    assert main(["report", str(unfinished)]) == 2
    assert "not finished" in capsys.readouterr().err
    shutil.copy(default_run / "result.json", unfinished)
    (unfinished / "report.safetensors").write_bytes(b"nothing")
    assert main(["report", str(unfinished)]) == 2
    assert "report.safetensors" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["report", str(default_run), "--out", str(tmp_path / "file" / "page.html")]) == 2
    assert "cannot write the page" in capsys.readouterr().err


@pytest.fixture
def photographed(default_run, tmp_path):
    """The content of a run whose images are photos, one of them lost and one damaged, with attention."""
    content = read_run(default_run)
    record = content.first
    assert record is not None
    shown = shown_images(record.answers, record.constant)
    files = {}
    rng = np.random.default_rng(0)
    for position in shown:
        path = tmp_path / f"{position}.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
        files[str(position)] = str(path)
    photos = torch.tensor(shown[:2])
    attended = AttendedPhotos(
        images=photos,
        attributes=torch.tensor([[0, 1], [2, 3]]),
        strengths=torch.tensor([[2.0, 1.5], [1.0, 0.5]]),
        maps=torch.rand(2, 2, 9),
        grid=(3, 3),
        names=(("beak <long>", "wing"), ("tail", "leg")),
        preprocessing={"crop_share": 0.9, "crop_mode": "center"},
    )
    return replace(content, records=(replace(record, pictures={"files": files}, attended=attended),)), files


def test_photos_are_in_the_page_where_they_are_found(photographed) -> None:
    content, files = photographed
    whole = Page(render_run(content))
    pictures = whole.all("img")
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    assert "where beak <long> lies" in " ".join(picture["alt"] for picture in pictures)
    gallery = whole.text.split("Classes it had never seen")[1].split("The figures")[0]
    assert len(re.findall("[✓✗]", gallery)) == 4
    damaged, *_, lost = files
    Path(files[lost]).unlink()
    Path(files[damaged]).write_bytes(b"no photo")
    fewer = Page(render_run(content)).all("img")
    assert 0 < len(fewer) < len(pictures)
    without = Page(render_run(content, images=False))
    assert without.all("img") == []
    assert "left out on request" in without.text


def test_pictures_that_lie_in_no_files_are_kept_in_the_record(default_run, tmp_path) -> None:
    content = read_run(default_run)
    record = content.first
    assert record is not None
    # A record of `numbers` made before the pictures were kept in it names the unseen numbers instead.
    replace(record, pictures={"embedded": ["07", "70"]}).write(tmp_path / "old.safetensors")
    read = Record.read(tmp_path / "old.safetensors")
    assert read is not None
    assert set(read.pictures) == {"png"}
    text = render_run(replace(content, records=(read,)))
    assert "data:image/png;base64," in text
    assert all(picture in text for picture in read.pictures["png"].values())


def test_resuming_takes_no_notice_of_the_report(data, tmp_path) -> None:
    """The report is no setting of the run: whoever resumes may want another one."""
    out = str(tmp_path / "run")
    assert main(["train", data, *FEW, "--report", "off", "--json", "--out", out]) == 0
    assert "report" not in (Path(out) / "config.yaml").read_text()
    assert main(["train", data, *FEW, "--json", "--out", out, "--resume"]) == 0
    assert RunFolder.open(Path(out)).file("report.html").exists()
