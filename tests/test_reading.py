"""JSON values line by line: a long file is read in strips, and a wrong line is found in each of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from dkgzsl.errors import DataError
from dkgzsl.reading import json_lines, read_json_lines


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int


def written(folder: Path, numbers: list[Any], *, end: str = "") -> Path:
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps({"number": one}) + "\n" for one in numbers) + end)
    return file


def test_a_line_that_broke_off_is_left_out(tmp_path) -> None:
    for length in (0, 1, 999, 1000, 1001, 2500):
        file = written(tmp_path, list(range(length)), end='{"number": 7')
        assert [one["number"] for one in read_json_lines(file, Entry, "damaged")] == list(range(length))


def test_each_value_comes_with_its_line(tmp_path) -> None:
    file = written(tmp_path, [3, 4])
    assert list(json_lines(file, Entry, "damaged")) == [
        ('{"number": 3}', {"number": 3}),
        ('{"number": 4}', {"number": 4}),
    ]


@pytest.mark.parametrize("place", [0, 5, 999, 1000, 2203])
def test_the_message_names_the_wrong_value(tmp_path, place) -> None:
    numbers: list[Any] = list(range(2500))
    numbers[place] = "seven"
    with pytest.raises(DataError, match=rf"^damaged: {place}\.number: .*'seven'"):
        read_json_lines(written(tmp_path, numbers), Entry, "damaged")


@pytest.mark.parametrize("place", [0, 1000, 1700])
def test_the_message_names_the_line_that_is_no_json(tmp_path, place) -> None:
    file = written(tmp_path, list(range(2000)))
    lines = file.read_text().split("\n")
    lines[place] = "{"
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"^damaged, line {place + 1}: "):
        read_json_lines(file, Entry, "damaged")
