"""Tables of class descriptions as people have them: each file against the same numbers, written by hand."""

import numpy as np
import pytest

from dkgzsl.data.formats.tables import read_semantic_table
from dkgzsl.data.names import by_known_name, name_key
from dkgzsl.errors import DataError

CLASSES, COLUMNS = ("ox", "yak", "emu"), ("tail", "wings")
VALUES = [[1.5, 0], [0, 1.5], [1, 0.25]]
TEXTS = {
    "comma": "class,tail,wings\nox,1.5,0\nyak,0,1.5\nemu,1,0.25\n",
    "semicolon and decimal comma": "class;tail;wings\nox;1,5;0\nyak;0;1,5\nemu;1;,25\n",
    "tab": "class\ttail\twings\nox\t1.5\t0\nyak\t0\t1.5\nemu\t1\t0.25\n",
    "bar": "class|tail|wings\nox|1.5|0\nyak|0|1.5\nemu|1|0.25\n",
    "Excel's line": "sep=;\nclass;tail;wings\nox;1,5;0\nyak;0;1,5\nemu;1;0,25\n",
    "quoted decimal comma": 'class,tail,wings\nox,"1,5",0\nyak,0,"1,5"\nemu,1,"0,25"\n',
    "percent": "class;tail;wings\nox;150 %;0%\nyak;0;150%\nemu;100 %;25,0 %\n",
    "frame with an index before": ",class,tail,wings\n0,ox,1.5,0\n1,yak,0,1.5\n2,emu,1,0.25\n",
    "index that is named": "Unnamed: 0,class,tail,wings\n0,ox,1.5,0\n1,yak,0,1.5\n2,emu,1,0.25\n",
    "classes are the index": ",tail,wings\nox,1.5,0\nyak,0,1.5\nemu,1,0.25\n",
    "Class name": "Class name,tail,wings\nox,1.5,0\nyak,0,1.5\nemu,1,0.25\n",
    "another word": "Tierart;tail;wings\nox;1,5;0\nyak;0;1,5\nemu;1;0,25\n",
    "class in the middle": "tail,class,wings\n1.5,ox,0\n0,yak,1.5\n1,emu,0.25\n",
    "empty ends": "\nclass,tail,wings,,\nox,1.5,0,,\nyak,0,1.5,,\n,,,,\nemu,1,0.25,,\n,,,,\n\n",
    "a title": "My animals of 2024\n\nclass;tail;wings\nox;1,5;0\nyak;0;1,5\nemu;1;0,25\n",
    "Windows line ends": "class,tail,wings\r\nox,1.5,0\r\nyak,0,1.5\r\nemu,1,0.25\r\n",
}


def check(table) -> None:
    assert table.classes == CLASSES
    assert table.columns == COLUMNS
    np.testing.assert_allclose(table.values, VALUES, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", TEXTS)
def test_every_way_to_write_a_table_gives_the_same_numbers(tmp_path, kind):
    (tmp_path / "t.csv").write_text(TEXTS[kind], encoding="utf-8", newline="")
    check(read_semantic_table(tmp_path / "t.csv"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "t.csv").write_text(TEXTS["semicolon and decimal comma"], encoding=encoding)
    check(read_semantic_table(tmp_path / "t.csv"))


def test_a_table_saved_on_windows_is_read_and_says_so(tmp_path):
    (tmp_path / "t.csv").write_bytes("class;Größe\nKrähe;1,5\nox;2\n".encode("cp1252"))
    table = read_semantic_table(tmp_path / "t.csv")
    assert (table.classes, table.columns) == (("Krähe", "ox"), ("Größe",))
    assert any("Windows-1252" in note for note in table.notes)


def test_yes_no_and_marks(tmp_path):
    text = "class,horns,flies,marked\nox,yes,No,x\nyak,Ja,false,\nemu,n,TRUE,X\n"
    (tmp_path / "t.csv").write_text(text)
    assert read_semantic_table(tmp_path / "t.csv").values.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 1]]


def test_an_empty_cell_among_numbers_is_a_value_that_is_missing(tmp_path):
    (tmp_path / "t.csv").write_text("class,a,b,c\nox,1,,?\nyak,0,2,n/a\nemu,NaN,-1,3\n")
    values = read_semantic_table(tmp_path / "t.csv").values
    np.testing.assert_array_equal(values, [[1, np.nan, np.nan], [0, 2, np.nan], [np.nan, -1, 3]])


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("kind", ["xlsx", "parquet"])
def test_excel_and_parquet(tmp_path, kind, index):
    pd = pytest.importorskip("pandas", reason="the extra `dev` is not installed")
    pytest.importorskip("openpyxl" if kind == "xlsx" else "pyarrow", reason="the extra `tables` is not installed")
    frame = pd.DataFrame({"class": CLASSES, **dict(zip(COLUMNS, np.array(VALUES).T, strict=True))})
    frame = frame.set_index("class") if index else frame
    path = tmp_path / f"t.{kind}"
    if kind == "xlsx":
        frame.to_excel(path, index=index, startrow=2, startcol=0)
    else:
        frame.to_parquet(path)
    check(read_semantic_table(path))


