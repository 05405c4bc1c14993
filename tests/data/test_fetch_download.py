"""Downloads against a server that breaks off, lies and changes its mind."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import loopback_server as lb
import pytest

from dkgzsl.data.fetching import download as module
from dkgzsl.data.fetching.download import Downloaded, Partial, Patience, download
from dkgzsl.errors import DataError

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(310_000)
QUICK = Patience(timeout=5.0, tries=3, pause=0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[lb.Files]:
    monkeypatch.setenv("no_proxy", "*")
    with lb.serve(CONTENT) as files:
        yield files


def get(server: lb.Files, folder: Path, **more: object) -> Downloaded:
    options: dict[str, object] = {"limit": 10**6, "patience": QUICK} | more
    return download(server.url, folder / "file.bin", **options)  # type: ignore[arg-type]


def whole(folder: Path, content: bytes = CONTENT) -> None:
    """The file is there, nothing else is."""
    assert (folder / "file.bin").read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["file.bin"]


def test_plain_download(server: lb.Files, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    got = get(server, tmp_path, progress=lambda done, total: seen.append((done, total)))
    whole(tmp_path)
    assert got == Downloaded(300_000, hashlib.sha256(CONTENT).hexdigest(), '"one"', 0)
    assert seen[0] == (0, 300_000)
    assert seen[-1] == (300_000, 300_000)


def test_breaks_off_and_goes_on_in_one_command(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.breaks_off(50_000)]
    said: list[str] = []
    get(server, tmp_path, log=said.append)
    whole(tmp_path)
    assert [request.range for request in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert {request.if_range for request in server.asked[1:]} == {'"one"'}
    assert "100000 of 300000 bytes came" in said[0]


def test_many_breaks_are_fine_while_bytes_come(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(20_000)] * 12
    get(server, tmp_path)
    whole(tmp_path)
    assert len(server.asked) == 13


def test_next_command_goes_on(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.says(503), lb.says(503), lb.says(503)]
    with pytest.raises(DataError, match="100000 bytes are kept"):
        get(server, tmp_path)
    assert not (tmp_path / "file.bin").exists()
    assert Partial(tmp_path / "file.bin").resumable(server.url) == 100_000
    assert get(server, tmp_path).resumed == 100_000
    whole(tmp_path)
    assert server.asked[-1].range == "bytes=100000-"


def test_part_of_another_address_is_not_continued(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.says(404)]
    with pytest.raises(DataError):
        get(server, tmp_path)
    server.url += "?other"
    get(server, tmp_path)
    whole(tmp_path)
    assert server.asked[-1].range is None


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_it_starts_over(server: lb.Files, tmp_path: Path, etag: str | None) -> None:
    server.etag = etag
    server.script = [lb.breaks_off(100_000)]
    get(server, tmp_path)
    whole(tmp_path)
    assert [request.range for request in server.asked] == [None, None]


def test_date_is_a_validator(server: lb.Files, tmp_path: Path) -> None:
    server.etag, server.modified = 'W/"weak"', "Mon, 01 Jan 2018 00:00:00 GMT"
    server.script = [lb.breaks_off(100_000)]
    get(server, tmp_path)
    whole(tmp_path)
    assert (server.asked[1].range, server.asked[1].if_range) == ("bytes=100000-", server.modified)


def test_server_ignores_range(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.ignores_range()]
    get(server, tmp_path)
    whole(tmp_path)


def test_server_ignores_range_and_always_breaks(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.ignores_range(100_000)] * 20
    with pytest.raises(DataError, match="3 times in a row"):
        get(server, tmp_path)
    assert len(server.asked) == 4  # the first brought bytes, three more brought none beyond them


def test_file_changes_between_tries(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.changes(OTHER, '"two"')]
    got = get(server, tmp_path)
    whole(tmp_path, OTHER)
    assert got.etag == '"two"'


@pytest.mark.parametrize("size", [300_000, 310_000, 90_000])
def test_file_changes_and_the_server_ignores_if_range(server: lb.Files, tmp_path: Path, size: int) -> None:
    server.script = [lb.breaks_off(100_000), lb.mixes(OTHER[:size], '"two"')]
    get(server, tmp_path)
    whole(tmp_path, OTHER[:size])


def test_file_changes_and_the_server_hides_it(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.mixes(OTHER, '"one"')]  # the same ETag, another length
    get(server, tmp_path)
    whole(tmp_path, OTHER)


def test_all_was_here_but_the_name(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.says(404)]
    with pytest.raises(DataError):
        get(server, tmp_path)
    Partial(tmp_path / "file.bin").file.write_bytes(CONTENT)
    get(server, tmp_path)
    whole(tmp_path)
    assert server.asked[-1].range == "bytes=300000-"


def test_claims_more_than_it_has(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.claims(400_000), lb.claims(400_000), lb.claims(400_000), lb.claims(400_000)]
    with pytest.raises(DataError, match="300000 of 400000 bytes came"):
        get(server, tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_claims_more_once(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.claims(400_000)]
    get(server, tmp_path)
    whole(tmp_path)


def test_claims_less_than_it_has(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.claims(200_000)]
    with pytest.raises(DataError, match="another one than expected"):
        get(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [lb.without_length, lb.chunked(stop=False)])
def test_length_unknown(server: lb.Files, tmp_path: Path, answer: lb.Answer) -> None:
    server.script = [answer]
    seen: list[int | None] = []
    get(server, tmp_path, progress=lambda done, total: seen.append(total))
    whole(tmp_path)
    assert set(seen) == {None}


def test_chunked_breaks_off(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.chunked(stop=True)]
    get(server, tmp_path)
    whole(tmp_path)
    assert server.asked[1].range == "bytes=150000-"


def test_errors_of_the_server_pass(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.says(500), lb.says(503, Retry_After="0")]
    get(server, tmp_path)
    whole(tmp_path)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "is not there"), (410, "is not there"), (403, "cannot be had")]
)
def test_errors_that_stay(server: lb.Files, tmp_path: Path, status: int, words: str) -> None:
    server.script = [lb.says(status)]
    with pytest.raises(DataError, match=f"{words}.*{status}"):
        get(server, tmp_path)
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_error_in_the_middle_keeps_the_part(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.breaks_off(100_000), lb.says(404)]
    with pytest.raises(DataError, match="404"):
        get(server, tmp_path)
    assert Partial(tmp_path / "file.bin").resumable(server.url) == 100_000


def test_web_page_is_no_file(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.web_page]
    with pytest.raises(DataError, match="web page"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [lb.honest, lb.without_length])
def test_far_too_large(server: lb.Files, tmp_path: Path, answer: lb.Answer) -> None:
    server.script = [answer]
    with pytest.raises(DataError, match="far larger"):
        get(server, tmp_path, limit=200_000)
    assert list(tmp_path.iterdir()) == []


def test_silence_ends_by_time_out(server: lb.Files, tmp_path: Path) -> None:
    server.script = [lb.silence(1.0)]
    said: list[str] = []
    get(server, tmp_path, patience=Patience(timeout=0.2, tries=3, pause=0.01), log=said.append)
    whole(tmp_path)
    assert "nothing came for too long" in said[0]
    assert server.asked[1].range == "bytes=10-"


def test_other_hash_than_known(server: lb.Files, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another one than expected"):
        get(server, tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_known_hash(server: lb.Files, tmp_path: Path) -> None:
    get(server, tmp_path, sha256=hashlib.sha256(CONTENT).hexdigest())
    whole(tmp_path)


def test_redirect_keeps_range(server: lb.Files, tmp_path: Path) -> None:
    there = server.url + "?there"
    server.script = [lb.says(302, Location=there), lb.breaks_off(100_000), lb.says(302, Location=there)]
    get(server, tmp_path)
    whole(tmp_path)
    assert server.asked[-1].range == "bytes=100000-"


@pytest.mark.parametrize(
    ("before", "after"), [("https", "http"), ("http", "ftp"), ("https", "ftp"), ("http", "file")]
)
def test_redirect_never_gives_up_encryption(before: str, after: str) -> None:
    request = urllib.request.Request(f"{before}://127.0.0.1/a")
    with pytest.raises(DataError, match=f"redirects from {before} to {after}://"):
        module._Redirects().redirect_request(request, None, 302, "", {}, f"{after}://127.0.0.1/a")  # type: ignore[arg-type]


def test_server_is_gone(server: lb.Files, tmp_path: Path) -> None:
    with lb.serve(b"") as gone:
        url = gone.url
    server.url = url
    with pytest.raises(DataError, match="no connection"):
        get(server, tmp_path)


def test_offline_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*args: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(DataError, match=r"'data\.invalid' cannot be found") as caught:
        download("http://data.invalid/x.zip", tmp_path / "x.zip", limit=10, patience=Patience(pause=60.0))
    assert "--source" in str(caught.value)


def test_bad_certificate_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "certificate has expired"
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(DataError, match="certificate has expired"):
        download("https://127.0.0.1/x.zip", tmp_path / "x.zip", limit=10, patience=QUICK)


def test_no_room_on_the_disk(server: lb.Files, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not enough room"):
        get(server, tmp_path, room=shutil.disk_usage(tmp_path).total)
    assert not (tmp_path / "file.bin").exists()


def test_disk_full_keeps_the_part(server: lb.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="the disk is full"):
            get(server, tmp_path)
    assert get(server, tmp_path).resumed == 300_000
    whole(tmp_path)


def test_interrupted_by_the_user(server: lb.Files, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, progress=stop)
    assert not (tmp_path / "file.bin").exists()
    assert get(server, tmp_path).resumed > 100_000
    whole(tmp_path)


def test_spoiled_notes_mean_a_fresh_start(server: lb.Files, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(OTHER)
    (tmp_path / "file.bin.part.json").write_text("{")
    get(server, tmp_path)
    whole(tmp_path)
