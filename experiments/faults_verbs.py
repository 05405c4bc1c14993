"""More verbs that write, for `faults_kills.py` and `tests/faults`, and the verbs that write nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from dkgzsl.app.session import Session
from dkgzsl.cli.main import main
from dkgzsl.data.fetching import additions, sources
from dkgzsl.data.formats.computed_tables import origin_of
from dkgzsl.inference.new_classes import Described
from faults_forks import Result, Verb, copy, result_of, run_forked, words

WITHOUT_OUTPUT: Final[Mapping[str, str]] = {
    "evaluate": "prints",
    "compare": "prints",
    "data list": "prints",
    "data check": "prints; with --write-checksums it is in the table",
    "doctor": "prints",
    "app": "writes versions, by the function that is in the table",
}
"""Verbs of the command line that are in no table of faults under their own name, each with its reason."""


def more_verbs(shared: Path, run: Path, other: Path) -> list[Verb]:
    """The verbs that are not those of runs.

    Args:
        shared: a folder for what they share; it has `world`, and is filled.
        run: a finished run.
        other: another one of the same data, whose output is the older result.
    """
    return [
        *_of_runs(shared, run, other),
        *_of_problems(_own_photos(shared)),
        *_of_searches(shared / "world"),
        *_fetching(shared),
    ]


def _of_runs(shared: Path, run: Path, other: Path) -> list[Verb]:
    def older(name: str, *given: str) -> Path:
        made = shared / name
        if not made.exists() and run_forked(lambda: main([*given, str(made)]), log=shared / "log"):
            raise SystemExit((shared / "log").read_text())
        return made

    pool = str(shared / "pool.npy")
    synthesize, report = ["synthesize", "--number", "20", "--out"], ["report", "--out"]
    predict = ["--features", pool, "--out"]
    arrays, page = (
        older("older.npz", *synthesize[:-1], str(other), "--out"),
        older("older.html", "report", str(other), "--out"),
    )
    lines = older("older.jsonl", "predict", str(other), *predict)
    found = [
        Verb(
            "synthesize", copy((arrays, "x.npz")), words(*synthesize, "@/x.npz", str(run), "--overwrite"), "x.npz"
        ),
        Verb("report", copy((page, "x.html")), words(*report, "@/x.html", str(run)), "x.html"),
        Verb("report of two", copy((page, "x.html")), words(*report, "@/x.html", str(run), str(other)), "x.html"),
        Verb("predict --out, replaced", copy((lines, "x")), words("predict", str(run), *predict, "@/x"), "x"),
        Verb(
            "data check --write-checksums",
            _without_checksums(run),
            words("data", "check", "@/run", "--deep", "--write-checksums"),
            "run",
            read=_every_file,
        ),
        Verb("app: save", copy((run, "run")), _save_by_page, "run"),
    ]
    if find_spec("onnxruntime") and find_spec("onnx"):
        model = older("older.onnx", "export", str(other), "--features-only", "--out")
        exporting = words("export", str(run), "--features-only", "--out", "@/x.onnx")
        found.append(Verb("export", copy((model, "x.onnx")), exporting, "x.onnx"))
    return found


def _without_checksums(run: Path) -> Callable[[Path], None]:
    def begin(folder: Path) -> None:
        copy((run, "run"))(folder)
        (folder / "run" / "checksums.json").unlink()

    return begin


def _every_file(target: Path) -> Result:
    """What the run holds, its checksums among it."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in target.glob("*.json")}


def _save_by_page(folder: Path) -> int:
    """What the button of the page does."""
    session = Session.open(folder / "run")
    if "late" in session.recognizer.known_names:
        return 2
    mean = session.mean_description
    assert mean is not None, "classes can be added to this run"
    session._with("late", Described(mean * 1.1, 0)).saved()
    return 0


