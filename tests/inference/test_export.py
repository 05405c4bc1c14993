"""The verb `export`, and the script that uses its file without this package."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

pytest.importorskip("timm", reason="the extra `images` is not installed")
pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from dkgzsl.cli.main import main
from dkgzsl.data.load import load_dataset
from dkgzsl.features.preprocessing import PhotoPreprocessing
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.inference.export import export
from dkgzsl.inference.export.onnx_file import read_metadata, run_onnx
from dkgzsl.inference.photos import PhotoReader
from dkgzsl.inference.recognizer import Recognizer
from inference.photo_runs import FEW, PhotoRun, photo_run
from sealing import reseal

SCRIPT = Path(__file__).parents[2] / "examples" / "run_onnx.py"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> PhotoRun:
    return photo_run(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def file(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "birds.onnx"
    assert main(["export", str(made.run), "--out", str(path), "--weights", str(made.weights)]) == 0
    return path


def exported(capsys, *words: str) -> dict:
    assert main(["export", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: str) -> str:
    assert main(["export", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def test_the_script_without_the_package_says_what_the_package_says(made, file, tmp_path) -> None:
    script = tmp_path / "run_onnx.py"  # away from the package, and with it forbidden
    script.write_text(SCRIPT.read_text())
    (tmp_path / "dkgzsl.py").write_text("raise ImportError('not here')")
    (tmp_path / "torch.py").write_text("raise ImportError('not here')")
    words = [sys.executable, str(script), str(file), *map(str, made.photos)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    ours = [json.loads(line) for line in said.splitlines()]

    recognizer = Recognizer.from_run(made.run)
    reader = PhotoReader(recognizer.record.images, weights=made.weights, device="cpu")
    (photos,) = reader.read(made.photos, batch_size=len(made.photos))
    theirs = recognizer.predict(photos.features)
    assert [one["class"] for one in ours] == [one.name or "none of these" for one in theirs]
    probabilities = [one.ranked[0].probability for one in theirs]
    np.testing.assert_allclose([one["probability"] for one in ours], probabilities, atol=1e-4)
    assert len({one["class"] for one in ours}) > 1
    assert SCRIPT.read_text().count("\n") <= 36


def test_what_the_file_says_of_itself(made, file) -> None:
    about, record = read_metadata(file), Recognizer.from_run(made.run).record
    result = json.loads((made.run / "result.json").read_text())
    assert about["classes"] == list(record.class_names)
    assert about["seen"] == [True] * 6 + [False] * 3
    assert about["input"] == {
        "name": "pixels",
        "shape": ["batch", 64, 64, 3],
        "what": "RGB pixels 0 to 255, resized and cropped as `preprocessing` says, uint8",
    }
    assert about["preprocessing"] == json.loads(json.dumps(record.images["preprocessing"]))
    assert about["calibration"]["temperature"] == record.calibration.temperature
    provenance = about["provenance"]
    assert provenance["metrics"] == result["metrics"]
    assert provenance["protocol"] == "validated"
    assert provenance["representation"] == ["pooled", "refined", "scores"]
    assert provenance["weights"]["sha256"] == record.images["weights"]["sha256"]
    assert str(made.run.parent) not in file.read_bytes().decode("latin-1"), "paths of this machine stay here"


def test_from_features(capsys, made, tmp_path) -> None:
    file = tmp_path / "new folder" / "features.onnx"
    said = exported(capsys, str(made.run), "--out", str(file), "--features-only")
    tokens = np.asarray(load_dataset(made.run.parent / "problem", features=made.run.parent / "store").features)
    tokens = tokens[:20].astype(np.float32)
    assert said["input"] == {"name": "features", "shape": ["batch", *tokens.shape[1:]]}
    np.testing.assert_allclose(
        run_onnx(file, tokens)[0], Recognizer.from_run(made.run).probabilities(tokens), atol=1e-4
    )


OPTIONS = {
    "closed-form": [*FEW, "--representation", "pooled"],
    "dkgzsl": ["--method", "dkgzsl", "--epochs", "1", "--batch-size", "2000", "--dkgzsl.hidden-size", "8",
               "--dkgzsl.softmax.per-class", "5"],
    "softmax": [*FEW, "--closed-form.classifier", "softmax"],
}  # fmt: skip


@pytest.fixture(scope="module")
def numbers_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A run on `numbers`, trained when it is asked for first."""

    @cache
    def train(kind: str) -> str:
        run = str(tmp_path_factory.mktemp("numbers") / kind)
        alone = ["--baseline", "none", "--report", "off", "--device", "cpu"]
        assert main(["train", "numbers", *OPTIONS[kind], *alone, "--out", run]) == 0
        return run

    return train


@pytest.mark.parametrize("kind", OPTIONS)
def test_numbers_from_pictures_and_from_features(capsys, numbers_run, kind, tmp_path) -> None:
    run = numbers_run(kind)
    capsys.readouterr()
    pictures, features = tmp_path / "pictures.onnx", tmp_path / "features.onnx"
    assert exported(capsys, run, "--out", str(pictures))["input"]["shape"] == ["batch", 8, 16, 3]
    assert exported(capsys, run, "--out", str(features), "--features-only")["input"]["shape"] == ["batch", 256]
    problem = load_dataset("numbers")
    chosen = problem.parts.test_unseen[::40]
    of_features = np.asarray(problem.features)[chosen]
    theirs = Recognizer.from_run(Path(run)).probabilities(of_features)
    for file, value in ((features, of_features), (pictures, np.ascontiguousarray(problem.pictures[chosen]))):
        ours, _ = run_onnx(file, value)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))


