"""What the page refuses before Gradio sees it, how long it lets visitors wait, and what it forgets."""

import asyncio
import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from dkgzsl.app import page as page_module
from dkgzsl.app.limits import Gate, Limits
from dkgzsl.app.upkeep import FOLDER, PhotoFolder, Upkeep, few_arenas, forget_idle
from dkgzsl.memory import give_memory_back

STARTED = b'data: {"msg":"process_starts","event_id":"e1","eta":null}\n\n'
WAITING = b'data: {"msg":"estimation","event_id":"e1","rank":0,"queue_size":1,"rank_eta":null}\n\n'
DONE = b'data: {"msg":"process_completed","event_id":"e1","output":{"data":["fine"]},"success":true}\n\n'


def stream(*steps: bytes | float | Exception):
    """A page that sends events, waits, and fails, in that order."""

    async def app(_scope, _receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for one in steps:
            if isinstance(one, Exception):
                raise one
            if isinstance(one, bytes):
                await send({"type": "http.response.body", "body": one, "more_body": True})
            else:
                await asyncio.sleep(one)
        await send({"type": "http.response.body", "body": b""})

    return app


def asked(app, path: str, *, method: str = "GET", body: bytes = b"", folder: Path | None = None, **limits):
    """The messages that a visitor is sent, and the seconds that it took."""
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    gate = Gate(app, Limits(**limits), folder)
    began = time.monotonic()
    asyncio.run(gate({"type": "http", "method": method, "path": path, "headers": []}, receive, send))
    return sent, time.monotonic() - began


def events(sent: list[dict]) -> list[dict]:
    whole = b"".join(message.get("body", b"") for message in sent).decode()
    return [json.loads(line.removeprefix("data: ")) for line in whole.split("\n\n") if line]


def test_a_photo_that_waits_too_long_is_refused_in_time() -> None:
    sent, seconds = asked(stream(WAITING, 30.0, DONE), "/gradio_api/queue/data", longest=0.2)
    assert seconds < 5
    *_, refusal, closing = events(sent)
    assert (refusal["msg"], refusal["event_id"], refusal["success"]) == ("process_completed", "e1", False)
    assert refusal["output"]["error"].startswith("The page is busy: your photo has waited")
    assert "Please try again" in refusal["output"]["error"]
    assert closing["msg"] == "close_stream"
    assert not sent[-1].get("more_body", False), "the reply has an end"


def test_a_prediction_that_has_begun_is_not_refused() -> None:
    sent, _ = asked(stream(WAITING, STARTED, 0.5, DONE), "/gradio_api/queue/data", longest=0.1)
    assert [one["msg"] for one in events(sent)] == ["estimation", "process_starts", "process_completed"]
    assert events(sent)[-1]["success"]


def test_a_page_that_does_not_even_begin_to_reply_is_refused_in_time() -> None:
    async def silent(*_) -> None:
        await asyncio.sleep(30)

    sent, seconds = asked(silent, "/gradio_api/queue/data", longest=0.2)
    assert (sent[0]["status"], seconds < 5) == (429, True)


def test_an_unknown_visitor_leaves_no_traceback() -> None:
    unknown = b'data: {"msg":"unexpected_error","message":"404: ","success":false}\n\n'
    sent, _ = asked(stream(unknown, KeyError("session")), "/gradio_api/queue/data")
    assert events(sent)[-1]["msg"] == "unexpected_error"
    assert not sent[-1].get("more_body", False), "the reply has an end"


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("{folder}/a/photo.png", True),
        ("{folder}/a/gone.png", False),
        ("{folder}/../secret.png", False),
        ("{folder}/link.png", False),
        ("{folder}/a", False),
        ("/etc/passwd", False),
        ("photo\x00.png", False),
        ("n" * 5000, False),
    ],
)
def test_requests_name_only_uploaded_photos(tmp_path, path: str, there: bool) -> None:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "photo.png").write_text("x")
    (tmp_path / "secret.png").write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    file = {"path": path.format(folder=folder), "meta": {"_type": "gradio.FileData"}}
    for data in ([file, 0, None], [[{"deeper": [file]}], 0]):
        body = json.dumps({"data": data, "fn_index": 0}).encode()
        got = []

        async def app(_scope, receive, send, got=got) -> None:
            got.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})

        sent, _ = asked(app, "/gradio_api/queue/join", method="POST", body=body, folder=folder)
        assert sent[0]["status"] == (200 if there else 400)
        assert got == ([body] if there else []), "Gradio gets the request as it was sent, or not at all"
        assert there or "choose it again" in json.loads(sent[1]["body"])["detail"]


