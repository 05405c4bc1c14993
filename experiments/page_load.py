"""The page under load, over loopback: replies, refusals, memory, files left behind.

    python experiments/page_load.py [RUN] [--clients 50] [--seconds 15] [--malformed 0.05] [--json]
    python experiments/page_load.py --clients 200 --seconds 60         # the long form of docs/reliability.md

Without RUN a small model of `numbers` is trained first. The page runs in a process of its own. Each client sends a
photo, waits for the prediction, and begins again; a refused one waits for as long as the page asks for. Some
requests are malformed: no photos, too large ones, unknown addresses, foreign origins, broken JSON, wrong values.
Exit code 1 where a good request got neither a reply nor a polite refusal within 10 s, a file stays, the terminal
shows a traceback, or memory stays more than 10 % above what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

LONGEST = 10.0
"""Seconds within which a good request has to be served or refused."""
REFUSED = (429,)


@dataclass
class Counted:
    """What became of the requests; seconds in `served` and `refused`."""

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    malformed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The figures of a load test: seconds, megabytes, numbers of requests and files.

    `load_average` is the machine's at the end; `clients_late` the 99th percentile of the seconds for which the
    clients' own process did not get on: they count in all times above.
    """

    clients: int
    seconds: float
    served: int
    refused: int
    failed: list[str]
    malformed: dict[str, int]
    p50: float
    p99: float
    slowest: float
    refusal_p99: float
    refusal_slowest: float
    memory_before: float
    memory_peak: float
    memory_after: float
    files_left: int
    tracebacks: int
    load_average: float
    clients_late: float

    @property
    def good(self) -> bool:
        """Whether all good requests were served or refused in time, and no file, traceback or memory stays."""
        in_time = not self.failed and max(self.slowest, self.refusal_slowest) <= LONGEST
        return in_time and not self.files_left and not self.tracebacks and self.memory_back

    @property
    def memory_back(self) -> bool:
        """Whether the memory after is within 10 % of the memory before."""
        return self.memory_after <= 1.1 * self.memory_before


def photos(number: int = 64) -> list[bytes]:
    """PNG files, each another one: strokes on white with a little noise."""
    from PIL import Image

    made, generator = [], np.random.default_rng(0)
    for _ in range(number):
        pixels = generator.integers(200, 256, (64, 64)).astype(np.uint8)
        pixels[16:48, 30:34] = 0
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        made.append(content.getvalue())
    return made


class Client:
    """Visitors, one after the other, until the time is over."""

    def __init__(self, http: httpx.AsyncClient, counted: Counted, images: list[bytes], malformed: float) -> None:
        self._http, self._counted, self._images, self._share = http, counted, images, malformed
        self._visitor, self._pause = {"X-Visitor": secrets.token_hex(6)}, 1.0

    async def open(self) -> None:
        """Open the page, as a browser does."""
        for path in ("/", "/page.js", "/style.css", "/api/page"):
            (await self._http.get(path, headers=self._visitor)).raise_for_status()

    async def run(self, until: float) -> None:
        """Ask until a moment of `time.monotonic`."""
        await asyncio.sleep(random.random())
        await self.open()
        while time.monotonic() < until:
            if random.random() < self._share:
                await self._malformed()
            else:
                await self._good()

    async def _good(self) -> None:
        began, refused = time.monotonic(), False
        try:
            refused = await asyncio.wait_for(self._ask(random.choice(self._images)), 3 * LONGEST)
        except Exception as error:  # whatever went wrong is counted
            self._counted.failed.append(f"{type(error).__name__}: {error}"[:200])
            return
        (self._counted.refused if refused else self._counted.served).append(time.monotonic() - began)
        if refused:
            await asyncio.sleep(self._pause)

    async def _ask(self, image: bytes) -> bool:
        """Send a photo, read the prediction; returns whether the page refused."""
        sent = await self._http.post("/api/recognise", content=image, headers=self._visitor)
        if sent.status_code in REFUSED:
            self._pause = float(sent.headers["retry-after"])
            return polite(sent.text)
        sent.raise_for_status()
        if "prediction" not in sent.json():
            raise ValueError(f"no prediction: {sent.text[:150]}")
        return False

    async def _malformed(self) -> None:
        kind = random.choice(list(self._kinds()))
        try:
            status = await asyncio.wait_for(self._kinds()[kind](), 3 * LONGEST)
        except Exception as error:
            status = type(error).__name__
        name = f"{kind}: {status}"
        self._counted.malformed[name] = self._counted.malformed.get(name, 0) + 1

    def _kinds(self) -> dict[str, Any]:
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
        return {
            "no photo": lambda: self._post("/api/recognise", b"this is no photo"),
            "an EPS": lambda: self._post("/api/recognise", eps),
            "empty": lambda: self._post("/api/photo", b""),
            "too large": lambda: self._post("/api/recognise", bytes(21_000_000)),
            "unknown address": lambda: self._post("/api/unknown", b"{}"),
            "broken JSON": lambda: self._post("/api/add", b'{"name": ['),
            "wrong values": lambda: self._post("/api/add", b'{"name": "a", "values": {"a": "b"}}'),
            "others' photos": lambda: self._post("/api/add", b'{"name": "a", "photos": [9]}'),
            "no visitor": lambda: self._post("/api/recognise", b"x", {"X-Visitor": "?"}),
            "foreign origin": lambda: self._post("/api/save", b"{}", {"Origin": "http://elsewhere.example"}),
        }

    async def _post(self, path: str, content: bytes, headers: dict[str, str] | None = None) -> str | int:
        sent = await self._http.post(path, content=content, headers={**self._visitor, **(headers or {})})
        if sent.status_code != 200:
            return sent.status_code
        return "refused with a reason" if sent.json().get("error") else "served"