def _own_photos(shared: Path) -> Path:
    """A folder of one's own images, small enough for 2,000 bytes a file."""
    from PIL import Image

    folder = shared / "own"
    if not folder.exists():
        rng = np.random.default_rng(0)
        for name in ("ant", "bee", "cat", "dog"):
            (folder / "images" / name).mkdir(parents=True)
            for number in range(0 if name == "dog" else 4):
                pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
        rows = [
            f"{name},{','.join(str(one) for one in rng.random(90).round(3))}"
            for name in ("ant", "bee", "cat", "dog")
        ]
        head = ",".join(["class", *(f"a{k}" for k in range(90))])
        (folder / "attributes.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def _of_problems(own: Path) -> list[Verb]:
    importing = ["data", "import", str(own), "--semantics", "attributes", "--out", "@/problem"]

    def older(folder: Path) -> None:
        assert words(*importing, "--name", "older")(folder) == 0

    def described(text: str) -> Callable[[Path], int]:
        def work(folder: Path) -> int:
            given = ["data", "describe", "@/own", "--encoder", "toy", "--as", "names", "--template", text]
            with patch("dkgzsl.data.text_semantics.encode_texts", _encoded):
                return words(*given, "--overwrite")(folder)

        return work

    def begin(folder: Path) -> None:
        copy((own, "own"))(folder)
        assert described("the older {name}")(folder) == 0

    return [
        Verb("data import", copy(), words(*importing), "problem"),
        Verb("data import --overwrite", older, words(*importing, "--overwrite"), "problem"),
        Verb("data describe", copy((own, "own")), described("a {name}"), "own", read=_table_and_origin),
        Verb("data describe --overwrite", begin, described("a {name}"), "own", read=_table_and_origin),
    ]


def _encoded(texts: Sequence[str], **_: Any) -> tuple[np.ndarray, str]:
    """An encoder that needs no download: each sentence seeds its numbers."""
    seeds = [int.from_bytes(sha256(text.encode()).digest()[:4], "big") for text in texts]
    return np.stack([np.random.default_rng(seed).random(60) for seed in seeds]), "toy 1"


def _table_and_origin(target: Path) -> Result:
    """A computed table, and what whoever reads it takes for its origin."""
    table = target / "names.csv"
    if not table.is_file():
        return {}
    return {
        "table": sha256(table.read_bytes()).hexdigest(),
        "origin": json.dumps(origin_of(table), sort_keys=True),
    }


def _of_searches(data: Path) -> list[Verb]:
    reproduce = ["reproduce", "CUB", "--method", "eszsl", "--out", "@/r"]

    def reproducing(folder: Path) -> int:
        from worlds import world

        with patch("dkgzsl.benchmark.grid.load_dataset", lambda *_, **__: world()):
            return words(*reproduce)(folder)

    found = [Verb("reproduce", copy(), reproducing, "r", read=_tables)]
    if find_spec("optuna"):
        tune = ["tune", str(data), "--method", "eszsl", "--trials", "3", "--out", "@/t"]
        found.append(Verb("tune", copy(), words(*tune), "t", read=_trials))
    return found


def _tables(target: Path) -> Result:
    """Cells and tables; `table.csv` and `table.md` are the table with its seconds."""
    return {name: value for name, value in result_of(target).items() if name.endswith((".json", ".npz"))}


def _trials(target: Path) -> Result:
    """The settings that are kept, and all trials without their seconds."""
    if not (target / "trials.csv").is_file():
        return {}
    rows = list(csv.DictReader((target / "trials.csv").read_text().splitlines()))
    found = {f"trial {row['trial']}": str({k: v for k, v in row.items() if k != "seconds"}) for row in rows}
    return found | {file.name: file.read_text() for file in target.glob("*.yaml")}


def _fetching(shared: Path) -> list[Verb]:
    """`data fetch` from a server of this process; the archive is small, and so is what is expected of it."""
    import sys

    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "data"))
    from loopback_server import serve

    birds = ("001.Black_footed_Albatross", "200.Common_Yellowthroat")
    names = [f"CUB_200_2011/images/{bird}/{k}.jpg" for bird in birds for k in range(3)]
    members = {name: np.random.default_rng(k).bytes(1500) for k, name in enumerate(["attributes.txt", *names])}
    made = shared / "birds.tgz"
    if not made.exists():
        _tar(made, members)
    server = serve(made.read_bytes(), "birds.tgz")
    url = server.__enter__().url  # until this process ends
    KEPT.append(server)
    mats = shared / "xlsa17.zip"
    files = {f"xlsa17/data/AWA2/{name}": np.random.default_rng(9).bytes(3000)
             for name in ("res101.mat", "att_splits.mat", "allclasses.txt")}  # fmt: skip
    _zip(mats, files)

    def fetching(*given: str) -> Callable[[Path], int]:
        def work(folder: Path) -> int:
            small = {
                key: replace(one, size=200_000, unpacked=200_000, sha256=None)
                for key, one in sources.SOURCES.items()
            }
            with ExitStack() as stack:
                stack.enter_context(patch.object(sources, "SOURCES", small))
                stack.enter_context(patch.object(additions, "ADDITIONS", {}))
                stack.enter_context(patch.dict("os.environ", {"no_proxy": "*"}))
                return words("data", "fetch", *given, "--data-root", "@/data")(folder)

        return work

    return [
        Verb("data fetch", copy(), fetching("CUB", "--what", "images", "--source", url), "data", read=_fetched),
        Verb("data fetch, features", copy(), fetching("AWA2", "--source", str(mats)), "data", read=_fetched),
    ]


KEPT: Final[list[Any]] = []
"""Servers that run until the process ends."""


def _fetched(target: Path) -> Result:
    """All that was fetched, where it is from, and archives that are left."""
    found = {
        name: value for name, value in result_of(target).items() if not name.endswith((".lock", "fetched.json"))
    }
    for record in target.glob("*/fetched.json"):
        content = json.loads(record.read_text())
        found[str(record.relative_to(target))] = str(
            {k: (one["url"], one["sha256"]) for k, one in content.items()}
        )
    return found


def _tar(file: Path, members: Mapping[str, bytes]) -> None:
    import io
    import tarfile

    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _zip(file: Path, members: Mapping[str, bytes]) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
