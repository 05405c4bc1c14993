"""Streaming: balanced batches, reading ahead, and memory that does not grow with the store."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.features.stream import chunks, read_ahead, read_tokens
from dkgzsl.representation.sovr import balanced_positions


def test_classes_and_images_come_equally_often() -> None:
    labels = np.array([0] * 3 + [1] * 40 + [2] * 7)
    batches = list(balanced_positions(labels, batch_size=10, steps=63, seed=0))
    drawn = np.concatenate(batches)
    assert [len(batch) for batch in batches] == [10] * 63
    assert np.bincount(labels[drawn]).tolist() == [210, 210, 210]
    times = np.bincount(drawn, minlength=50)
    assert set(times[:3]) == {70}  # 210 draws over 3 images
    assert set(times[3:43]) == {5, 6}
    assert set(times[43:]) == {30}
    # No class twice before every class once.
    assert all(len(set(labels[drawn[i : i + 3]])) == 3 for i in range(0, 630, 3))


def test_the_seed_decides_the_batches() -> None:
    labels = np.arange(20) % 4
    first, again, other = (
        np.concatenate(list(balanced_positions(labels, batch_size=8, steps=5, seed=seed))) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_reading_ahead_gives_every_batch_in_order(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).random((30, 5, 4)).astype(np.float16)
    np.save(tmp_path / "tokens.npy", tokens)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    order = np.random.default_rng(1).permutation(30)
    read = list(read_ahead(mapped, chunks(order, 7)))
    assert [len(positions) for positions, _ in read] == [7, 7, 7, 7, 2]
    assert (np.concatenate([positions for positions, _ in read]) == order).all()
    assert (np.concatenate([batch.numpy() for _, batch in read]) == tokens[order]).all()


def test_an_error_while_reading_reaches_the_reader() -> None:
    with pytest.raises(IndexError):
        list(read_ahead(np.zeros((3, 2, 2), np.float16), iter([np.array([0]), np.array([7])])))


def test_a_writable_map_keeps_what_was_written(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.zeros((4, 2, 1024), np.float16))
    private = np.load(tmp_path / "tokens.npy", mmap_mode="c")
    private[:] = 1
    assert read_tokens(private, np.array([0, 3])).min() == 1
    assert private.min() == 1


@pytest.mark.standard
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    script = Path(__file__).with_name("refinement_memory.py")
    peaks = []
    for images in ("100", "6000"):  # 1.6 MB and 94 MB read, of 240 MB
        run = [sys.executable, str(script), images, "10", "2048", "--steps", "40", "--folder", str(tmp_path)]
        output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        peaks.append(float(output.split()[0]))
    assert peaks[1] < peaks[0] + 60, peaks
