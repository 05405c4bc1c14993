"""Damaged files through every reader: only our own errors, no crash, no hang, little memory."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import fault_readers
from fault_readers import FAULTS, Case, cases, run_cases
from fault_samples import SAMPLES, Sample

SOURCE = Path(__file__).parents[2] / "src" / "dkgzsl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults") / "samples"


def test_whole_files_are_read(folder) -> None:
    served = [name for name, sample in SAMPLES.items() if sample.words is not None]
    todo = [*(Case(name, -1) for name in SAMPLES), *(Case(name, -1, True) for name in served)]
    assert [(one.case, one.detail) for one in run_cases(todo, folder) if one.kind != "read"] == []


def test_damaged_files_make_our_errors_alone(folder) -> None:
    outcomes = list(run_cases(cases(5, commands=20), folder))
    assert len(outcomes) >= 200
    assert sum(one.kind == "refused" for one in outcomes) > len(outcomes) / 3
    assert [(one.case, one.kind, one.detail) for one in outcomes if one.kind in FAULTS] == []


def test_every_kind_of_fault_is_found(folder, monkeypatch) -> None:
    """The harness itself: readers that have each fault."""

    def takes_memory(_):
        return np.ones(fault_readers.MEMORY // 8 + 2**24)

    def takes_time(_):
        end = time.process_time() + 1.5
        while time.process_time() < end:
            pass

    readers = {
        "traceback": lambda _: {}["key"],
        "crash": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
        "memory": takes_memory,
        "hang": takes_time,
    }
    for name, read in readers.items():
        monkeypatch.setitem(SAMPLES, name, Sample("texts", "settings.yaml", read))
    monkeypatch.setattr(fault_readers, "SECONDS", 1.0)
    found = list(run_cases([Case(name, 0) for name in readers], folder))
    assert [(one.case.sample, one.kind) for one in found] == [(name, name) for name in readers]


BOUNDARY = {
    r"\bjson\.loads?\(": {
        "reading.py": "the boundary itself",
        "files.py": "the values of a checkpoint, inside `reading`",
        "data/formats/child.py": "the request of the parent process",
        "data/formats/untrusted.py": "the header of the child process",
        "estimator/file.py": "inside `reading`",
        "inference/hub/package.py": "the manifest, whose errors are all caught there",
        "inference/hub/redaction.py": "files of a run that was loaded before",
        "inference/export/onnx_file.py": "inside a block that catches everything",
        "features/store_writer.py": "a copy of a value, no file",
        "benchmark/tune.py": "a copy of a value, no file",
        "checksums.py": "every error that JSON can raise is caught there",
        "distributed.py": "messages between processes of one training, no file",
        "app/server.py": "a request of the page; every error that JSON can raise is caught there",
        "features/store.py": "lines and a record that a schema has checked",
    },
    r"\bnp\.load\(": {
        "reading.py": "the boundary itself",
        "features/checked_rows.py": "a file whose header `load_npy` has checked",
    },
    r"\byaml\.(safe_)?load\(": {
        "benchmark/published.py": "settings that the package brings",
        "methods/dkgzsl/settings.py": "settings that the package brings",
        "inference/hub/redaction.py": "files of a run that was loaded before",
    },
    r"\bloadmat\(|\bread_table\(|\bload_workbook\(|\bParquetFile\(": {
        "data/formats/child.py": "the child process"
    },
    r"\bh5py\.File\(": {
        "data/formats/child.py": "the child process",
        "features/arrays.py": "a file that the child process has checked",
    },
    r"\btorch\.load\(": {"features/weights.py": "weights_only, after the sizes were checked"},
    r"\bzipfile\.ZipFile\(|\btarfile\.open\(|\bis_zipfile\(": {
        "reading.py": "the boundary itself",
        "data/formats/feature_files.py": "the names alone, inside `reading`",
        "data/fetching/archives.py": "names, kinds and sizes are checked before anything is unpacked",
        "features/weights.py": "the sizes alone, inside a block that catches everything",
    },
    r"\bImage\.open\(": {"features/images.py": "the only place that opens images, of listed formats"},
    r"\bload_file\(|\bsafetensors\.(torch|numpy) import .*\bload\b": {
        "features/weights.py": "inside a block that catches everything",
        "distributed.py": "messages between processes of one training, no file",
    },
    r"\bonnx\.load_model\(|\bInferenceSession\(": {
        "inference/export/onnx_file.py": "files that were just exported",
        "runs/model_card.py": "a line of the card's example",
    },
    r"\bnp\.(loadtxt|genfromtxt|fromfile|memmap)\(|\b(pandas|pd)\.read_": {
        "data/formats/feature_maps.py": "at an offset that the child process has checked",
    },
    r"\bsafe_open\(": {"files.py": "inside `reading`", "inference/hub/package.py": "errors are caught there"},
    r"\b(pickle|joblib|dill|marshal|shelve)\b\.|allow_pickle=True|weights_only=False": {},
}
"""Calls that read files, and the modules that may have them, with the reason."""


@pytest.mark.parametrize("call", BOUNDARY)
def test_no_reader_is_outside_the_boundary(call) -> None:
    found = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if re.search(call, file.read_text(encoding="utf-8"))
    }
    assert found <= BOUNDARY[call].keys()
