"""Files that claim or take too much, that lead to other files, and places that cannot be read or written."""

import errno
import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import savemat

from dkgzsl.cli.main import main
from dkgzsl.config import read_yaml
from dkgzsl.data.formats.feature_files import read_features, read_labelled
from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.data.formats.tables import read_semantic_table
from dkgzsl.data.load import load_dataset
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.reading import parse_yaml
from formats.files import write_xlsa17
from formats.toy import toy


def test_a_small_matlab_file_of_large_arrays_is_refused(tmp_path) -> None:
    savemat(tmp_path / "large.mat", {"features": np.zeros((2048, 40_000))}, do_compression=True)
    assert (tmp_path / "large.mat").stat().st_size < 10**6
    with pytest.raises(DataError, match=r"features of shape \[2048, 40000\] takes 625 MiB, more than"):
        read_mat(tmp_path / "large.mat")


def test_a_crash_of_the_library_is_an_error(tmp_path) -> None:
    """Every byte of a small file changed once: SciPy's reader dies of some with a segmentation fault."""
    savemat(tmp_path / "whole.mat", {"a": np.arange(3.0), "b": np.array(["x", "y"], object)})
    content = (tmp_path / "whole.mat").read_bytes()
    for place in range(128, len(content), 16):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        (tmp_path / "changed.mat").write_bytes(bytes(changed))
        with suppress(DataError):
            read_mat(tmp_path / "changed.mat")


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual", "huge", "filter"])
def test_hdf5_files_stay_within_themselves(tmp_path, kind) -> None:
    path, other = tmp_path / "map.hdf5", tmp_path / "other.bin"
    other.write_bytes(b"secret" * 100)
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["labels"] = h5py.ExternalLink(str(other), "/x")
        elif kind == "soft link":
            file["labels"] = h5py.SoftLink("/labels")
        elif kind == "external storage":
            file.create_dataset("labels", (60,), "u1", external=[(str(other), 0, 60)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((6,), "u1")
            layout[:] = h5py.VirtualSource(str(other), "x", (6,))
            file.create_virtual_dataset("labels", layout)
        elif kind == "huge":
            file.create_dataset("labels", (40_000, 40_000), "f4", chunks=(100, 100), compression="gzip")
        else:
            file.create_dataset("labels", (64,), "u1", chunks=(8,), scaleoffset=4)
    expected = {"huge": "takes 6,103 MiB", "filter": "stored by the filter 6"}
    with pytest.raises(DataError, match=expected.get(kind, "not read")):
        load_dataset(path)


def test_a_small_parquet_file_of_many_rows_is_refused(tmp_path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"class": arrow.array(np.zeros(20_000_000, np.int8))}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="20,000,000 rows"):
        read_semantic_table(tmp_path / "t.parquet")


def test_npz_files_are_measured_before_they_are_unpacked(tmp_path) -> None:
    np.savez_compressed(tmp_path / "f.npz", features=np.zeros((30_000, 2048), np.float32), labels=np.zeros(30_000))
    with pytest.raises(DataError, match="unpacks to 234 MiB, more than"):
        read_labelled(tmp_path / "f.npz")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff"])
def test_empty_and_broken_arrays_are_refused(tmp_path, content) -> None:
    (tmp_path / "f.npy").write_bytes(content)
    with pytest.raises(DataError):
        read_features(tmp_path / "f.npy")


@pytest.mark.parametrize(
    "text", ["a: !!int x", "a: !!timestamp x", "[" * 3000, "&a [*a]", "a: " + "9" * 5000, "? [a]\n: 1", "\x00"]
)
def test_unusual_yaml_is_refused(tmp_path, text) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not a YAML file") as found:
        read_yaml(tmp_path / "s.yaml")
    assert len(str(found.value)) < 1000
    assert main(["train", "--config", str(tmp_path / "s.yaml")]) == 2


def test_yaml_that_repeats_itself_without_end_is_refused() -> None:
    levels = "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9))
    with pytest.raises(ValueError, match="more than 100,000 values"):
        parse_yaml(f"a: &a [x, x]\n{levels}")


def test_yaml_values_are_those_of_version_1_2() -> None:
    text = "a: 1:30:00:00\nb: 1e-3\nc: 0x1F\nd: 010\ne: -1_000\nf: 2024-01-01\n"
    text += "g: off\nh: true\ni: null\nj: .5\nk: '1'"
    expected = {
        "a": "1:30:00:00", "b": 0.001, "c": 31, "d": 10, "e": -1000, "f": "2024-01-01", "g": "off", "h": True,
        "i": None, "j": 0.5, "k": "1",
    }  # fmt: skip
    assert parse_yaml(text) == expected
    assert parse_yaml(yaml.safe_dump(expected)) == expected


def test_text_that_is_no_utf8_is_refused(tmp_path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"dataset: \xff\xfe")
    with pytest.raises(ConfigError, match=r"byte 10 is no UTF-8 text"):
        read_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    "change", [("role", "rolle"), ('"seen"', '"sen"'), ('"source"', '"sorce"'), ('"own"', "7")]
)
def test_misspelt_keys_and_values_of_a_problem_are_named(tmp_path, change) -> None:
    text = (
        '{"format": "dkgzsl problem 1", "name": "own", "source": "/x", "semantics": "att", '
        '"classes": [{"class": "a", "role": "seen"}]}'
    )
    (tmp_path / "problem.json").write_text(text.replace(*change))
    (tmp_path / "images.csv").write_text("path,class\n")
    with pytest.raises(DataError, match=r"the file is damaged: (classes\.0\.\w+|source|name)"):
        load_dataset(tmp_path, features=tmp_path)


