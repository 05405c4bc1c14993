"""Help, versions, unknown verbs; and that start-up stays light."""

import subprocess
import sys

import pytest

from dkgzsl import errors
from dkgzsl.cli import doctor
from dkgzsl.cli.main import _GROUPS, VERBS, main
from dkgzsl.methods.registry import BUILT_IN


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


def test_the_overview_shows_every_verb_once() -> None:
    grouped = [verb for verbs in _GROUPS.values() for verb in verbs]
    assert sorted(grouped) == sorted(VERBS)


def test_the_overview_fits_a_narrow_terminal(capsys) -> None:
    main([])
    assert max(map(len, capsys.readouterr().out.splitlines()[3:])) <= 80


def test_a_slow_verb_says_on_a_terminal_that_it_starts(capsys, monkeypatch, tmp_path) -> None:
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        assert main(["evaluate", str(tmp_path / "none")]) == 2
        first = capsys.readouterr().err.splitlines()[0]
        assert first.startswith("dkgzsl evaluate: loading" if terminal else "error: ")


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("onnx", "export", ["export", "no-run", "--out", "x.onnx"]),
        ("PIL", "app", ["app", "no-run"]),
        ("optuna", "tune", ["tune", "no-data", "--out", "x"]),
        ("PIL", "images", ["extract", "no-data", "--backbone", "resnet50", "--out", "x"]),
    ],
)
def test_a_missing_extra_is_said_before_anything_is_read(capsys, monkeypatch, package, extra, words) -> None:
    found = errors.find_spec
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == package else found(name))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"the package {package} is not installed" in said
    assert f"pip install 'dkgzsl[{extra}]'" in said


def test_an_import_that_fails_late_names_the_extra_too(capsys, monkeypatch) -> None:
    def fails(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("dkgzsl.cli.main.import_module", lambda _: fails("timm.models"))
    assert main(["doctor"]) == 2
    assert "pip install 'dkgzsl[images]'" in capsys.readouterr().err
    monkeypatch.setattr("dkgzsl.cli.main.import_module", lambda _: fails("something_else"))
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


def test_doctor_and_errors_know_the_same_extras() -> None:
    brought = {module: name for name, (modules, _) in doctor.EXTRAS.items() for module in modules}
    assert {*errors._EXTRA_OF} <= {*brought}
    assert {*errors._EXTRA_OF.values()} <= {*doctor.EXTRAS}


def test_what_training_found_is_one_sentence() -> None:
    from dkgzsl.cli.figures import found

    metrics = {"u": {"mean": 0.372}, "s": {"mean": 0.614}, "u_calibrated": None, "s_calibrated": None}
    baseline = {"method": "eszsl", "figures": {"u": 0.12, "s": 0.8}}
    details = {"chance": {"t1": 0.02, "u": 0.005, "s": 0.005}, "baseline": baseline}
    sentence = found({"method": "closed-form", "metrics": metrics}, details)
    assert sentence is not None
    for fact in ("37 of 100 images of the 50 classes", "61 of 100", "150 classes", "eszsl names 12 and 80", "200"):
        assert fact in sentence
    assert "eszsl" not in str(found({"method": "closed-form", "metrics": metrics}, {**details, "baseline": None}))
    assert found({"method": "closed-form", "metrics": {**metrics, "u": None}}, details) is None


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


@pytest.mark.parametrize(
    ("flag", "today"),
    [
        ("--variant", "--method (closed-form where it was dkgzsl"),
        ("--classifier", "--closed-form.classifier"),
        ("--beside", "--extra-features"),
        ("--knowledge.seen_blend", "--closed-form.seen-blend"),
        ("--adversarial.hidden-size", "--dkgzsl.hidden-size"),
        ("--softmax.per-class", "--closed-form.softmax.per-class or --dkgzsl.softmax.per-class"),
        ("--knowledge.fusion", "leave it out"),
        ("--closed-form.uncertainty", "leave it out"),
    ],
)
def test_a_flag_of_the_old_version_names_the_one_of_today(capsys, flag, today) -> None:
    assert main(["train", "numbers", flag, "1"]) == 2
    error = capsys.readouterr().err
    assert f"dkgzsl train has no option {flag}" in error
    assert today in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train"], "no data set is named"),
        (["train", "numbers", "--method"], "--method needs a value"),
        (["train", "numbers", "--protocol", "paper"], "--protocol cannot be 'paper' (choices: validated, oracle)"),
        (["train", "numbers", "--closed-form.ridge", "abc"], "--closed-form.ridge cannot be 'abc'"),
        (["train", "numbers", "more"], "unexpected: more"),
        (["train", "numbers", "--backbone", "resnet101"], "no features of the backbone 'resnet101'"),
        (["synthesize", "--out", "a.npz"], "these are needed: RUN\n"),
        (["extract"], "these are needed: PROBLEM, --backbone, --out\n"),
        (["evaluate", "no/such/run"], "there is no such folder"),
        (["attention", "run"], "dkgzsl predict RUN IMAGE --overlay FOLDER"),
    ],
)
def test_a_mistake_is_named_in_plain_words(capsys, words, expected) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_help_shows_a_default_once_and_what_the_method_is(capsys) -> None:
    assert main(["train", "--method", "dkgzsl", "--help-all"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "A generator, trained against a critic" in shown
    assert "--first-seed N The first of the consecutive seeds (default: the published one, or 0)." in shown
    assert main(["benchmark", "--help"]) == 0
    assert "--jobs N Processes that run at once; they share the processor's cores. (default: 1)" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("verb", "naming"), [("train", "--method"), ("tune", "--method"), ("benchmark", "--methods")]
)
def test_help_shows_the_settings_of_methods_wherever_they_are_taken(capsys, verb, naming) -> None:
    assert main([verb, "--help"]) == 0
    short = capsys.readouterr().out
    assert (
        "--NAME.SETTING VALUE    a setting of a method (--eszsl.powers -1); in YAML, a method has a section"
        in short
    )
    assert f"Settings of {naming}" not in short
    assert main([verb, "--help-all"]) == 0
    whole = capsys.readouterr().out
    for name in BUILT_IN:
        assert f"Settings of {naming} {name} (" in whole
    assert "--gfzsl.powers" in whole
    assert main([verb, "--method", "gfzsl", "--help"]) == 0
    one = capsys.readouterr().out
    assert "--gfzsl.powers" in one
    assert "--sae.powers" not in one
