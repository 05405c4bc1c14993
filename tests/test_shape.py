"""The shape that the package promises: files to read a method, sizes, imports, words (tools/shape.py)."""

import pytest

from dkgzsl.methods.registry import BUILT_IN
from repository_tools import load_tool

shape = load_tool("shape")


@pytest.fixture(scope="module")
def package():
    return shape.Package.read()


@pytest.fixture
def made(tmp_path):
    """A package with each fault once, written from its files' texts."""

    def write(**files: str):
        for name, text in files.items():
            file = tmp_path / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            file.write_text(text)
        return shape.Package.read(tmp_path)

    return write


@pytest.mark.parametrize("method", shape.ENTRIES)
def test_a_method_is_read_in_few_files(package, method) -> None:
    entries, goal = shape.ENTRIES[method]
    files = shape.files_to_read(package, entries)
    assert set(entries) <= set(files)
    assert len(files) <= goal, files


def test_every_peer_is_counted(package) -> None:
    counted = {count.title.removeprefix("files to read, ") for count in shape.reading_counts(package)}
    assert counted == {*BUILT_IN, "SOVR"}


def test_few_files_are_short(package) -> None:
    found = shape.short_files(package)
    assert len(found) <= shape.MOST_SHORT, found


def test_no_file_and_no_function_is_long(package) -> None:
    assert shape.long_files(package) == []
    assert shape.long_functions(package) == []


def test_imports_have_no_circle_and_none_runs_up(package) -> None:
    assert shape.circles(package) == []
    assert shape.arrows_up(package) == []


def test_the_replaced_words_are_gone() -> None:
    assert [f"{one.word}: {one.file}:{one.line}: {one.text}" for one in shape.words()] == []


def test_imports_are_found_wherever_they_stand(made) -> None:
    package = made(
        methods__one="from dkgzsl.methods import two\nfrom .three import x\nfrom dkgzsl import __version__",
        methods__two="def f():\n    from dkgzsl.representation.four import y",
        methods__three="if TYPE_CHECKING:\n    import dkgzsl.methods.base",
        methods__base="from dkgzsl.methods.five import z\nimport dkgzsl\nprint(dkgzsl.__version__)",
        methods__five="",
        representation__four="",
    )
    assert package.imports["methods.one"] == {"methods.two", "methods.three"}
    assert package.imports["methods.base"] == {"methods.five"}
    assert shape.files_to_read(package, ["methods.one"]) == [
        "methods.one", "methods.three", "methods.two", "representation.four",
    ]  # fmt: skip


def test_each_fault_is_found(made) -> None:
    package = made(
        errors="import dkgzsl.cli.main",
        data__one="from dkgzsl.methods.one import x",
        methods__one="import dkgzsl.methods.two",
        methods__two="from dkgzsl.methods.one import f\ndef f():\n" + "    a = 1\n" * 60,
        cli__main="# told\n" * 401,
    )
    assert shape.arrows_up(package) == ["data.one -> methods.one", "errors -> cli.main"]
    assert shape.circles(package) == ["methods.one <-> methods.two"]
    assert shape.long_files(package) == ["cli.main"]
    assert shape.long_functions(package) == ["methods.two.f (61 lines)"]
    assert shape.short_files(package) == ["data.one", "errors", "methods.one"]
    assert len(shape.words(package.root)) == 401


def test_a_module_without_a_floor_is_a_fault(made) -> None:
    assert shape.arrows_up(made(attic__one="")) == ["attic has no floor", "attic.one has no floor"]