def test_the_more_are_refused_the_later_they_may_come_back() -> None:
    waits, gate = [], Gate(stream(), Limits(waiting=0))

    async def send(message) -> None:
        if message["type"] == "http.response.start":
            waits.append(int(dict(message["headers"])[b"retry-after"]))
        else:
            assert f"Please try again in {waits[-1]} seconds." in message["body"].decode()

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/upload", "headers": [(b"content-length", b"9")]}
    for _ in range(300):
        asyncio.run(gate(scope, receive, send))
    assert 5 <= waits[0] <= 6
    assert 20 <= waits[-1] <= 24


def test_a_huge_request_is_refused() -> None:
    sent, _ = asked(stream(), "/gradio_api/queue/join", method="POST", body=b"[" * 1_000_001)
    assert sent[0]["status"] == 413


def test_few_visitors_open_the_page_at_once() -> None:
    now = most = 0

    async def app(_scope, _receive, _send) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    async def all_at_once() -> None:
        gate = Gate(app, Limits(workers=2))
        scope = {"type": "http", "method": "GET", "path": "/config", "headers": []}
        await asyncio.gather(*(gate(scope, None, None) for _ in range(20)))

    asyncio.run(all_at_once())
    assert most == 2


def test_idle_visitors_go_except_the_last_ones(monkeypatch) -> None:
    monkeypatch.setattr("dkgzsl.app.upkeep.Session", SimpleNamespace)
    now, empty = datetime.now(), SimpleNamespace(state_data={})
    unsaved = SimpleNamespace(state_data={1: SimpleNamespace(added=("new",))})
    visitors = {"old": empty, "unsaved": unsaved, "here": empty, "last": empty}
    used = {name: now - timedelta(seconds=100) for name in visitors} | {"here": now}
    waiting = {"old": set(), "here": {"e1"}}
    page = SimpleNamespace(
        state_holder=SimpleNamespace(session_data=visitors, time_last_used=used),
        _queue=SimpleNamespace(pending_event_ids_session=waiting),
    )
    assert forget_idle(page, keep=1, seconds=60.0) == 1
    assert list(visitors) == list(used) == ["unsaved", "here", "last"]
    assert list(waiting) == ["here"]
    assert forget_idle(SimpleNamespace(), keep=0, seconds=0.0) == 0


def test_gradio_keeps_visitors_where_they_are_forgotten() -> None:
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    from gradio.state_holder import StateHolder

    config = SimpleNamespace(blocks={})
    blocks = SimpleNamespace(state_session_capacity=10, default_config=config, blocks={})
    holder = StateHolder()
    holder.set_blocks(blocks)
    for name in ("a", "b", "c"):
        assert holder[name] is not None
    assert forget_idle(blocks, keep=1, seconds=-1.0) == 2
    assert list(holder.session_data) == ["c"]


def test_upkeep_removes_photos_until_it_is_closed() -> None:
    few_arenas()
    give_memory_back()
    photos = PhotoFolder(keep_seconds=0.2)
    upkeep = Upkeep(SimpleNamespace(), photos, Limits(keep_seconds=0.2))
    try:
        assert os.environ[FOLDER] == str(photos.path)
        (photos.path / "photo.png").write_text("x")
        ends = time.monotonic() + 10
        while (photos.path / "photo.png").exists() and time.monotonic() < ends:
            time.sleep(0.05)
        assert not (photos.path / "photo.png").exists()
    finally:
        upkeep.close()
        photos.close()


def test_an_error_of_gradio_is_one_line_on_the_terminal(capsys) -> None:
    queueing = pytest.importorskip("gradio.queueing", reason="the extra `app` is not installed")
    page_module._gradio()
    try:
        raise ValueError("a value\nof two lines")
    except ValueError:
        queueing.traceback.print_exc()
    printed = capsys.readouterr().err
    assert printed.startswith(
        "dkgzsl app: a request failed: ValueError: a value of two lines (test_gate.py, line "
    )
    assert printed.count("\n") == 1
