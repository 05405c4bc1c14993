"""Features from the files that people have; no file is unpickled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl.cli.main import main
from dkgzsl.data.formats.feature_files import finite_rows, read_features
from dkgzsl.errors import DataError
from dkgzsl.features.store import open_store
from worlds import ONE_WAY, arrays, world_folder

QUICK = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]
QUICK += ONE_WAY


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    out = folder / "run"
    words = ["train", str(world_folder(folder / "W")), *QUICK, "--baseline", "none", "--report", "off"]
    assert main([*words, "--out", str(out)]) == 0
    return out


@pytest.fixture
def rows() -> np.ndarray:
    return arrays()[0][:5]


def written(folder: Path, rows: np.ndarray) -> dict[str, Path]:
    """The same rows in every kind of file."""
    pd = pytest.importorskip("pandas", reason="the extra `dev` is not installed")
    pytest.importorskip("openpyxl", reason="the extra `tables` is not installed")
    pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    frame = pd.DataFrame(rows.astype(float))
    np.save(folder / "a.npy", rows)
    np.savez(folder / "one.npz", anything=rows)
    np.savez(folder / "several.npz", features=rows, labels=np.arange(len(rows)))
    frame.to_csv(folder / "index.csv")
    frame.to_csv(folder / "no-index.csv", index=False)
    frame.to_csv(folder / "semicolon.csv", index=False, header=False, sep=";", decimal=",")
    frame.assign(photo=[f"{n}.jpg" for n in range(len(rows))]).to_csv(folder / "named.csv", index=False)
    frame.add_prefix("f").to_parquet(folder / "a.parquet")
    frame.add_prefix("f").to_excel(folder / "a.xlsx", index=False)
    return {path.name: path for path in folder.iterdir() if path.is_file()}


def test_all_kinds_of_files_hold_the_same_features(tmp_path, rows):
    files = written(tmp_path, rows)
    assert len(files) == 9
    for name, path in files.items():
        np.testing.assert_allclose(read_features(path), rows, rtol=1e-6, err_msg=name)


def test_predict_reads_each_of_them(run, rows, tmp_path, capsys):
    said = {}
    for name, path in written(tmp_path, rows).items():
        capsys.readouterr()
        assert main(["predict", str(run), "--features", str(path), "--json"]) == 0, name
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        said[name] = [(line["image"], line["class"], [one["class"] for one in line["nearest"]]) for line in lines]
    assert all(one == said["a.npy"] for one in said.values())
    assert [image for image, *_ in said["a.npy"]] == [f"row {n}" for n in range(5)]


def test_pickles_are_refused_in_one_line_and_not_run(tmp_path, rows, capsys, run):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    import pickle

    torch.save(torch.tensor(rows), tmp_path / "f.pt")
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(Evil()))
    np.save(tmp_path / "objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    for name in ("f.pt", "f.pkl"):
        for words in (["predict", str(run), "--features"], ["data", "convert", "--out", str(tmp_path / "s")]):
            assert main([*words, str(tmp_path / name)]) == 2
            said = capsys.readouterr().err.strip()
            assert "\n" not in said
            assert 'numpy.save("f.npy", tensor.cpu().numpy())' in said
    assert main(["predict", str(run), "--features", str(tmp_path / "objects.npy")]) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.npz", {"a": 1, "b": 2}, "no array of the file is called 'features'"),
        ("x.npz", b"PK\x03\x04cut off", "cut off"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "dkgzsl data convert"),
        ("x.mat", b"MATLAB 5.0", "dkgzsl data convert"),
        ("x.jpg", b"\xff\xd8", ".npy or .npz"),
        ("x.csv", b"x,y\n1,2\n3,no\n", "'no', not a number"),
        ("x.npy", None, "No such file"),
    ],
)
def test_other_files_say_what_is_read(tmp_path, name, content, says):
    if isinstance(content, dict):
        np.savez(tmp_path / name, **{key: np.zeros((value, 2)) for key, value in content.items()})
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_features(tmp_path / name)
    assert says in str(error.value)


def test_rows_with_nan_are_named_and_skipped_and_json_stays_json(run, rows, tmp_path, capsys):
    """The case nan-features-in-predict."""
    broken = rows.astype(np.float64)
    broken[1, 3], broken[4, 0] = np.nan, 1e300  # the second is infinite in single precision
    np.save(tmp_path / "nan.npy", broken)
    assert finite_rows(broken).tolist() == [True, False, True, True, False]
    assert main(["predict", str(run), "--features", str(tmp_path / "nan.npy"), "--json", "--batch-size", "2"]) == 0
    out, err = capsys.readouterr()

    def refuse(word):
        raise AssertionError(word)

    lines = [json.loads(line, parse_constant=refuse) for line in out.splitlines()]
    assert [line["image"] for line in lines] == [f"row {n}" for n in range(5)]
    assert ["error" in line for line in lines] == [False, True, False, False, True]
    assert "skipped: row 1: NaN or infinity" in err
    assert main(["predict", str(run), "--features", str(tmp_path / "nan.npy"), "--json"]) == 0
    np.save(tmp_path / "nan.npy", broken[[1]])
    assert main(["predict", str(run), "--features", str(tmp_path / "nan.npy")]) == 2
    assert "no row has features that can be used" in capsys.readouterr().err


def test_the_file_is_whole_where_the_output_is_closed(run, rows, tmp_path):
    np.save(tmp_path / "many.npy", np.tile(rows, (400, 1)))
    command = [
        sys.executable,
        "-m",
        "dkgzsl",
        "predict",
        str(run),
        "--features",
        str(tmp_path / "many.npy"),
        "--json",
    ]
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    for number, redirected in enumerate(("| head -n 1 > /dev/null", ">&-")):
        out = tmp_path / f"{number}.jsonl"
        line = " ".join(f"'{word}'" for word in [*command, "--out", str(out)])
        done = subprocess.run(
            ["bash", "-c", f"{line} {redirected}"], env=environment, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        assert len([json.loads(one) for one in out.read_text().splitlines()]) == 2000


def test_rows_of_unreadable_photos_in_a_store_are_skipped(run, rows, tmp_path, capsys):
    from dkgzsl.features.store_writer import StoreWriter

    record = {"class_names": ["any"], "grid": None, "batch_size": 5}
    paths = [f"{n}.jpg" for n in range(5)]
    with StoreWriter(
        tmp_path / "s", record=record, paths=paths, labels=[0] * 5, tokens=1, channels=rows.shape[1]
    ) as store:
        whys = [(None, "the file is empty" if n == 2 else None) for n in range(5)]
        store.append(rows[:, None].astype(np.float16), whys)
    assert main(["predict", str(run), "--features", str(tmp_path / "s"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "skipped: row 2: 2.jpg: the file is empty" in err
    assert [("error" in json.loads(line)) for line in out.splitlines()] == [False, False, True, False, False]


@pytest.mark.parametrize("named", [False, True])
def test_labelled_arrays_become_a_store(tmp_path, rows, capsys, named):
    """The case convert-arrays."""
    numbers = np.array([0, 2, 1, 1, 0])
    names = np.array(["crow", "emu", "ox"])
    labels = names[numbers] if named else numbers
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, image_files=[f"{n}.jpg" for n in range(5)])
    words = ["data", "convert", str(tmp_path / "f.npz"), "--out", str(tmp_path / "s")]
    assert main(words) == 2
    assert "--backbone" in capsys.readouterr().err
    assert main([*words, "--backbone", "resnet50"]) == 0
    store = open_store(tmp_path / "s")
    assert np.array_equal(store.tokens[:, 0], rows.astype(np.float16))
    assert store.labels.tolist() == numbers.tolist()
    assert store.class_names == (("crow", "emu", "ox") if named else ("class_1", "class_2", "class_3"))
    assert store.paths[4] == "4.jpg"
    np.save(tmp_path / "f.npy", rows)
    for more in ([], ["--backbone", "resnet50"]):
        assert main(["data", "convert", str(tmp_path / "f.npy"), "--out", str(tmp_path / "t"), *more]) == 2
        assert "holds features without labels" in capsys.readouterr().err
