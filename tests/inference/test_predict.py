"""The verbs predict, add-class and remove-class, as a person types them."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm", reason="the extra `images` is not installed")

from photo_runs import PhotoRun, photo_run
from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import number_images, numbers
from dkgzsl.inference.photos import photo_reader
from dkgzsl.inference.prediction import explained_predictions
from dkgzsl.inference.recognizer import Recognizer
from worlds import ONE_WAY

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]
QUICK += ONE_WAY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PhotoRun:
    return photo_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def on_numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("numbers") / "run")
    assert main(["train", "numbers", *QUICK, "--baseline", "none", "--report", "off", "--out", run]) == 0
    return run


def said(capsys, *words: str) -> tuple[list[dict], str]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def refused(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_photos_features_and_python_say_the_same(capsys, made, tmp_path) -> None:
    run, weights = str(made.run), ["--weights", str(made.weights), "--device", "cpu"]
    photos = [str(path) for path in made.photos[:5]]
    alone, _ = said(capsys, "predict", run, *photos, *weights, "--batch-size", "2", "--top", "9")
    recognizer = Recognizer.from_run(made.run)
    reader = photo_reader(recognizer.record, weights=made.weights, device="cpu")
    (read,) = reader.read(made.photos[:5])
    np.save(tmp_path / "tokens.npy", read.features)
    by_features, _ = said(capsys, "predict", run, "--features", str(tmp_path / "tokens.npy"), "--top", "9")
    assert [line["image"] for line in alone] == photos
    assert [line["image"] for line in by_features] == [f"row {row}" for row in range(5)]
    for one, other, python in zip(alone, by_features, recognizer.predict(read.features, top=9), strict=True):
        shares = [[entry["probability"] for entry in line["nearest"]] for line in (one, other)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
        assert one["class"] == other["class"] == python.name
        assert sum(entry["probability"] for entry in one["nearest"]) == pytest.approx(1, abs=1e-4)
        assert {entry["class"] for entry in one["nearest"]} == {f"bird_{k}" for k in range(9)}
        assert [entry["seen"] for entry in one["nearest"]] == [int(e["class"][-1]) < 6 for e in one["nearest"]]


def test_an_image_of_no_class_has_no_class_in_json(made) -> None:
    recognizer = Recognizer.from_run(made.run)
    reader = photo_reader(recognizer.record, weights=made.weights, device="cpu")
    (read,) = reader.read(made.photos[:1])
    for threshold, known in ((-1e9, True), (1e9, False)):
        calibration = replace(recognizer.calibration, threshold=threshold)
        changed = replace(recognizer, record=replace(recognizer.record, calibration=calibration))
        (explained,) = explained_predictions(changed, read.features, top=2)
        line = explained.to_json()
        keys = [
            "class",
            "probability",
            "seen",
            "nearest",
            "in_distribution",
            "evidence",
            "against",
            "rival",
            "regions",
        ]
        assert list(line) == keys
        best = {key: line[key] for key in keys[:3]}
        assert best == (line["nearest"][0] if known else dict.fromkeys(keys[:3]))
        assert [list(one) for one in line["nearest"]] == [keys[:3]] * 2


def test_the_store_and_a_photo_have_the_same_features(made) -> None:
    """What was trained on is what a photo gives, so that a run's figures hold for photos."""
    from dkgzsl.features.store import open_store

    store = open_store(made.run.parent / "store")
    recognizer = Recognizer.from_run(made.run)
    reader = photo_reader(recognizer.record, weights=made.weights, device="cpu")
    (read,) = reader.read(made.photos[:3])
    rows = store.rows_of(
        [path.relative_to(made.run.parent / "someone" / "birds").as_posix() for path in read.paths]
    )
    assert np.allclose(store.tokens[rows].astype(np.float32), read.features, atol=2e-3)