def test_an_unnamed_index_of_classes_in_parquet(tmp_path):
    pd = pytest.importorskip("pandas", reason="the extra `dev` is not installed")
    pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    pd.DataFrame(VALUES, index=list(CLASSES), columns=list(COLUMNS)).to_parquet(tmp_path / "t.parquet")
    check(read_semantic_table(tmp_path / "t.parquet"))


def test_excel_with_two_sheets_marks_and_percentages(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="the extra `tables` is not installed")
    book = openpyxl.Workbook()
    book.create_sheet("mine")
    for row in (["class", "share", "horns", None], ["ox", 0.45, True, None], ["yak", "7,5 %", "no", None], [None]):
        book["mine"].append(row)
    book.create_sheet("notes").append(["anything"])
    book.save(tmp_path / "t.xlsx")
    table = read_semantic_table(tmp_path / "t.xlsx")
    np.testing.assert_allclose(table.values, [[0.45, 1], [0.075, 0]])
    assert any("'mine' is read; left out: notes" in note for note in table.notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class,a,b,a\nox,1,2,3\n", ["two columns are called 'a': 2 and 4"]),
        ("class,a,,b\nox,1,2,3\n", ["column 3 has no name"]),
        ("class,a\nPolar bear,1\npolar_bear,2\n", ["two rows: 2 and 3", "'Polar bear'", "case"]),
        ("ox,1.5,0\nyak,0,1.5\n", ["first row holds a class"]),
        ("class,a,b\nox,1,5,0\n", ["4 cells, the header has 3", "save it with semicolons"]),
        ('class,a\nox,"1,500"\n', ["'1,500' has a comma", "row 2, column 'a'"]),
        ("class;a;b\nox;1,5;2.5\n", ["'1,5' has a comma", "'2.5'", "column 'b'"]),
        ("class\nox\n", ["one column", "separated by"]),
        (",a\n0,1\n1,2\n", ["no column holds class names"]),
    ],
)
def test_mistakes_say_what_and_where(tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_semantic_table(tmp_path / "t.csv")
    assert all(part in str(error.value) for part in says), str(error.value)


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"PK\x03\x04....", "t.csv", "an Excel file or another zip file"),
        (b"\xd0\xcf\x11\xe0....", "t.xlsx", "cannot read the Excel table"),
        (b"class,a\nox,1\n", "t.ods", "OpenDocument"),
        (b"\x81\x8d\x8f,\x90", "t.csv", "UTF-8"),
        (b"class,a\nox,1\n", "t.parquet", "cannot read the Parquet table"),
    ],
)
def test_what_is_no_table_says_why(tmp_path, content, name, says):
    pytest.importorskip("openpyxl", reason="the extra `tables` is not installed")
    pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_semantic_table(tmp_path / name)


def test_dimensions_that_are_counted_are_names_not_a_class(tmp_path):
    (tmp_path / "t.csv").write_text("class,0,1\nox,0.5,0\n")
    assert read_semantic_table(tmp_path / "t.csv").columns == ("0", "1")
    (tmp_path / "t.csv").write_text("kind,x,y\nox,0.5,0\n")  # x and y are names, though x can mean yes
    assert read_semantic_table(tmp_path / "t.csv").columns == ("x", "y")
    (tmp_path / "t.csv").write_text(",0,1\nox,0.5,0\nyak,1,1\n")
    assert read_semantic_table(tmp_path / "t.csv").classes == ("ox", "yak")


def test_names_are_the_same_but_for_case_and_blanks():
    for name in (
        "Black-footed Albatross",
        "black_footed_albatross",
        "BlackFooted  Albatross",
        "black‐footed albatross",
    ):
        assert name_key(name) == name_key("blackfootedalbatross"), name
    assert name_key("-1") != name_key("1")
    assert by_known_name(["polar bear", "ox", "emu"], ["Polar_Bear", "ox"]) == {
        "polar bear": "Polar_Bear", "ox": "ox", "emu": "emu",
    }  # fmt: skip
