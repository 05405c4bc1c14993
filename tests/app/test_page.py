"""The page: its functions, the page in a browser, and the message where Gradio is not installed."""

import asyncio
import base64
import builtins
import io
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkgzsl.app.limits import Gate, Limits
from dkgzsl.app.pieces import bias_html, class_html, prediction_html
from dkgzsl.app.session import Session, read_one
from dkgzsl.app.upkeep import PhotoFolder
from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import number_images, numbers
from dkgzsl.errors import DataError
from dkgzsl.inference.photos import photo_reader
from dkgzsl.inference.prediction import evidence_picture
from report.browser import Browser, find_chromium
from worlds import ONE_WAY

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]
QUICK += ONE_WAY


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("numbers") / "run"
    assert main(["train", "numbers", *QUICK, "--baseline", "none", "--report", "off", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    """A number of an unseen class, as a person might draw it: large."""
    problem = numbers()
    which = next(i for i in problem.parts.test_unseen if problem.class_names[problem.labels[i]] == "05")
    path = tmp_path_factory.mktemp("pictures") / "number.png"
    small = Image.fromarray(np.rint(255 - number_images()[which] * (255 / 16)).astype(np.uint8))
    small.save(path)
    return path


def tried(session: Session, picture: Path, bias: float = 0.0):
    reader = photo_reader(session.recognizer.record)
    return session.predict(read_one(reader, picture), reader.grid, bias=bias)


def output_of_predict(capsys, run: Path, picture: Path, *words: str) -> dict:
    capsys.readouterr()
    assert main(["predict", str(run), str(picture), "--json", "--top", "5", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_page_predicts_as_predict_does(capsys, run, picture) -> None:
    found = tried(Session.open(run), picture)
    expected = output_of_predict(capsys, run, picture)
    assert found.biased.to_json() == {k: v for k, v in expected.items() if k != "image"}
    html = prediction_html(found)
    assert f"{100 * expected['probability']:.1f} %" in html
    assert 'alt="The image as the model sees it: ' in html


def test_the_page_says_in_words_how_sure_it_is(run, picture) -> None:
    found = tried(Session.open(run, 0), picture)

    def with_probability(value: float):
        first, *others = found.biased.prediction.ranked
        ranked = (replace(first, probability=value), *others)
        biased = replace(found.biased, prediction=replace(found.biased.prediction, ranked=ranked))
        return prediction_html(found._replace(biased=biased))

    assert "Probably 05. Probability 80.0 %" in with_probability(0.8)
    assert "Unsure: perhaps 05. Probability 40.0 %" in with_probability(0.4)
    assert 'style="width: 40.0%"' in with_probability(0.4)
    assert with_probability(0.8).index("<img") < with_probability(0.8).index("<h3>")
    none = replace(found.biased, prediction=replace(found.biased.prediction, name=None))
    assert "None of these: the image is unlike all classes" in prediction_html(found._replace(biased=none))


def test_a_photo_has_a_picture_of_its_evidence(tmp_path) -> None:
    pytest.importorskip("timm", reason="the extra `images` is not installed")
    from inference.photo_runs import photo_run

    made = photo_run(tmp_path)
    session = Session.open(made.run)
    reader = photo_reader(session.recognizer.record, weights=made.weights, device="cpu")
    attempts = [session.predict(read_one(reader, path), reader.grid) for path in made.photos]
    found = next(one for one in attempts if one.biased.evidence)
    html = prediction_html(found)
    content = html.partition("base64,")[2].partition('"')[0]
    drawn = Image.open(io.BytesIO(base64.b64decode(content)))
    expected = evidence_picture(found.biased, found.pixels, reader.grid)
    assert np.array_equal(np.asarray(drawn), np.asarray(expected))
    assert 'alt="The image, and an attention map of each attribute: ' in html
    assert "in this image" in html


def test_the_bias_multiplies_the_odds_of_unseen_classes(run, picture) -> None:
    session = Session.open(run)
    reader = photo_reader(session.recognizer.record)
    features, seen = read_one(reader, picture).features, session.recognizer.is_seen
    before = session.recognizer.probabilities(features)[0]
    after = session.biased(1.5).probabilities(features)[0]
    ratio = (after[~seen].sum() / after[seen].sum()) / (before[~seen].sum() / before[seen].sum())
    assert ratio == pytest.approx(np.exp(1.5))
    low = tried(session, picture, -1e6)
    assert all(one.seen for one in low.biased.prediction.ranked)
    assert low.unbiased == tried(session, picture).unbiased
    assert "The prediction changes: 05 without the bias" in bias_html(low, -1e6)


def test_a_class_is_recognised_at_once_and_saved_as_add_class_saves(capsys, run, picture) -> None:
    start = Session.open(run)
    without = replace(start, recognizer=start.recognizer.without_class("05"))
    assert tried(without, picture).biased.prediction.name != "05"
    number = start.recognizer.number_of("05")
    columns = start.recognizer.record.semantics.columns
    values = dict(zip(columns, start.recognizer.model.semantics[number].tolist(), strict=True))
    more = without.with_values(" zero <five> ", values)
    assert more.added == ("zero <five>",)
    found = tried(more, picture).biased
    assert found.prediction.ranked[0].name == "zero <five>"
    assert "zero &lt;five&gt;" in prediction_html(tried(more, picture))
    assert "zero <" not in class_html(more, "zero <five>")
    saved = more.saved()
    assert (saved.parent, saved.added) == (1, ())
    assert output_of_predict(capsys, run, picture)["evidence"] == found.to_json()["evidence"]
    assert output_of_predict(capsys, run, picture)["class"] == found.prediction.name
    assert output_of_predict(capsys, run, picture, "--version", "0")["class"] == "05"
    with pytest.raises(DataError, match="no class was added"):
        saved.saved()


def test_a_class_has_its_attributes(run) -> None:
    session = Session.open(run, 0)
    known, number = session.recognizer.evidence, session.recognizer.number_of("08")
    rows = session.attributes_of("08")
    assert {name: value for name, value, _ in rows} == pytest.approx(
        dict(zip(known.names, known.table[number].tolist(), strict=True))
    )
    column = known.table[:, known.names.index(rows[0][0])].double().numpy()
    assert rows[0][2] == pytest.approx((rows[0][1] - column.mean()) / column.std())
    typical = [one for *_, one in rows]
    assert typical == sorted(typical, reverse=True)
    assert typical[-1] < 0


def test_an_unreadable_image_is_an_error(run, tmp_path) -> None:
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_one(photo_reader(Session.open(run).recognizer.record), tmp_path / "no.png")
    with pytest.raises(DataError, match="not described"):
        Session.open(run).with_text("new", " ")


def test_without_gradio_the_error_names_the_extra(capsys, monkeypatch, run) -> None:
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "gradio":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["app", str(run)]) == 2
    assert "pip install 'dkgzsl[app]'" in capsys.readouterr().err


def test_in_a_browser(run, picture, tmp_path) -> None:
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    words = [sys.executable, "-m", "dkgzsl.cli.main", "app", str(run), "--version", "0", "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, Browser(program) as browser:
        try:
            assert address in server.stdout.readline()
            browser.call("Page.navigate", url=address)
            waited(browser, "document.querySelector('input[type=file]') !== null")
            upload(browser, picture)
            waited(browser, "document.querySelector('.dkgzsl h3')?.innerText === '05'")
            assert browser.value("[...document.images].filter(e => !e.alt && !e.ariaHidden).length") == 0
            browser.screenshot(tmp_path / "tried.png")
            press(browser, "New class")
            waited(browser, "document.querySelectorAll('input[type=range]').length > 5")
            write(browser, "Name of the new class", "mine")
            press(browser, "Add by its attributes")
            waited(browser, "document.body.innerText.includes('Not saved yet: mine')")
            browser.screenshot(tmp_path / "new.png")
            outside = [a for a in browser.requests() if not a.startswith((address, "data:", "blob:"))]
            assert outside == []
            errors = [c for c in browser.complaints() if not c.startswith('{"type": "warning"')]  # Gradio's own
            assert errors == []
        finally:
            server.terminate()


def waited(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 20
    while not browser.value(condition):
        assert time.monotonic() < deadline, f"{condition}; the page: {browser.value('document.body.innerText')}"
        time.sleep(0.2)


def upload(browser: Browser, path: Path) -> None:
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def press(browser: Browser, text: str) -> None:
    browser.value(
        "[...document.querySelectorAll('button')].find(e => e.innerText.trim() === "
        f"'{text}' && (e.role === 'tab' || !e.closest('[aria-hidden=true],.tab-container'))).click()"
    )


def write(browser: Browser, label: str, text: str) -> None:
    browser.value(
        f"(e => {{e.value = '{text}'; e.dispatchEvent(new Event('input', {{bubbles: true}}))}})"
        f"([...document.querySelectorAll('label')].find(e => e.innerText.includes('{label}'))"
        ".querySelector('input,textarea'))"
    )


def asked(limits: Limits, app, path: str, *, length: int | None = 10, gate: Gate | None = None) -> tuple[int, str]:
    """Status and text of the answer to a POST request, through the gate."""
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    sent = []

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run((gate or Gate(app, limits))(scope, _sending, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


async def _full(_scope, _receive, send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body", "body": b"Queue is full. Max size is 40 and size is 40."})


async def _sending() -> dict:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _answering(_scope, _receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def _failing(*_) -> None:
    raise KeyError("fn_index")


def test_the_page_refuses_politely() -> None:
    limits = Limits(waiting=40, photo_megabytes=2, uploaded_megabytes=4)
    assert asked(limits, _answering, "/gradio_api/queue/join") == (200, "fine")
    status, text = asked(limits, _full, "/gradio_api/queue/join")
    assert status == 429
    assert json.loads(text)["detail"].startswith("The page is busy: ")
    assert asked(limits, _failing, "/gradio_api/queue/join")[0] == 400
    assert asked(limits, _answering, "/gradio_api/upload", length=None)[0] == 411
    status, text = asked(limits, _answering, "/gradio_api/upload", length=2_100_000)
    assert (status, "up to 2 MB" in text) == (413, True)
    gate = Gate(_answering, limits)
    given = [asked(limits, None, "/gradio_api/upload", length=1_500_000, gate=gate)[0] for _ in range(4)]
    assert given == [200, 200, 429, 429], "4 MB of photos are kept at once"


def test_old_photos_go() -> None:
    before = os.environ.get("GRADIO_TEMP_DIR")
    folder = PhotoFolder(keep_seconds=0.5)
    try:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder.path)
        (folder.path / "a").mkdir()
        (folder.path / "a" / "old.png").write_text("x")
        time.sleep(0.7)
        (folder.path / "new.png").write_text("x")
        folder.remove_old()
        assert [path.name for path in folder.path.rglob("*") if path.is_file()] == ["new.png"]
    finally:
        folder.close()
    assert not folder.path.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_names_and_numbers_of_new_classes_are_limited(run) -> None:
    session = Session.open(run, 0)
    column = session.recognizer.record.semantics.columns[0]
    with pytest.raises(DataError, match="more than 100 characters"):
        session.with_values("n" * 101, {column: 1.0})
    with pytest.raises(DataError, match="more than 2,000 characters"):
        session.with_text("new", "n" * 2001)
    with pytest.raises(DataError, match="save them first"):
        replace(session, added=tuple(map(str, range(50)))).with_values("new", {column: 1.0})
