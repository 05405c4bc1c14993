"""Kill every writing verb, go on, and compare with what an undisturbed command leaves, bit for bit.

    python experiments/faults_kills.py OUT [--kills N] [--stops] [--only VERB ...]

Two kinds of death, each in a forked process after the imports:

- random: SIGKILL at a random moment, up to three times in a chain, until N kills are done;
- planted (`--stops`): the process ends right before its n-th rename, removal, fsync, new folder or exchange of two
  names, for every n.

After each death the older result is there whole, or the new one is; then the same command, `--resume` or
`--overwrite` goes on, and the result is compared with that of the undisturbed command. OUT keeps a line for each
case in `kills.jsonl`: the same command goes on where it stopped, and sums all parts in the table that it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from dkgzsl.cli.main import main
from faults_forks import Case, Result, Verb, copy, run_forked, undisturbed, warm, words
from faults_verbs import more_verbs

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.kernel-width", "0"]
FEW += ["--closed-form.episodes", "off", "--closed-form.unit-length", "on", "--closed-form.seen-blend", "0"]
FEW += ["--closed-form.feature-kernel-width", "0", "--baseline", "none", "--report", "off"]


def verbs(shared: Path) -> list[Verb]:
    """The verbs that are killed.

    Args:
        shared: a folder for what they share: data, two trained runs, a pool; it is filled.
    """
    from worlds import ATTRIBUTES, CHANNELS, arrays, world_folder

    warm()
    data, run, other = shared / "world", shared / "run", shared / "other"
    if not data.exists():
        world_folder(data)
    for path, ridge in ((run, "0.1"), (other, "1")):
        if not (path / "result.json").is_file():
            said = ["train", str(data), *FEW, "--closed-form.ridge", ridge, "--out", str(path), "--overwrite"]
            if run_forked(lambda said=said: main(said), log=shared / "log"):
                raise SystemExit((shared / "log").read_text())
    vector, pool, photos = shared / "vector.npy", shared / "pool.npy", shared / "photos"
    np.save(vector, np.random.default_rng(0).random(ATTRIBUTES))
    features, labels, _ = arrays()
    noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    np.save(pool, (features + 0.1 * noise)[labels > 11][:, :CHANNELS])
    train = ["train", str(data), *FEW, "--closed-form.ridge", "0.1", "--seeds", "2", "--out", "@/run"]
    add = ["add-class", "@/run", "--name", "late", "--attributes", str(vector)]
    adapt = ["adapt", "@/run", str(pool), "--force"]
    push = ["push", str(run), "@/pushed"]
    found = [
        Verb("train", copy(), words(*train), "run", [words(*train, "--resume")]),
        Verb(
            "train --overwrite",
            copy((other, "run")),
            words(*train, "--overwrite"),
            "run",
            [words(*train, "--resume")],
            [".run.replaced"],
        ),
        Verb("push", copy(), words(*push), "pushed"),
        Verb("push --overwrite", copy((_pushed(other, shared), "pushed")), words(*push, "--overwrite"), "pushed"),
        Verb("pull", copy((_pushed(run, shared), "from")), words("pull", "@/from", "--out", "@/to"), "to"),
        Verb("add-class", copy((run, "run")), words(*add), "run"),
        Verb("remove-class", copy((run, "run")), words("remove-class", "@/run", "--name", "class_13"), "run"),
        Verb("adapt", copy((run, "run")), words(*adapt), "run"),
        Verb("predict --out", copy(), words("predict", str(run), "--features", str(pool), "--out", "@/x"), "x"),
        Verb(
            "benchmark",
            copy(),
            words(
                "benchmark", "--datasets", str(data), "--methods", "eszsl", "sae", "--seeds", "2", "--out", "@/b"
            ),
            "b/cells",
        ),
        Verb(
            "data convert",
            copy(),
            words("data", "convert", str(_labelled(shared)), "--backbone", "toy", "--out", "@/store"),
            "store",
        ),
    ]
    return [*found, *_of_photos(photos), *more_verbs(shared, run, other)]


def _pushed(run: Path, shared: Path) -> Path:
    target = shared / f"pushed-{run.name}"
    if not target.exists() and run_forked(lambda: main(["push", str(run), str(target)]), log=shared / "log"):
        raise SystemExit((shared / "log").read_text())
    return target


def _labelled(shared: Path) -> Path:
    from worlds import arrays

    features, labels, _ = arrays()
    file = shared / "features.npz"
    np.savez(file, features=features, labels=labels)
    return file


def _of_photos(photos: Path) -> list[Verb]:
    """`extract`, by the function below the command line, on photos made on the spot; none without timm."""
    try:
        from PIL import Image

        from dkgzsl.features.backbones import build_backbone
        from dkgzsl.features.extraction import ImageList, extract
    except ImportError:
        return []
    photos.mkdir(exist_ok=True)
    rng, paths = np.random.default_rng(0), [f"{k:03}.png" for k in range(12)]
    for path in paths:
        pixels = rng.integers(0, 256, (70, 80, 3), np.uint8)
        if not (photos / path).exists():
            Image.fromarray(pixels).save(photos / path)
    listed = ImageList("photos", photos, paths, [k % 2 for k in range(12)], ["cat", "dog"])

    def extracting(batch_size: int, *, overwrite: bool) -> Callable[[Path], int]:
        def work(folder: Path) -> int:
            backbone = build_backbone("test_resnet", image_size=64, random_seed=0)
            extract(listed, backbone, folder / "store", batch_size=batch_size, device="cpu", overwrite=overwrite)
            return 0

        return work

    def begin(folder: Path) -> None:
        extracting(3, overwrite=False)(folder)

    return [
        Verb("extract", copy(), extracting(2, overwrite=False), "store"),
        Verb("extract --overwrite", begin, extracting(2, overwrite=True), "store"),
    ]


def random_kills(verb: Verb, folder: Path, seed: int, truth: Result, seconds: float) -> int:
    """A chain of up to three kills, gone on with; returns how many met the command at work."""
    rng, done = random.Random(f"{verb.name} {seed}"), 0
    case = Case(verb, folder, truth)
    for _ in range(rng.randint(1, 3)):
        done += case.kill(rng.uniform(0, seconds))
        case.check_whole()
    case.go_on()
    shutil.rmtree(folder)
    return done


def planted_stop(verb: Verb, folder: Path, at: int, truth: Result) -> None:
    """One planted stop, gone on with."""
    case = Case(verb, folder, truth)
    case.stop(at)
    case.check_whole()
    case.go_on()
    shutil.rmtree(folder)


def run(out: Path, *, kills: int, stops: bool, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Do the cases that are not done yet, and keep a line for each.

    Args:
        out: folder for the lines and the work.
        kills: kills at random moments that are wanted in all, over all verbs.
        stops: whether each step of each verb gets a planted stop.
        only: names of verbs (default: all).

    Returns:
        All lines, those of earlier calls among them; what was a fault is done again.
    """
    work, kept = out / "work", out / "kills.jsonl"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    lines = list({(one["verb"], one["kind"], one["at"]): one for one in lines if one["fault"] is None}.values())
    done = {(one["verb"], one["kind"], one["at"]) for one in lines}
    truths = {}
    for verb in [one for one in verbs(work) if not only or one.name in only]:
        truth, steps, seconds = undisturbed(verb, work / "case")
        truths[verb.name] = verb, truth, seconds
        for at in range(1, steps + 1) if stops else ():
            if (verb.name, "stop", at) not in done:
                stopped = partial(_stopped, verb, work, at, truth)
                lines.append(_kept(kept, verb, "stop", at, stopped))
    seed = 0
    while truths and sum(one["kills"] for one in lines if one["kind"] == "kill") < kills:
        for verb, truth, seconds in truths.values():
            if (verb.name, "kill", seed) not in done:
                killed = partial(random_kills, verb, work / "case", seed, truth, seconds)
                lines.append(_kept(kept, verb, "kill", seed, killed))
        seed += 1
    return lines


