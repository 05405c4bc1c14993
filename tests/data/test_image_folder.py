import pytest

from dkgzsl.data.formats.image_folder import list_classes, read_image_folder
from dkgzsl.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two classes with images, one without; two tables."""
    for name, files in {"crow": ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg"], "ox": ["c.jpeg"]}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "images" / name / file).write_bytes(b"")
    (tmp_path / "attributes.csv").write_text("class,tail,wings\nox,1,0\nyak,1,0.2\ncrow,0,1\n")
    (tmp_path / "words.csv").write_text("class,w\nox,1\ncrow,0\nyak,3\n")
    (tmp_path / "descriptions.csv").write_text("class,description\nox,large\n")
    (tmp_path / "readme.csv").write_text("anything\n")
    return tmp_path


def test_without_roles_images_decide(folder):
    found = read_image_folder(folder, "attributes")
    assert found.class_names == ("crow", "ox", "yak")
    assert found.roles == ("seen", "seen", "unseen")
    assert found.images == ("images/crow/a.PNG", "images/crow/b.jpg", "images/ox/c.jpeg")
    assert found.labels == (0, 0, 1)
    assert found.ignored == ("images/crow/notes.txt",)
    assert set(found.tables) == {"attributes", "words"}
    assert found.tables["words"].rows_of(found.class_names).tolist() == [[0], [1], [3]]


def test_roles_come_from_classes_csv_by_column_name(folder):
    (folder / "classes.csv").write_text("note,role,class\nx,seen-val,crow\ny,seen-train,ox\nz,unseen,yak\n")
    assert read_image_folder(folder, "words").roles == ("seen-val", "seen-train", "unseen")


def refusal(folder, semantics="attributes") -> str:
    with pytest.raises(DataError) as error:
        read_image_folder(folder, semantics)
    return str(error.value)


def test_a_class_folder_without_a_row(folder):
    (folder / "images" / "krow").mkdir()
    (folder / "images" / "krow" / "a.jpg").write_bytes(b"")
    said = refusal(folder)
    assert "class folder 'krow' is no known class" in said
    assert "did you mean 'crow'" in said


def test_a_misspelt_role(folder):
    (folder / "classes.csv").write_text("class,role\ncrow,sean\nox,seen\nyak,unseen\n")
    said = refusal(folder)
    assert "unknown role 'sean' of class 'crow'" in said
    assert "row 2" in said
    assert "did you mean 'seen'" in said


def test_a_seen_class_without_images(folder):
    (folder / "classes.csv").write_text("class,role\ncrow,seen\nox,seen\nyak,seen\n")
    assert "1 seen classes have no images: yak" in refusal(folder)


def test_tables_must_describe_the_same_classes(folder):
    (folder / "words.csv").write_text("class,w\nox,1\ncrow,0\nyack,3\n")
    said = refusal(folder)
    assert "1 of 3 classes have no row: yak" in said
    assert "words.csv" in said
    assert "did you mean 'yack'" in said
    (folder / "words.csv").write_text("class,w\nox,1\ncrow,0\nyak,3\nemu,4\n")
    assert "emu" in refusal(folder)


def test_a_class_that_classes_csv_does_not_name_has_the_role_that_its_photos_give_it(folder):
    (folder / "images" / "yak").mkdir()
    (folder / "images" / "yak" / "d.jpg").write_bytes(b"")
    (folder / "attributes.csv").write_text("class,tail,wings\nox,1,0\nyak,1,0.2\ncrow,0,1\nemu,1,1\n")
    (folder / "words.csv").unlink()
    (folder / "classes.csv").write_text("class,role\nYak,unseen\n")
    found = read_image_folder(folder, "attributes")
    assert dict(zip(found.class_names, found.roles, strict=True)) == {
        "Yak": "unseen", "crow": "seen", "emu": "unseen", "ox": "seen",
    }  # fmt: skip
    (folder / "classes.csv").write_text("class,role\nyakk,unseen\n")
    assert "yakk" in refusal(folder)


def test_classes_csv_that_cannot_be_read(folder):
    (folder / "classes.csv").write_text("class,role\ncrow,seen\nox,seen\nox,seen\nyak,unseen\n")
    assert "'ox' has two rows" in refusal(folder)
    (folder / "classes.csv").write_text("class,kind\ncrow,seen\n")
    assert "no column is called 'role'" in refusal(folder)


def test_an_unknown_table_names_the_nearest(folder):
    assert "did you mean 'attributes'" in refusal(folder, "attribute")


def test_two_tables_of_one_name(folder):
    pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"class": ["ox"], "w": [1.0]}), folder / "words.parquet")
    assert "two tables are called 'words'" in refusal(folder)


def test_no_images(tmp_path):
    (tmp_path / "attributes.csv").write_text("class,a\nox,1\n")
    assert "no folder images/" in refusal(tmp_path)
    (tmp_path / "images" / "ox").mkdir(parents=True)
    assert "hold no images" in refusal(tmp_path)
    assert "no folder images/" in refusal(tmp_path / "nowhere")


def test_no_class_is_seen(folder):
    (folder / "classes.csv").write_text("class,role\ncrow,unseen\nox,unseen\nyak,unseen\n")
    assert "no class is seen" in refusal(folder)


def test_classes_can_be_listed_before_there_is_a_table(folder):
    assert list_classes(folder) == ("crow", "ox", "yak")
    for name in ("attributes.csv", "words.csv"):
        (folder / name).unlink()
    assert list_classes(folder) == ("crow", "ox")
    (folder / "classes.csv").write_text("class,role\nemu,unseen\n")
    assert list_classes(folder) == ("crow", "emu", "ox")
    (folder / "classes.csv").write_text("class,role\nemu,unseen\nox,ignore\n")
    assert list_classes(folder) == ("crow", "emu")
