"""The page of a run: self-contained, accessible, safe, and with the figures of the run."""

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
from dkgzsl.display import percent
from dkgzsl.report.charts import drawing
from dkgzsl.report.charts import svg as charts
from dkgzsl.report.pages.run import render_run
from dkgzsl.report.record.attention import AttentionMaps
from dkgzsl.report.record.record import Record, shown_images
from dkgzsl.report.wording import printable
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.pages import read_run
from report.conftest import FEW
from report.reading import Page

RUNS = ["default_run", "seeds_run", "oracle_run", "published_run"]
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


def test_a_page_loads_nothing_from_a_network(run) -> None:
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


def test_every_chart_and_picture_has_a_text_and_ids_are_unique(run) -> None:
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
    assert text.count("Show as a table") == len(charts)
    assert all(picture["alt"].strip() for picture in page.all("img"))
    targets = {a["href"][1:] for a in page.all("a") + page.all("use")}
    assert targets <= set(names)


def test_the_page_shows_the_figures_of_the_result(run) -> None:
    result = json.loads((run / "result.json").read_text())
    text = (run / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<span class="label">(.*?)</span>\s*<span class="value">(.*?)</span>', text, re.S)
    labels = {"T1": "t1", "U": "u", "S": "s", "H": "h", "H calibrated": "h_calibrated", "AUSUC": "ausuc"}
    shown = [(re.sub(r"<[^>]*>", "", name), markup) for name, markup in shown]  # labels lead to the glossary
    assert [name for name, _ in shown] == list(labels)
    for name, markup in shown:
        value = result["metrics"][labels[name]]
        words = unescape(re.sub(r"<[^>]*>", "", markup)).replace("%", "").strip()
        if value is None:
            assert words == "–"
        elif len(result["seeds"]) > 1:
            assert words == f"{percent(value['mean'])} ± {percent(value['std'])}"
        else:
            assert words == f"{percent(value['mean'])}"
    table = Page(text).text
    if result["baseline"]:
        assert f"ESZSL {percent(result['baseline']['figures']['u'])}" in table
    assert f"chance {percent(result['chance']['t1'])}" in table


def test_the_default_is_shown_next_to_the_published_method(published_run, default_run, capsys) -> None:
    result = json.loads((published_run / "result.json").read_text())
    alone = json.loads((default_run / "result.json").read_text())
    assert alone["default"] is None
    default = result["default"]["figures"]
    page = page_of(published_run)
    assert f"closed-form {percent(default['u'])}" in page.text
    assert f"closed-form: AUSUC {percent(default['ausuc'])} %" in page.text
    assert "closed-form: AUSUC" not in page_of(default_run).text.replace("closed-form: AUSUC", "", 1)
    assert main(["evaluate", str(published_run)]) == 0
    assert re.search(rf"closed-form +{percent(default['t1'])} ", capsys.readouterr().out)


def test_probabilities_are_shown_as_they_were_measured(default_run) -> None:
    found = json.loads((default_run / "result.json").read_text())["seeds_detail"][0]["reliability"]
    said = page_of(default_run).text
    assert f"Expected calibration error {percent(found['ece'])} points" in said
    assert f"{percent(found['confidence'][-1])} {percent(found['accuracy'][-1])}" in said
    content = read_run(default_run)
    detail = {**content.detail, "reliability": None}
    without = render_run(replace(content, result={**content.result, "seeds_detail": [detail]}))
    assert "Reliability of the probabilities" not in without


def test_later_versions_are_mentioned(default_run) -> None:
    assert "added or removed 2 times" in Page(render_run(replace(read_run(default_run), versions=2))).text
    assert "added or removed" not in page_of(default_run).text


def test_every_number_has_its_provenance(run) -> None:
    result = json.loads((run / "result.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    said = page_of(run).text
    for expected in (
        environment["split_sha256"],
        environment["libraries"]["torch"],
        environment["started"][:10],
        f"method {read_run(run).method}",
        f"seeds {', '.join(map(str, result['seeds']))}",
        "att, 8 numbers for each class",
    ):
        assert expected in said
    evaluations = sum(detail["evaluations"] for detail in result["seeds_detail"])
    if read_run(run).on_test:
        assert f"scored {evaluations} times" in said
        assert "Chosen on the test images." in said
    else:
        assert f"{evaluations} models were compared on validation images; the test images were scored once" in said
        assert "Chosen on the test images" not in said


def test_trainings_have_a_chart_of_epochs_and_others_one_of_settings(
    default_run, published_run, oracle_run
) -> None:
    assert "AUSUC by setting" in page_of(default_run).text
    assert "Training, epoch by epoch" not in (default_run / "report.html").read_text()
    for trained in (published_run, oracle_run):
        said = (trained / "report.html").read_text()
        assert "4 epochs, distance at the end" in said
        assert "AUSUC by setting" not in said


def test_each_of_several_seeds_is_shown_and_its_curve_is_thin(seeds_run, default_run) -> None:
    result = json.loads((seeds_run / "result.json").read_text())
    said = page_of(seeds_run).text
    for detail in result["seeds_detail"]:
        assert f"{detail['seed']} {percent(detail['figures']['t1'])} {percent(detail['figures']['u'])}" in said
    assert "Thin lines are further seeds" in said
    assert "Each seed" not in page_of(default_run).text


def test_hostile_class_names_are_escaped(default_run) -> None:
    content = read_run(default_run)
    record = content.first
    assert record is not None
    names = tuple(HOSTILE[number % len(HOSTILE)] + str(number) for number in range(len(record.class_names)))
    rows = [{**row, "class": name} for row, name in zip(content.classes, names, strict=True)]
    result = {**content.result, "dataset": HOSTILE[0], "semantics": HOSTILE[1], "backbone": HOSTILE[6]}
    near = replace(record.class_neighbours, names=tuple(HOSTILE), attributes=torch.arange(6).expand(16, 6))
    near = replace(near, values=torch.ones(16, 6), strengths=torch.ones(16, 6), source=HOSTILE[5])
    text = render_run(
        replace(
            content,
            result=result,
            classes=rows,
            records=(replace(record, class_names=names, class_neighbours=near),),
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


def test_charts_show_names_letter_by_letter() -> None:
    def paint(figure) -> None:
        for place, name in enumerate(HOSTILE):
            axes = charts.one_axes(figure) if place == 0 else figure.axes[0]
            drawing.label(axes, 0.5, 0.1 * place, printable(name))

    svg = charts.draw("x", title=HOSTILE[0], description=printable(HOSTILE[4]), height=200, paint=paint)
    root = ElementTree.fromstring(svg)
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    assert set(map(printable, HOSTILE)) <= set(texts)
    assert root.find("title").text == HOSTILE[0]
    assert "#fe00" not in svg, "every colour is one of the page's"


def test_a_folder_without_a_record_has_a_page_that_says_what_is_missing(seeds_run, tmp_path) -> None:
    old = tmp_path / "old"
    shutil.copytree(seeds_run, old)
    for file in (*old.glob("report*"), old / "checksums.json"):
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
    assert "Missing on this page" in said
    assert "Train again to get them" in said
    assert "not recorded (an older run)" in said
    assert "All 16 classes" in said
    assert "AUSUC by setting" in said
    assert "Missing on this page" not in said.replace("Missing on this page", "", 1)


def renamed_as_in_older_versions(run: Path, copy: Path) -> None:
    """A copy of a run with the names that earlier versions wrote into `result.json` and `metrics.jsonl`."""
    shutil.copytree(run, copy)
    result = json.loads((copy / "result.json").read_text())
    method, protocol = read_run(run).method, read_run(run).protocol
    del result["format"], result["method"]
    if result["default"]:
        result["default"]["method"] = "dkgzsl"
    result["variant"] = {"closed-form": "dkgzsl", "dkgzsl": "paper"}[method]
    result["protocol"] = {"oracle": "paper"}.get(protocol, protocol)
    for detail in result["seeds_detail"]:
        detail["looks"], detail["looks_at_test"] = detail.pop("evaluations"), detail.pop("test_evaluations")
    (copy / "result.json").write_text(json.dumps(result))
    log = (copy / "metrics.jsonl").read_text()
    (copy / "metrics.jsonl").write_text(log.replace('"event": "evaluation"', '"event": "look"'))
    (copy / "checksums.json").unlink()


def test_a_run_of_an_older_version_has_the_same_page(run, tmp_path) -> None:
    old = tmp_path / "old"
    renamed_as_in_older_versions(run, old)
    assert '"event": "look"' in (old / "metrics.jsonl").read_text()
    pages = [render_run(replace(read_run(path), folder=tmp_path, files=())) for path in (run, old)]
    assert pages[0] == pages[1]
    assert read_run(old).method in ("closed-form", "dkgzsl")
    assert read_run(old).protocol in ("validated", "oracle")


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


@pytest.mark.parametrize("broken", ["dkgzsl.runs.seed.full_record", "dkgzsl.report.pages.run.render_run"])
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
    assert "Missing on this page" in page_of(out).text


def test_what_is_no_finished_run_is_explained(tmp_path, capsys, default_run) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    shutil.copytree(default_run, unfinished)
    (unfinished / "result.json").unlink()
    (unfinished / "checksums.json").unlink()
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
    shown = shown_images(record.predictions, record.constant)
    files = {}
    rng = np.random.default_rng(0)
    for position in shown:
        path = tmp_path / f"{position}.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
        files[str(position)] = str(path)
    photos = torch.tensor(shown[:2])
    maps = AttentionMaps(
        images=photos,
        attributes=torch.tensor([[0, 1], [2, 3]]),
        strengths=torch.tensor([[2.0, 1.5], [1.0, 0.5]]),
        maps=torch.rand(2, 2, 9),
        grid=(3, 3),
        names=(("beak <long>", "wing"), ("tail", "leg")),
        preprocessing={"crop_share": 0.9, "crop_mode": "center"},
    )
    return replace(content, records=(replace(record, pictures={"files": files}, attention_maps=maps),)), files


def test_the_page_has_the_photos_that_are_found(photographed) -> None:
    content, files = photographed
    whole = Page(render_run(content))
    pictures = whole.all("img")
    assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
    assert "attention map of beak <long>" in " ".join(picture["alt"] for picture in pictures)
    gallery = whole.text.split("Images of unseen classes")[1].split("Figures compared")[0]
    assert len(re.findall("[✓✗]", gallery)) == 4
    damaged, *_, lost = files
    Path(files[lost]).unlink()
    Path(files[damaged]).write_bytes(b"no photo")
    fewer = Page(render_run(content)).all("img")
    assert 0 < len(fewer) < len(pictures)
    without = Page(render_run(content, images=False))
    assert without.all("img") == []
    assert "made without images" in without.text


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


def test_resuming_ignores_the_report(data, tmp_path) -> None:
    """The report is no setting of the run: whoever resumes may want another one."""
    out = str(tmp_path / "run")
    assert main(["train", data, *FEW, "--report", "off", "--json", "--out", out]) == 0
    assert "report" not in (Path(out) / "config.yaml").read_text()
    assert main(["train", data, *FEW, "--json", "--out", out, "--resume"]) == 0
    assert RunFolder.open(Path(out)).file("report.html").exists()
