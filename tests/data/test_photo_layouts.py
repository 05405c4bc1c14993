"""Photos and tables where people keep them: what is found, what is left out, and what is an error."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra `images` is not installed")

from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.data.formats.image_folder import list_classes, read_image_folder
from dkgzsl.data.load import read_unchecked
from dkgzsl.errors import DataError
from dkgzsl.features.images import read_image

TABLE = "class,x,y\na,1,0\nb,0,1\nc,1,1\n"


def photos(folder: Path, count: int = 2, *, seed: int = 0, suffix: str = ".png") -> None:
    """Write pictures that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).save(folder / f"{number}{suffix}")


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        photos(tmp_path / "d" / "images" / name)
    (tmp_path / "d" / "attributes.csv").write_text(TABLE)
    return tmp_path / "d"


def counts(found) -> dict[str, int]:
    return dict(Counter(found.class_names[label] for label in found.labels))


def imported(capsys, folder: Path, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    out = str(folder.parent / "problem")
    code = main(["data", "import", str(folder), "--semantics", "attributes", "--out", out, "--overwrite", *words])
    return code, "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["Images", "photos", "IMG", "Bilder", "."])
def test_the_folder_of_the_photos_may_have_another_name_or_none(folder, name):
    if name == ".":
        for path in (folder / "images").iterdir():
            path.rename(folder / path.name)
        (folder / "images").rmdir()
        (folder / "notes").mkdir()
        (folder / "notes" / "a.txt").write_text("nothing")
    else:
        (folder / "images").rename(folder / name)
    found = read_image_folder(folder, "attributes")
    assert counts(found) == {"a": 2, "b": 2}
    assert found.roles == ("seen", "seen", "unseen")
    assert all((folder / path).is_file() for path in found.images)


@pytest.mark.parametrize("under", ["images", "."])
def test_train_and_test_folders_fix_the_test_images(tmp_path, under):
    folder = tmp_path / "d"
    for name in "ab":
        photos(folder / under / "train" / name, 3)
        photos(folder / under / "Test" / name, 2, seed=1)
    photos(folder / under / "Test" / "c", 2)
    (folder / "attributes.csv").write_text(TABLE)
    found = read_image_folder(folder, "attributes")
    assert counts(found) == {"a": 5, "b": 5, "c": 2}
    assert found.roles == ("seen", "seen", "unseen")  # c has no training image
    assert {path for path in found.images if "/Test/" in f"/{path}" and "/c/" not in path} == found.test
    assert main(["data", "import", str(folder), "--semantics", "attributes", "--out", str(tmp_path / "p")]) == 0
    for seed in (0, 1):
        raw = read_unchecked(tmp_path / "p")
        test = {raw.image_files[k] for k in raw.parts["test_seen"]}
        assert test == {str(folder / path) for path in found.test}, seed
        assert len(raw.parts["trainval"]) == 6
        assert len(raw.parts["test_unseen"]) == 2


def test_a_class_with_test_photos_alone_cannot_be_seen(tmp_path):
    for part, names in (("train", "ab"), ("test", "abc")):
        for name in names:
            photos(tmp_path / part / name)
    (tmp_path / "attributes.csv").write_text(TABLE)
    (tmp_path / "classes.csv").write_text("class,role\na,seen\nb,seen\nc,seen\n")
    with pytest.raises(DataError, match=r"photos in test/ alone: c"):
        read_image_folder(tmp_path, "attributes")


def test_names_differ_in_case_hyphens_and_blanks(folder):
    (folder / "images" / "a").rename(folder / "images" / "Polar-bear")
    (folder / "attributes.csv").write_text(TABLE.replace("a,1,0", "polar_bear,1,0"))
    (folder / "words.csv").write_text("class,w\nPolar Bear,1\nB,2\nC,3\n")
    (folder / "classes.csv").write_text("class,role\npolar bear,Seen\nb,seen\nc,unseen\n")
    found = read_image_folder(folder, "attributes")
    assert found.class_names == ("b", "c", "polar bear")
    assert counts(found) == {"polar bear": 2, "b": 2}
    assert found.tables["words"].rows_of(found.class_names).ravel().tolist() == [2, 3, 1]


def test_a_class_of_the_role_ignore_is_left_there(folder):
    photos(folder / "images" / "zebra")
    (folder / "attributes.csv").write_text(TABLE + "quagga,2,2\n")
    with pytest.raises(DataError, match="'zebra' is no known class") as error:
        read_image_folder(folder, "attributes")
    assert "ignore" in str(error.value)
    (folder / "classes.csv").write_text("class,role\nzebra,ignore\nquagga,ignore\n")
    found = read_image_folder(folder, "attributes")
    assert found.class_names == ("a", "b", "c")
    assert counts(found) == {"a": 2, "b": 2}
    assert any("quagga, zebra" in note for note in found.notes)
    assert list_classes(folder) == ("a", "b", "c")
    (folder / "classes.csv").write_text("class,role\na,seen\nb,seen\nc,unseen\nzebra,ignore\nquagga,ignore\n")
    assert read_image_folder(folder, "attributes").roles == ("seen", "seen", "unseen")


def test_files_that_nobody_asked_for_do_not_stop_the_import(folder, capsys):
    """The case stray-file-blocks-import, and more of its kind."""
    (folder / "._attributes.csv").write_bytes(b"\0\5\x16\7\0\2\xb0\xff")
    (folder / "~$attributes.xlsx").write_bytes(b"lock")
    photos(folder / "images" / "__MACOSX")
    (folder / "images" / "@eaDir" / "a").mkdir(parents=True)
    (folder / "images" / "a" / "Thumbs.db").write_bytes(b"x")
    (folder / "info.csv").write_text("class,latin\na,Aus bus\nb,Bus aus\nc,Cus\n")
    (folder / "notes.csv").write_bytes("café;1".encode("latin-1"))
    (folder / "binary.csv").write_bytes(b"\x81\x8d\x90\0\x8f")
    (folder / "sizes.csv").write_text("photo,width\n0.png,32\n1.png,32\n")
    (folder / "other.csv").write_text("class,w\nlion,1\ntiger,2\n")
    code, said = imported(capsys, folder)
    assert code == 0
    assert "classes    3: 2 seen, 1 unseen" in said
    assert "images     4" in said
    assert "note: info.csv is no table of class descriptions: the cell is 'Aus bus', not a number" in said
    for name in ("notes.csv", "binary.csv", "sizes.csv", "other.csv"):
        assert f"note: {name} is" in said
    assert "._attributes" not in said
    assert "semantics  attributes [2] (default)\n" in said


@pytest.mark.parametrize("suffix", [".jfif", ".HEIC", ".avif", ".jpe"])
def test_photos_by_all_their_names(folder, suffix):
    for path in (folder / "images" / "a").iterdir():
        path.rename(path.with_suffix(suffix))
    assert counts(read_image_folder(folder, "attributes")) == {"a": 2, "b": 2}


def test_linked_folders_are_entered_once(folder):
    photos(folder / "elsewhere", 3)
    (folder / "images" / "a" / "more").symlink_to(folder / "elsewhere")
    (folder / "images" / "a" / "round").symlink_to(folder / "images" / "a")
    (folder / "images" / "c").symlink_to(folder / "elsewhere")
    assert counts(read_image_folder(folder, "attributes")) == {"a": 5, "b": 2, "c": 3}


@pytest.mark.parametrize("kind", ["other names", "empty", "nowhere"])
def test_a_class_without_readable_photos_is_an_error_and_not_unseen(folder, capsys, kind):
    """The case seen-class-without-readable-files-becomes-unseen."""
    for path in (folder / "images" / "a").iterdir():
        if kind == "other names":
            path.rename(path.with_suffix(".psd"))
        elif kind == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
            path.symlink_to(folder / "gone.png")
    code, said = imported(capsys, folder)
    assert code == 2
    assert "class a: 2 files, none" in said
    assert {"other names": "2 .psd", "empty": "the file is empty", "nowhere": "No such file"}[kind] in said
    (folder / "classes.csv").write_text("class,role\na,ignore\n")
    assert imported(capsys, folder)[0] == 0


def test_photos_that_went_bad_after_the_import_are_named_by_check(folder, capsys):
    photos(folder / "images" / "a", 4)
    assert imported(capsys, folder)[0] == 0
    for path in (folder / "images" / "a").iterdir():
        path.write_bytes(b"")
    assert main(["data", "check", str(folder.parent / "problem")]) == 2
    assert "class a: 4 files, none can be read as an image (the file is empty)" in capsys.readouterr().out


def test_names_that_are_no_utf8_are_imported_and_found_again(folder, capsys):
    """The case file-name-not-utf8."""
    raw = os.fsencode(folder / "images" / "a")
    (folder / "images" / "a" / "0.png").rename(os.fsdecode(raw + b"/caf\xe9.png"))
    (folder / "images" / "b").rename(os.fsdecode(os.fsencode(folder / "images") + b"/kr\xe4he"))
    (folder / "attributes.csv").write_text(TABLE.replace("b,0,1", "Krähe,0,1"), encoding="utf-8")
    assert imported(capsys, folder)[0] == 0
    table = (folder.parent / "problem" / "images.csv").read_bytes().decode("utf-8")
    assert table.splitlines()[1:] == [
        r"images/kr\xe4he/0.png,Krähe",
        r"images/kr\xe4he/1.png,Krähe",
        "images/a/1.png,a",
        r"images/a/caf\xe9.png,a",
    ]
    listed = read_unchecked(folder.parent / "problem")
    assert all(read_image(Path(path))[0].size == (32, 24) for path in listed.image_files)


@pytest.mark.parametrize("verb", [["train"], ["data", "check"], ["extract"]])
def test_a_folder_that_is_not_imported_says_how(folder, capsys, verb):
    """The case folder-not-imported: the command that is printed runs as it is."""
    more = ["--backbone", "resnet18", "--out", "s"] if verb == ["extract"] else []
    assert main([*verb, str(folder), *more]) == 2
    said = capsys.readouterr().err
    assert "is a folder of photos that is not imported yet" in said
    command = said.split("next:")[1].split()
    assert command[:3] == ["dkgzsl", "data", "import"]
    assert main(command[1:]) == 0
    assert Path(f"{folder}.problem", "problem.json").is_file()


def test_a_table_whose_columns_are_the_classes(folder):
    (folder / "attributes.csv").write_text("attribute,a,b,c\nx,1,0,1\ny,0,1,1\n")
    with pytest.raises(DataError, match="exchange rows and columns"):
        read_image_folder(folder, "attributes")


def test_a_folder_without_class_folders_names_what_is_there(folder):
    (folder / "images").rename(folder / "Bilder")
    for path in (folder / "Bilder").iterdir():
        for file in path.iterdir():
            file.unlink()
    with pytest.raises(DataError, match=r"no folder images/") as error:
        read_image_folder(folder, "attributes")
    assert "Bilder/" in str(error.value)


def test_check_says_what_train_refuses(tmp_path, capsys):
    """The case check-passes-what-train-refuses."""
    for name, classes, count, says in (("two", "abc", 4, "1 seen class"), ("one", "abcdefgh", 1, "no held-out")):
        for one in classes:
            photos(tmp_path / name / "images" / one, count)
        rows = "".join(f"{one},{i % 3},{1 + i // 3}\n" for i, one in enumerate(classes))
        (tmp_path / name / "attributes.csv").write_text("class,x,y\n" + rows)
        roles = "".join(f"{one},{'unseen' if one == classes[-1] else 'seen'}\n" for one in classes)
        (tmp_path / name / "classes.csv").write_text("class,role\n" + roles)
        assert imported(capsys, tmp_path / name)[0] == 0
        assert main(["data", "check", str(tmp_path / "problem"), "--json"]) == 2
        (error,) = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["severity"] == "error"]
        assert error["check"] == "training"
        assert says in error["message"]