def test_evidence_is_of_the_class_and_of_the_photo(capsys, made, tmp_path) -> None:
    run, folder = str(made.run), tmp_path / "drawn"
    photo = str(made.photos[0])
    weights = ["--weights", str(made.weights), "--device", "cpu"]
    (line,), _ = said(capsys, "predict", run, photo, *weights, "--overlay", str(folder), "--attributes", "3")
    for name, columns in (("picture", 1 + len(line["evidence"])), ("saliency_picture", 3)):
        with Image.open(line[name]) as picture:
            assert picture.size[0] == columns * (64 + 8) - 8
    assert sorted(path.name for path in folder.iterdir()) == ["000-0-saliency.png", "000-0.png"]
    assert {one["attribute"] for one in line["evidence"]} <= {"red", "green", "blue"}
    recognizer = Recognizer.from_run(made.run)
    reader = photo_reader(recognizer.record, weights=made.weights, device="cpu")
    (read,) = reader.read([made.photos[0]])
    (answer,) = explained_predictions(recognizer, read.features, grid=reader.grid, attributes=3)
    table = recognizer.evidence.table.numpy()
    number = recognizer.number_of(answer.prediction.ranked[0].name)
    for one in answer.evidence:
        column = recognizer.evidence.names.index(one.name)
        assert table[number, column] > table[:, column].mean()
        assert one.shown > 0
        rows, columns = reader.grid
        cell = int(one.attention.argmax())
        assert one.where == ((cell % columns + 0.5) / columns, (cell // columns + 0.5) / rows)
    assert main(["predict", run, photo, *weights, "--attributes", "0"]) == 0
    assert "shows" not in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_leaves_the_older_one(capsys, made, tmp_path, monkeypatch) -> None:
    words = ["predict", str(made.run), str(made.photos[0]), "--weights", str(made.weights), "--device", "cpu"]
    words += ["--overlay", str(tmp_path)]
    (tmp_path / "000-0.png").write_bytes(b"the older one")

    def full(_self, file, **_options) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    assert "cannot write the picture: No space left on device" in refused(capsys, *words)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"000-0.png": b"the older one"}


def test_folders_and_what_cannot_be_read(capsys, made, tmp_path) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    Image.open(made.photos[0]).save(folder / "b.png")
    Image.open(made.photos[1]).save(folder / "deep" / "c.png")
    (folder / "a.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture either")
    weights = ["--weights", str(made.weights), "--device", "cpu"]
    out = tmp_path / "lines.jsonl"
    lines, err = said(capsys, "predict", str(made.run), str(folder), *weights, "--out", str(out))
    assert [Path(line["image"]).name for line in lines] == ["a.png", "b.png", "c.png"]
    assert lines[0] == {"image": str(folder / "a.png"), "error": "not an image"}
    assert "skipped" in err
    assert [json.loads(line) for line in out.read_text().splitlines()] == lines
    out.write_text("as it was")
    only = [str(folder / "a.png"), *weights, "--out", str(out)]
    assert "no image could be read" in refused(capsys, "predict", str(made.run), *only)
    assert out.read_text() == "as it was"
    assert not list(tmp_path.glob(".*"))


def test_mistakes_in_predict(capsys, made, on_numbers, tmp_path) -> None:
    run, photo = str(made.run), str(made.photos[0])
    np.save(tmp_path / "thin.npy", np.zeros((2, 3), np.float32))
    (tmp_path / "empty").mkdir()
    cases = {
        (run,): "no photo is named",
        (run, photo, "--weights", str(made.run / "model.safetensors")): "do not fit",
        (run, str(tmp_path / "none.png")): "no such image",
        (run, str(tmp_path / "empty")): "no images",
        (run, "--features", str(tmp_path / "thin.npy")): "do not fit",
        (run, "--features", str(made.weights)): ".npy",
        (run, photo, "--features", "x"): "one of them",
        (run, photo, "--version", "4"): "no version 4",
        (run, photo, "--top", "0"): "top",
        (str(tmp_path), photo): "recognizer.json",
        (on_numbers, photo, "--overlay", str(tmp_path / "o")): "nothing to draw",
    }
    for words, expected in cases.items():
        assert expected in refused(capsys, "predict", *words), words
    assert not (tmp_path / "o").exists()
    away = made.weights.rename(made.weights.with_name("away.safetensors"))
    assert "name it with --weights" in refused(capsys, "predict", run, photo)
    away.rename(made.weights)


def test_pictures_of_numbers(capsys, on_numbers, tmp_path) -> None:
    problem, pictures = numbers(), number_images()
    chosen = problem.parts.test_unseen[::40]
    for image in chosen:
        pixels = 255 - np.round(pictures[image] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{image:05}.png")
    lines, _ = said(capsys, "predict", on_numbers, str(tmp_path))
    by_features = Recognizer.from_run(Path(on_numbers)).predict(problem.features[chosen], top=3)
    assert [line["nearest"][0]["class"] for line in lines] == [one.ranked[0].name for one in by_features]
    right = [
        line["class"] == problem.class_names[problem.labels[i]] for line, i in zip(lines, chosen, strict=True)
    ]
    assert np.mean(right) > 0.7  # by chance 0.01
    assert all(one["shown"] > 0 and one["accuracy"] > 0.5 for line in lines for one in line["evidence"])


def test_a_class_goes_and_comes_again_by_its_description(capsys, on_numbers, tmp_path) -> None:
    problem = numbers()
    own = problem.features[problem.labels == 5]
    np.save(tmp_path / "05.npy", own)
    words = ["--features", str(tmp_path / "05.npy")]

    def hits(*more: str) -> float:
        lines, _ = said(capsys, "predict", on_numbers, *words, *more)
        return float(np.mean([line["nearest"][0]["class"] == "05" for line in lines]))

    before = hits()
    assert before > 0.8
    (gone,), _ = said(capsys, "remove-class", on_numbers, "--name", "05")
    assert gone["version"] == 1
    assert hits() == 0
    rows = [
        f"{name},{value}"
        for name, value in zip(problem.attribute_names["strokes"], problem.semantics[5], strict=True)
    ]
    (tmp_path / "05.csv").write_text("attribute,value\n" + "\n".join(rows) + "\n")
    (added,), _ = said(capsys, "add-class", on_numbers, "--name", "05", "--attributes", str(tmp_path / "05.csv"))
    assert added["added"][0]["open_attributes"] == 0
    assert added["version"] == 2
    assert hits() == before
    assert hits("--version", "1") == 0
    few = ["left_loop_whole=1", "right level top=1", "right_opens_left_below=1", "right_corner_upper_left=1"]
    words_of = ["--name", "zero five", "--set", *few, "--version", "1"]
    (loose,), _ = said(capsys, "add-class", on_numbers, *words_of)
    assert loose["added"][0]["open_attributes"] == 72
    history = json.loads(Path(on_numbers, "versions", "3", "history.json").read_text())
    assert history["parent"] == 1
    assert history["classes"] == ["zero five"]
    lines, _ = said(capsys, "predict", on_numbers, *words)
    assert np.mean([line["nearest"][0]["class"] == "zero five" for line in lines]) > 0.5


def test_many_classes_from_a_table_and_photos(capsys, made, tmp_path) -> None:
    run = str(made.run)
    (tmp_path / "new.csv").write_text("class,red,green,blue\npink,0.9,0.4,0.6\nteal,0.1,0.6,0.6\n")
    (tmp_path / "photos" / "teal").mkdir(parents=True)
    for number, path in enumerate(made.photos[:3]):
        Image.open(path).save(tmp_path / "photos" / "teal" / f"{number}.png")
    words = ["add-class", run, "--csv", str(tmp_path / "new.csv"), "--photos", str(tmp_path / "photos")]
    (added,), _ = said(capsys, *words, "--weights", str(made.weights), "--device", "cpu")
    assert [one["photos"] for one in added["added"]] == [0, 3]
    recognizer = Recognizer.from_run(made.run)
    assert recognizer.known_names[-2:] == ("pink", "teal")
    assert recognizer.model.photos.classes.tolist() == [recognizer.number_of("teal")]
    photo = [str(made.photos[0]), "--weights", str(made.weights), "--device", "cpu", "--top", "11"]
    sharp, _ = said(capsys, "predict", run, *photo)
    plain = Recognizer.from_run(made.run, 0).with_class("teal", np.array([0.1, 0.6, 0.6]))
    reader = photo_reader(plain.record, weights=made.weights, device="cpu")
    (read,) = reader.read(made.photos[:1])
    (before,) = plain.predict(read.features, top=11)
    share = {entry["class"]: entry["probability"] for entry in sharp[0]["nearest"]}["teal"]
    assert share > next(one.probability for one in before.ranked if one.name == "teal")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("loops=1", "the nearest of 76 attributes: left_loop_"),
        ("Left_loop_hole=1", "did you mean 'left_loop_whole'? (the nearest of 76 attributes: left_loop_whole, "),
    ],
)
def test_a_wrong_attribute_among_many_names_the_nearest(capsys, on_numbers, wrong, expected) -> None:
    message = refused(capsys, "add-class", on_numbers, "--name", "x", "--set", wrong)
    assert expected in message
    assert len(message.partition("attributes: ")[2].split(", ")) == 5
    assert "columns of" not in message