def test_the_script_takes_pictures_of_numbers_as_they_are_and_says_what_it_cannot_cut(
    capsys, numbers_run, tmp_path
) -> None:
    from PIL import Image

    run, file = numbers_run("closed-form"), str(tmp_path / "numbers.onnx")
    capsys.readouterr()
    exported(capsys, run, "--out", file)
    problem = load_dataset("numbers")
    chosen = problem.parts.test_unseen[::200]
    pictures = [str(tmp_path / f"{number}.png") for number in chosen]
    for path, pixels in zip(pictures, problem.pictures[chosen], strict=True):
        Image.fromarray(pixels).save(path)
    script = [sys.executable, str(SCRIPT), file]
    said = subprocess.run([*script, *pictures], capture_output=True, text=True, check=True).stdout
    theirs = Recognizer.from_run(Path(run)).probabilities(np.asarray(problem.features)[chosen]).max(1)
    np.testing.assert_allclose([json.loads(line)["probability"] for line in said.splitlines()], theirs, atol=1e-4)

    Image.new("RGB", (40, 30), "white").save(tmp_path / "large.png")
    refused = subprocess.run([*script, str(tmp_path / "large.png")], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "give pictures of 16 x 8 pixels" in refused.stderr


def test_a_class_that_was_added(capsys, made, tmp_path) -> None:
    run, file = tmp_path / "run", tmp_path / "x.onnx"
    shutil.copytree(made.run, run)
    words = ["--name", "late bird", "--set", "red=0.9", "green=0.1", "blue=0.2", "--json"]
    assert main(["add-class", str(run), *words]) == 0
    capsys.readouterr()
    words = [str(run), "--out", str(file), "--features-only"]
    assert exported(capsys, *words)["classes"] == 10
    assert read_metadata(file)["classes"][-1] == "late bird"
    assert read_metadata(file)["seen"][-1] is False
    assert exported(capsys, *words, "--version", "0")["classes"] == 9


def test_what_fde_rounds_is_rounded_in_the_file(capsys, made, tmp_path) -> None:
    tokens = np.random.default_rng(0).gamma(1.0, 1.0, (4, *Recognizer.from_run(made.run).record.features))
    tokens, own = tokens.astype(np.float32), {}
    for precision in ("float32", "bfloat16"):
        run, file = tmp_path / precision, tmp_path / f"{precision}.onnx"
        shutil.copytree(made.run, run)
        saved = run / "representation.safetensors"
        tensors, values = read_checkpoint(saved)
        values["refiner"]["config"]["precision"] = precision
        write_checkpoint(saved, tensors, values)
        reseal(run)
        exported(capsys, str(run), "--out", str(file), "--features-only")
        own[precision] = Recognizer.from_run(run).probabilities(tokens)
        np.testing.assert_allclose(run_onnx(file, tokens)[0], own[precision], atol=2e-5)
    assert np.abs(own["float32"] - own["bfloat16"]).max() > 1e-4, "otherwise nothing was tested"


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(64, 48), (37, 90), (50, 50)])
def test_the_script_cuts_photos_as_the_package_does(mode, size) -> None:
    from PIL import Image

    how = PhotoPreprocessing((32, 32), 0.875, mode, "bicubic", (0.5,) * 3, (0.5,) * 3)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    names: dict = {}
    exec(SCRIPT.read_text().split("session = ")[0], names)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    buffer.seek(0)
    assert np.array_equal(
        names["pixels_of"](buffer, how.record()), how.pixels(Image.fromarray(noise)).transpose(1, 2, 0)
    )


def test_mistakes_are_told_and_leave_nothing(capsys, made, tmp_path, monkeypatch) -> None:
    file = tmp_path / "x.onnx"
    run, out = str(made.run), ["--out", str(file)]
    away = made.weights.rename(made.weights.with_name("away.safetensors"))
    assert "name it with --weights" in refused(capsys, run, *out)
    away.rename(made.weights)
    other = tmp_path / "other.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(made.weights).items()}, other)
    assert "other weights" in refused(capsys, run, *out, "--weights", str(other))
    assert "must be named .onnx" in refused(capsys, run, "--out", str(tmp_path / "model.pt"))
    assert "no such" in refused(capsys, run, *out, "--weights", str(tmp_path / "none.safetensors"))
    assert "nothing here to predict with" in refused(capsys, str(tmp_path), *out)
    assert "no version 7" in refused(capsys, run, *out, "--version", "7")
    assert not file.exists()
    file.write_bytes(b"an older export")  # it stays until the new one is checked
    weights = ["--weights", str(made.weights)]
    for which, words in (
        ("TOLERANCE", ["--features-only"]),
        ("TOLERANCE", weights),
        ("TOLERANCE_OF_CUTS", weights),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(export, which, -1.0)
            assert "differ by up to" in refused(capsys, run, *out, *words)
            assert file.read_bytes() == b"an older export"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.safetensors", "x.onnx"]