def test_duplicates_are_named_by_file_and_class(tmp_path, capsys):
    """The case duplicates-not-named."""
    for one in "abcd":
        photos(tmp_path / "d" / "images" / one, 4)
    first = tmp_path / "d" / "images" / "a" / "0.png"
    for copy in ("d/again.png", "a/copy.png"):
        (tmp_path / "d" / "images" / copy).write_bytes(first.read_bytes())
    (tmp_path / "d" / "attributes.csv").write_text("class,x,y\na,1,0\nb,0,1\nc,1,1\nd,2,1\n")
    (tmp_path / "d" / "classes.csv").write_text("class,role\na,seen\nb,seen\nc,seen\nd,unseen\n")
    assert imported(capsys, tmp_path / "d")[0] == 0
    assert main(["data", "check", str(tmp_path / "problem")]) == 0
    said = capsys.readouterr().out
    assert "1 images stand in two classes, with the same files: a/0.png (a) = d/again.png (d)" in said
    assert "2 images have exactly the files of another" in said
    assert "a/0.png (a) = a/copy.png (a)" in said
    main(["data", "check", str(tmp_path / "problem"), "--json"])
    pairs = json.loads(capsys.readouterr().out)["duplicates"]
    assert [pair["classes"] for pair in pairs] == [["a", "a"], ["a", "d"]]
    assert all(Path(path).is_file() for pair in pairs for path in pair["images"])


