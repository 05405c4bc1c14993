import os
from pathlib import Path

from dkgzsl.features.photo_files import as_on_disk, files_below, is_system, printable, spelled


def test_a_name_that_is_no_utf8_goes_to_text_and_back(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (path,) = files_below(tmp_path)
    text = printable(path)
    assert text.encode() == os.fsencode(tmp_path) + rb"/caf\xe9.png"
    assert as_on_disk(Path(text)).read_bytes() == b"x"
    assert spelled(path.name) == "café.png"


def test_a_name_that_looks_like_one_is_itself(tmp_path):
    (tmp_path / r"a\xe9.png").write_bytes(b"y")
    assert as_on_disk(tmp_path / r"a\xe9.png").read_bytes() == b"y"
    assert printable("größe.png") == "größe.png"


def test_hidden_and_system_files_are_left_out(tmp_path):
    for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "~$t.xlsx", "__MACOSX/a.png", "b/.c/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(files_below(tmp_path)) == []
    assert not is_system(tmp_path / "a.png")


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_bytes(b"")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a" / "b")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a/b/x.png", "c/up/b/x.png", "c/x.png"] or found == ["a/b/x.png", "c/x.png"]
