"""`torchrun -m dkgzsl train` as users start it: figures, a process that is killed, and what goes on afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl.cli.main import main
from worlds import CHANNELS, arrays, world_folder

SMALL = ["--method", "dkgzsl", "--batch-size", "33", "--dkgzsl.hidden-size", "16", "--baseline", "none"]
SMALL += ["--dkgzsl.softmax.per-class", "10", "--dkgzsl.softmax.epochs", "2", "--report", "off", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in files, and region tokens of its images."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError as error:
        pytest.skip(f"sockets are not allowed here: {error}")
    folder = world_folder(tmp_path_factory.mktemp("data") / "world")
    pooled, labels, _ = arrays()
    noise = np.random.default_rng(2).random((len(pooled), 4, CHANNELS), np.float32)
    tokens = np.concatenate([pooled[:, None], pooled[:, None] + noise], axis=1)
    np.savez(folder / "tokens.npz", features=tokens, labels=labels)
    store = ["--backbone", "toy", "--out", str(folder / "store")]
    assert main(["data", "convert", str(folder / "tokens.npz"), *store]) == 0
    return folder


def start(*words: str) -> "subprocess.Popen[str]":
    """`dkgzsl train` by two processes."""
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, "-m", "dkgzsl", "train", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def process_of(rank: int, parent: int) -> int:
    """The process that torchrun has started as number `rank`."""
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in children.read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise AssertionError(f"there is no process {rank}")


def test_two_processes_print_the_figures_of_one(data: Path, tmp_path: Path, capsys) -> None:
    words = [str(data), *SMALL, "--epochs", "2", "--json"]
    assert main(["train", *words, "--out", str(tmp_path / "one")]) == 0
    one = json.loads(capsys.readouterr().out)
    code, out, error = finished(start(*words, "--out", str(tmp_path / "two")))
    assert code == 0, error
    assert out.count("\n") == 1, "one process prints"
    two = json.loads(out)
    assert two["metrics"]["h"]["mean"] == pytest.approx(one["metrics"]["h"]["mean"], abs=0.05)
    first, second = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(first) == len(second), "one process writes"
    for mine, other in zip(first, second, strict=True):
        if mine["event"] == "epoch":
            assert other["penalty"] == pytest.approx(mine["penalty"], rel=1e-3)


def test_sovr_is_refined_by_both(data: Path, tmp_path: Path) -> None:
    words = [str(data), "--features", str(data / "store"), *SMALL, "--epochs", "1"]
    words += ["--representation", "refined", "--refinement.steps", "10", "--refinement.batch-size", "11"]
    words += ["--refinement.precision", "float32"]
    losses = []
    assert main(["train", *words, "--out", str(tmp_path / "one")]) == 0
    code, _, error = finished(start(*words, "--out", str(tmp_path / "two")))
    assert code == 0, error
    for name in ("one", "two"):
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        losses.append([line["attention"] for line in lines if line["event"] == "refinement"])
    assert len(losses[0]) == 4  # the first and the tenth step, on the cut and on all training images
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found in /proc")
@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_killed_process_leaves_a_run_that_one_process_finishes(
    rank: int, data: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    words = [str(data), *SMALL, "--epochs", "20", "--dkgzsl.evaluate-every", "2", "--out", str(out)]
    started = start(*words)
    while not list(out.glob("checkpoints/*/*.safetensors")):
        assert started.poll() is None, finished(started)
        time.sleep(0.05)
    os.kill(process_of(rank, started.pid), signal.SIGKILL)
    code, _, error = finished(started)
    assert code == 1
    said = [line for line in error.splitlines() if "dkgzsl train --resume" in line]
    assert len(said) == 1, error
    assert f"torchrun --nproc-per-node 2 -m dkgzsl train --resume --out {out}" in said[0]
    assert "terminate called" not in error
    assert main(["train", "--resume", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "dkgzsl"
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if '"epoch"' in line]
    numbers = [line["epoch"] for line in epochs if line["event"] == "epoch"]
    assert numbers.count(1) == 2, "once on the cut, once on all training images: the checkpoint was used"


def test_what_several_processes_do_not_do_is_said_once(data: Path, tmp_path: Path) -> None:
    code, _, error = finished(start(str(data), "--method", "closed-form", "--out", str(tmp_path / "run")))
    assert code == 1
    assert error.count("error: --method closed-form on pooled features computes in one process") == 1
    assert "leave torchrun out" in error
    assert not (tmp_path / "run").exists()