def _stopped(verb: Verb, work: Path, at: int, truth: Result) -> int:
    planted_stop(verb, work / "case", at, truth)
    return 1


def _kept(file: Path, verb: Verb, kind: str, at: int, case: Callable[[], int]) -> dict[str, Any]:
    try:
        line: dict[str, Any] = {"verb": verb.name, "kind": kind, "at": at, "kills": case(), "fault": None}
    except AssertionError as error:
        line = {"verb": verb.name, "kind": kind, "at": at, "kills": 1, "fault": str(error)}
        print(line["fault"], file=sys.stderr)
    with file.open("a") as opened:
        opened.write(json.dumps(line) + "\n")
    return line


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines summed by verb, in Markdown."""
    rows = ["| verb | random kills, chains | identical | planted stops | identical |", "|---|---|---|---|---|"]
    names = list(dict.fromkeys(one["verb"] for one in lines))
    for name in [*names, "all"]:
        of = {
            kind: [x for x in lines if x["kind"] == kind and name in (x["verb"], "all")]
            for kind in ("kill", "stop")
        }
        good = {kind: sum(one["fault"] is None for one in found) for kind, found in of.items()}
        kills = sum(one["kills"] for one in of["kill"])
        rows.append(
            f"| {name} | {kills}, {len(of['kill'])} | {good['kill']} | {len(of['stop'])} | {good['stop']} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    given = parser.parse_args()
    found = run(given.out, kills=given.kills, stops=given.stops, only=given.only)
    print(table(found))
    sys.exit(any(one["fault"] for one in found))