def test_long_names_and_null_characters_in_paths_are_our_errors(tmp_path, capsys) -> None:
    (tmp_path / "s.yaml").write_text('dataset: numbers\nout: "a\\0b"\n')
    for words in (
        ["train", "numbers", "--out", str(tmp_path / ("x" * 300))],
        ["data", "check", "x" * 300],
        ["evaluate", "x" * 300],
        ["predict", "x" * 300, "photo.jpg"],
        ["train", "--config", "x" * 300],
        ["train", "--config", str(tmp_path / "s.yaml")],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EFBIG, errno.ENOENT, errno.EIO])
def test_errors_of_the_system_end_with_exit_code_2(monkeypatch, capsys, number) -> None:
    def fail(_):
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("dkgzsl.cli.data_list.run", fail)
    assert main(["data", "list"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {os.strerror(number)[:1].lower()}{os.strerror(number)[1:]}"
    assert lines[1] == "  where: /some/file"


def test_a_limit_of_file_sizes_and_a_folder_that_has_gone_are_our_errors(tmp_path) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limits of file sizes")
    folder = write_xlsa17(tmp_path / "TOY", toy())
    code = (
        "import os, sys\nfrom dkgzsl.cli.main import main\n"
        "if sys.argv[1] == 'gone':\n    os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "sys.exit(main(['train', sys.argv[2], '--method', 'eszsl', '--seeds', '1', '--out', sys.argv[3]]))"
    )
    for kind, out in (("limit", "run"), ("gone", "run2")):

        def limit(kind=kind):
            if kind == "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

        found = subprocess.run(
            [sys.executable, "-B", "-c", code, kind, str(folder), out],
            capture_output=True, text=True, cwd=tmp_path, preexec_fn=limit, check=False,
        )  # fmt: skip
        assert found.returncode == 2, found.stderr
        assert "Traceback" not in found.stderr


def test_a_child_process_is_never_left(tmp_path) -> None:
    savemat(tmp_path / "a.mat", {"a": np.arange(3.0)})
    before = set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    read_mat(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(b"no")
    with pytest.raises(DataError):
        read_mat(tmp_path / "a.mat")
    after = set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    assert after <= before


def test_a_damaged_member_of_an_excel_file_is_refused(tmp_path) -> None:
    pytest.importorskip("openpyxl", reason="the extra `tables` is not installed")
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as file:
        file.writestr("xl/workbook.xml", "<" * 1000)
    with pytest.raises(DataError, match="cannot read the Excel table"):
        read_semantic_table(tmp_path / "t.xlsx")
