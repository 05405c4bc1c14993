"""`dkgzsl data list` and `dkgzsl data check`."""

import json

from dkgzsl.cli.main import main
from formats.files import write_xlsa17
from formats.toy import toy


def test_check_of_sound_data_exits_0_and_of_unsound_data_2(tmp_path, capsys):
    good = write_xlsa17(tmp_path / "GOOD", toy())
    assert main(["data", "check", str(good)]) == 0
    assert "GOOD: 70 images, 7 classes; 0 errors" in capsys.readouterr().out
    data = toy()
    bad = write_xlsa17(tmp_path / "BAD", data.with_parts(test_seen=data.parts["trainval"][:4]))
    assert main(["data", "check", str(bad)]) == 2
    printed = capsys.readouterr()
    assert "4 images are in trainval and in test_seen" in printed.out
    assert printed.err.startswith("error: BAD has 1 errors")
    assert "Traceback" not in printed.err


def test_check_prints_json(tmp_path, capsys):
    folder = write_xlsa17(tmp_path / "TOY", toy())
    assert main(["data", "check", str(folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["dataset"] == "TOY"
    assert {"severity", "check", "message", "fix"} == set(content["findings"][0])


def test_check_of_what_is_not_there_exits_2_with_a_message(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nothing")]) == 2
    assert "unknown data set" in capsys.readouterr().err


def test_list_tells_what_is_here(tmp_path, capsys):
    write_xlsa17(tmp_path / "CUB", toy(), features="vgg_fc7")
    write_xlsa17(tmp_path / "MINE", toy(), semantics="sent")
    assert main(["data", "list", "--data-root", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert rows["CUB"]["here"] == "features vgg_fc7; splits att"
    assert rows["AWA2"]["here"] == "no"
    assert rows["MINE"]["here"] == "features res101; splits sent"
    assert (rows["numbers"]["seen_classes"], rows["numbers"]["unseen_classes"]) == (80, 20)
    assert main(["data", "list", "--data-root", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in (*rows, "non-commercial"))


def test_list_describes_the_numbers_as_they_are(tmp_path):
    from dkgzsl import load_dataset
    from dkgzsl.data.inventory import inventory

    row, problem = inventory(tmp_path)[0], load_dataset("numbers")
    assert row["images"] == len(problem.labels)
    assert row["semantics"] == {name: table.shape[1] for name, table in problem.semantic_sources.items()}
