import numpy as np
import pytest

from dkgzsl.data.formats.tables import SemanticTable, is_semantic_table, read_semantic_table, write_semantic_table
from dkgzsl.errors import DataError


def written(tmp_path, text: str, name: str = "t.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_rows_and_columns(tmp_path):
    table = read_semantic_table(written(tmp_path, "class,tail,wings\nox, 1,0\n\ncrow,0.5,2e0\n"))
    assert table.classes == ("ox", "crow")
    assert table.columns == ("tail", "wings")
    assert table.values.tolist() == [[1, 0], [0.5, 2]]
    assert table.rows_of(["crow", "ox"]).tolist() == [[0.5, 2], [1, 0]]


def test_written_tables_read_back_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    for dtype in (np.float64, np.float32):
        table = SemanticTable(("ä, b", 'c"d'), ("x", "y", "z"), rng.standard_normal((2, 3)).astype(dtype))
        write_semantic_table(tmp_path / "t.csv", table)
        back = read_semantic_table(tmp_path / "t.csv")
        assert back.classes == table.classes
        assert np.array_equal(back.values.astype(dtype), table.values)


def test_spreadsheets_write_marks_and_decomposed_letters(tmp_path):
    (tmp_path / "t.csv").write_text("Class,a\nKra\u0308he,1\n", encoding="utf-8-sig")
    assert read_semantic_table(tmp_path / "t.csv").classes == ("Kr\u00e4he",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class,a,b\nox,1,2\ncow,1,big\n", ["'big', not a number", "row 3, column 'b'"]),
        ("class,a,b\nox,1,\n", ["the column has no value at all", "column 'b'"]),
        ("class,a\nox,nan\n", ["the row has no value at all", "row 2"]),
        ("class,a\nox,1e999\n", ["the cell is inf", "row 2"]),
        ("class,a\nox,1\n\nox,2\n", ["'ox' has two rows: 2 and 4"]),
        ("class,a,b\nox,1\n", ["2 cells, the header has 3", "row 2"]),
        ("class,a\n,1\n", ["no class name", "row 2"]),
        ("class,a\n", ["no rows"]),
        ("", ["called 'class'"]),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, says):
    with pytest.raises(DataError) as error:
        read_semantic_table(written(tmp_path, text))
    assert all(part in str(error.value) for part in says), str(error.value)


def test_other_files_are_no_semantic_tables(tmp_path):
    assert is_semantic_table(written(tmp_path, "class,a\nox,1\n"))
    assert not is_semantic_table(written(tmp_path, "class,role\nox,seen\n"))
    assert not is_semantic_table(written(tmp_path, "class,description\nox,large\n"))
    assert not is_semantic_table(written(tmp_path, "image,a\nox,1\n"))
    assert not is_semantic_table(written(tmp_path, "class,a\n", "notes.txt"))


def test_parquet_is_read_like_csv(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    import pyarrow.parquet as parquet

    columns = {"class": ["ox", "crow"], "tail": [1, 0], "wings": [0.0, 2.0]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    table = read_semantic_table(tmp_path / "t.parquet")
    assert table.classes == ("ox", "crow")
    assert table.values.tolist() == [[1, 0], [0, 2]]
    parquet.write_table(arrow.table({**columns, "tail": [1, None]}), tmp_path / "t.parquet")
    assert np.isnan(read_semantic_table(tmp_path / "t.parquet").values).tolist() == [[False, False], [True, False]]
    (tmp_path / "t.parquet").write_text("class,a\n")
    with pytest.raises(DataError, match="cannot read the Parquet table"):
        read_semantic_table(tmp_path / "t.parquet")
