"""Help, versions, unknown verbs; and that start-up stays light."""

import subprocess
import sys

import pytest

from dkgzsl.cli.main import VERBS, main


def test_every_verb_has_help(capsys) -> None:
    for verb in VERBS:
        assert main([*verb.split(), "--help"]) == 0
        assert f"dkgzsl {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "expected"), [(["trian"], "train"), (["data", "chek"], "data check")])
def test_an_unknown_verb_names_the_nearest(capsys, words, expected) -> None:
    assert main(words) == 2
    assert f"did you mean {expected!r}" in capsys.readouterr().err


def test_overview_and_version(capsys) -> None:
    assert main([]) == 0
    assert "dkgzsl train numbers" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dkgzsl ")
    assert main(["data"]) == 0
    assert "data check" in capsys.readouterr().out


def test_python_runs_the_package_as_the_script_does() -> None:
    found = subprocess.run([sys.executable, "-m", "dkgzsl", "trian"], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "did you mean 'train'" in found.stderr


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["data", "check", "--help"]])
def test_help_imports_nothing_heavy(words) -> None:
    code = (
        "import sys; from dkgzsl.cli.main import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'sklearn', 'h5py', 'timm') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"