def test_the_same_description_twice_is_said_at_the_import(folder, capsys):
    (folder / "attributes.csv").write_text("class,x,y\na,1,0\nb,0,1\nc,0,1\n")
    code, said = imported(capsys, folder)
    assert code == 0
    assert "attributes.csv: the same description have b and c" in said


def test_minus_one_among_ratings_means_not_known(folder, capsys):
    """As in AwA's tables; in a table of -1 and 1 it is a value."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 90, (3, 20)).astype(float)
    values[1, 4] = -1
    header = "class," + ",".join(f"f{n}" for n in range(20))
    rows = "".join(f"{name},{','.join(map(str, row))}\n" for name, row in zip("abc", values, strict=True))
    (folder / "attributes.csv").write_text(f"{header}\n{rows}")
    assert imported(capsys, folder)[0] == 0
    raw = read_unchecked(folder.parent / "problem")
    expected = values.copy()
    expected[1, 4] = (values[0, 4] + values[2, 4]) / 2
    np.testing.assert_allclose(raw.tables["attributes"], expected)
    assert main(["data", "check", str(folder.parent / "problem")]) in (0, 2)
    assert capsys.readouterr().out.count("1 entries of 'attributes' are -1, which means not known (of b)") == 1
    (folder / "attributes.csv").write_text(f"{header}\n{rows}".replace("-1.0", "-2.0"))
    assert imported(capsys, folder)[0] == 0
    assert read_unchecked(folder.parent / "problem").tables["attributes"][1, 4] == -2
