"""Statistics of a store by workers of a cluster: those of one process, and of plain sums."""

import numpy as np
import pytest

from dkgzsl.errors import DataError
from dkgzsl.features.store import open_store
from dkgzsl.features.store_writer import StoreWriter
from dkgzsl.methods.shared.store_statistics import statistics_of_store

IMAGES, CHANNELS, CLASSES = 530, 6, 4


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    tokens = (rng.normal(size=(IMAGES, 2, CHANNELS)) + 3).astype(np.float16)
    record = {"class_names": [f"c{k}" for k in range(CLASSES)], "grid": [1, 1], "batch_size": IMAGES}
    paths, labels = [f"{k}.jpg" for k in range(IMAGES)], [k % CLASSES for k in range(IMAGES)]
    how = {"record": record, "paths": paths, "labels": labels, "tokens": 2, "channels": CHANNELS}
    with StoreWriter(tmp_path / "store", **how) as writer:
        writer.append(tokens, [("0" * 64, "not an image" if k == 7 else None) for k in range(IMAGES)])
    return open_store(tmp_path / "store")


@pytest.mark.parametrize("on", [None, "ray"])
def test_they_are_those_of_plain_sums(request, store, on) -> None:
    if on is not None:
        request.getfixturevalue("two_workers")
    found = statistics_of_store(store, on=on, block=16)
    kept = [row for row in range(IMAGES) if row != 7]
    rows = np.asarray(store.tokens[:], np.float64)[kept, 0]
    labels = store.labels[kept]
    assert found.counts.tolist() == [int((labels == c).sum()) for c in range(CLASSES)]
    for c in range(CLASSES):
        np.testing.assert_allclose(found.means[c], rows[labels == c].mean(0), atol=1e-6)
    residues = np.concatenate([rows[labels == c] - rows[labels == c].mean(0) for c in range(CLASSES)])
    np.testing.assert_allclose(found.within, residues.T @ residues, rtol=1e-5, atol=1e-4)


def test_a_cluster_gives_what_one_process_gives(two_workers, store) -> None:
    rows = np.arange(20, 500, 3)
    here, there = (statistics_of_store(store, rows, on=on, block=8) for on in (None, "ray"))
    for name in ("origin", "counts", "sums", "scatter"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-9, atol=1e-9)
    assert here.images == len(rows)


def test_no_row_is_an_error(store) -> None:
    with pytest.raises(DataError, match="no image"):
        statistics_of_store(store, np.zeros(0, np.int64))