def test_mistakes_in_add_class_leave_no_version(capsys, made, on_numbers, tmp_path) -> None:
    run = str(made.run)
    versions = set(made.run.glob("versions/*"))
    (tmp_path / "two.csv").write_text("attribute,value\nred,0.1\nred,0.2\n")
    (tmp_path / "table.csv").write_text("class,red,green,blue\npink,0.9,0.4,0.6\n")
    (tmp_path / "text.csv").write_text("class,description\npink,a pink bird\n")
    np.save(tmp_path / "short.npy", np.zeros(2))
    cases = {
        ("--name", "x"): "not described",
        ("--set", "red=1"): "no name",
        ("--name", "x", "--set", "red=1", "--text", "y"): "in one way",
        ("--name", "bird_1", "--set", "red=1"): "already",
        ("--name", "x", "--set", "rad=1"): "did you mean 'red'",
        ("--name", "x", "--set", "red=80"): "lie between",
        ("--name", "x", "--set", "red=much"): "no number",
        ("--name", "x", "--set", "red"): "--set ATTRIBUTE=VALUE",
        ("--name", "x", "--text", "a red bird"): "not made from text",
        ("--csv", str(tmp_path / "text.csv")): "not made from text",
        ("--name", "x", "--attributes", str(tmp_path / "two.csv")): "two rows",
        ("--name", "x", "--attributes", str(tmp_path / "table.csv")): "no row 'x'",
        ("--name", "x", "--attributes", str(tmp_path / "short.npy")): "has 3 numbers",
        ("--name", "x", "--attributes", str(tmp_path / "none.csv")): "none.csv",
        ("--name", "x", "--set", "red=1", "--features", str(tmp_path / "short.npy")): "images",
        ("--name", "x", "--csv", str(tmp_path / "table.csv")): "names",
    }
    for words, expected in cases.items():
        assert expected in refused(capsys, "add-class", run, *words), words
    assert "no class 'x'" in refused(capsys, "remove-class", run, "--name", "x")
    assert set(made.run.glob("versions/*")) == versions


def test_a_photo_whose_name_is_no_utf8_is_predicted_and_kept(capsys, made, tmp_path) -> None:
    """The case file-name-not-utf8."""
    photo = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    photo.write_bytes(made.photos[0].read_bytes())
    words = ["--weights", str(made.weights), "--device", "cpu", "--out", str(tmp_path / "o.jsonl")]
    (line,), _ = said(capsys, "predict", str(made.run), str(photo), *words)
    assert line["image"] == str(tmp_path) + r"/caf\xe9.png"
    assert [json.loads(one) for one in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()] == [line]
    (same,), _ = said(capsys, "predict", str(made.run), str(made.photos[0]), *words[:4])
    assert {**same, "image": ""} == {**line, "image": ""}