def polite(text: str) -> bool:
    """True; a refusal without a sentence for the visitor is an error."""
    if "Please try again" not in text:
        raise ValueError(f"refused without a sentence: {text[:100]}")
    return True


async def load(address: str, *, clients: int, seconds: float, malformed: float) -> Counted:
    """Clients at work on a page for some seconds; they end what they have begun."""
    counted, images, until = Counted(), photos(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=address, timeout=3 * LONGEST, limits=limits, trust_env=False) as http:
        one_each = (Client(http, counted, images, malformed).run(until) for _ in range(clients))
        await asyncio.gather(*one_each)
    return counted


class Page:
    """The page of a run in a process of its own, with a folder of its own for temporary files."""

    def __init__(self, run: Path, scratch: Path, keep_seconds: float | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address, self.scratch = f"http://127.0.0.1:{port}", scratch
        words = [sys.executable, __file__, str(run), "--serve", str(port)]
        words += [] if keep_seconds is None else ["--keep", str(keep_seconds)]
        environment = {**os.environ, "TMPDIR": str(scratch)}
        self._complaints = scratch.with_name("complaints.txt").open("w+")
        self._process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=self._complaints, text=True
        )
        assert self._process.stdout is not None
        if "the page is at" not in self._process.stdout.readline():
            raise RuntimeError("the page does not start")

    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def files(self) -> int:
        """Temporary files that are there."""
        return sum(path.is_file() for path in self.scratch.rglob("*"))

    def tracebacks(self) -> int:
        """How often the page has printed a traceback."""
        self._complaints.seek(0)
        return self._complaints.read().count("Traceback (most recent call last)")

    def close(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


async def _measured(page: Page, options: argparse.Namespace, keep: float) -> Report:
    # Before: after a first few replies, so that what is loaded at the first request is there.
    await load(page.address, clients=4, seconds=3, malformed=0.2)
    before, peak, ended = page.memory(), 0.0, asyncio.Event()
    late: list[float] = [0.0]  # how much later than asked for the clients' own process went on

    async def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, page.memory())
            began = time.monotonic()
            await asyncio.sleep(0.25)
            late.append(time.monotonic() - began - 0.25)

    watching = asyncio.create_task(watch())
    given = {"clients": options.clients, "seconds": options.seconds}
    counted = await load(page.address, **given, malformed=options.malformed)
    loaded = os.getloadavg()[0]
    ended.set()
    await watching
    await asyncio.sleep(keep + min(5.0, keep / 2) + 2)  # old photos are looked for every 5 s
    served = np.array(counted.served or [np.nan])
    return Report(
        **given,
        served=len(counted.served),
        refused=len(counted.refused),
        failed=counted.failed,
        malformed=dict(sorted(counted.malformed.items())),
        p50=float(np.percentile(served, 50)),
        p99=float(np.percentile(served, 99)),
        slowest=float(served.max()),
        refusal_p99=float(np.percentile(counted.refused or [0.0], 99)),
        refusal_slowest=max(counted.refused or [0.0]),
        memory_before=before,
        memory_peak=peak,
        memory_after=page.memory(),
        files_left=page.files(),
        tracebacks=page.tracebacks(),
        load_average=loaded,
        clients_late=float(np.percentile(late, 99)),
    )


def measure(options: argparse.Namespace) -> Report:
    """Serve the page, put it under load, and count."""
    from dkgzsl.app.limits import Limits

    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or _trained(Path(scratch) / "run")
        temporary = Path(scratch) / "temporary"
        temporary.mkdir()
        page = Page(run, temporary, options.keep)
        try:
            keep = Limits().keep_seconds if options.keep is None else options.keep
            return asyncio.run(_measured(page, options, keep))
        finally:
            page.close()


def _trained(out: Path) -> Path:
    quick = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
    quick += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--baseline", "none"]
    words = [sys.executable, "-m", "dkgzsl", "train", "numbers", *quick, "--report", "off", "--out", str(out)]
    subprocess.run(words, check=True, capture_output=True)
    return out


def _serve(run: Path, port: int, keep: float | None) -> None:
    from dkgzsl.app.limits import Limits
    from dkgzsl.app.serving import serve
    from dkgzsl.app.session import Session
    from dkgzsl.inference.photos import photo_reader

    session = Session.open(run)
    limits = Limits() if keep is None else Limits(keep_seconds=keep)
    serve(session, photo_reader(session.recognizer.record), host="127.0.0.1", port=port, limits=limits)


def main() -> int:
    """Measure, print; or serve, as the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--malformed", type=float, default=0.05, help="share of malformed requests")
    parser.add_argument("--keep", type=float, help="seconds that the page keeps a photo (default: the page's)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.run, options.serve, options.keep)
        return 0
    report = measure(options)
    if options.json:
        print(json.dumps(asdict(report)))
    else:
        for name, value in {**asdict(report), "failed": len(report.failed)}.items():
            print(f"{name:<14} {value:.2f}" if isinstance(value, float) else f"{name:<14} {value}")
        for text in report.failed[:5]:
            print(f"failed: {text}")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
