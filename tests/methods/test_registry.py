"""Methods by name: complete, lazy, and open to those from outside."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import tyro

from dkgzsl.benchmark.grid import cells_of
from dkgzsl.cli.main import main
from dkgzsl.cli.parse import parse
from dkgzsl.config import BenchmarkConfig, from_mapping
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods import registry
from dkgzsl.methods.base import Method, MethodInfo, SavedModel, Setup, Task
from dkgzsl.methods.peers.eszsl import ESZSL, ESZSLModel, ESZSLSettings
from dkgzsl.methods.registry import (
    BUILT_IN,
    DEFAULT,
    PUBLISHED,
    check_name,
    load_model,
    make_method,
    method_info,
    method_names,
    working_methods,
    write_model,
)
from dkgzsl.methods.search import start_of, with_values
from worlds import world


def _task_and_setting() -> tuple[Task, dict[str, object]]:
    return final_task(world())[0], {"scaling": "unit", "gamma": 0, "lambda": 0}


class Guess(ESZSL):
    """A method from outside."""

    name = "guess"


INFO = MethodInfo(
    name="guess",
    title="Guess",
    paper="Somebody, A guess, 2026",
    settings=ESZSLSettings,
    make=Guess,
    models={"guess": ESZSLModel, "guess-again": ESZSLModel},
)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entry points as an installed package would have them."""
    found = [
        EntryPoint("guess", f"{__name__}:INFO", registry.GROUP),
        EntryPoint("eszsl", f"{__name__}:INFO", registry.GROUP),
        EntryPoint("broken", "no.such.module:INFO", registry.GROUP),
        EntryPoint("wrong", f"{__name__}:Guess", registry.GROUP),
        EntryPoint("other", f"{__name__}:INFO", registry.GROUP),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [entry for entry in found if entry.group == group]
    )
    registry._outside.cache_clear()
    yield
    registry._outside.cache_clear()


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_made_by_its_name(name: str) -> None:
    info = method_info(name)
    method = make_method(name, setup=Setup(seed=3, minutes=0.5))
    assert isinstance(method, Method)
    assert method.name == info.name == name
    assert getattr(method, "seed", 3) == 3
    assert not info.iterative or method.minutes == 0.5  # type: ignore[attr-defined]
    assert info.title
    assert any(str(year) in info.paper for year in range(2010, 2030))


@pytest.mark.parametrize("name", method_names())
def test_settings_come_from_yaml_and_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    info = method_info(name)
    defaults = info.settings()
    assert from_mapping(info.settings, {}, where="here") == defaults
    with pytest.raises(SystemExit):
        tyro.cli(info.settings, args=["--help"])
    shown = capsys.readouterr().out
    for one in fields(info.settings):
        flag = "--" + one.name.replace("_", "-")
        assert flag in shown
        value = getattr(defaults, one.name)
        if isinstance(value, int | float | str | tuple):
            given = list(value) if isinstance(value, tuple) else value
            assert from_mapping(info.settings, {one.name: given}, where="here") == defaults


@pytest.mark.parametrize("name", method_names())
def test_a_search_begins_within_its_space(name: str) -> None:
    info = method_info(name)
    if info.search is None:
        return
    settings = info.settings() if info.published is None else info.published(info.settings(), None, False).settings
    space = info.search(settings, 500)
    assert space
    begun = with_values(settings, start_of(space, settings))
    assert is_dataclass(begun)
    assert isinstance(begun, info.settings)


@pytest.mark.parametrize(("name", "rate"), [("f-clswgan", 2e-4), ("f-vaegan-d2", 5e-4)])
def test_what_is_open_is_as_published_or_narrower_under_a_cap_of_minutes(name: str, rate: float) -> None:
    info = method_info(name)
    for minutes, expected in ((None, (4096, 1e-4, "float32")), (1.0, (1024, rate, "bfloat16"))):
        settings = make_method(name, setup=Setup(minutes=minutes)).settings  # type: ignore[attr-defined]
        assert (settings.hidden_size, settings.learning_rate, settings.precision) == expected
        assert info.published is not None
        assert info.published(info.settings(), "CUB", minutes is not None).settings == settings
    given = replace(info.settings(), hidden_size=32)
    assert make_method(name, given, Setup(minutes=1.0)).settings.hidden_size == 32  # type: ignore[attr-defined]


def test_names_import_neither_torch_nor_a_method() -> None:
    code = (
        "import sys; from dkgzsl.methods.registry import method_names; method_names(); "
        "heavy = ('torch', 'dkgzsl.methods.peers', 'dkgzsl.methods.closed_form', 'dkgzsl.methods.dkgzsl'); "
        "sys.exit(any(name.startswith(heavy) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'eszsl'"):
        make_method("ezsl")
    with pytest.raises(RunError, match="'eszsl'"):
        load_model(SavedModel("ezsl", {}, {}))


def test_an_old_name_is_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match="called 'f-vaegan-d2' now"):
        check_name("f-vaegan")


def test_a_model_file_of_another_version_is_refused() -> None:
    saved = make_method("eszsl").fit(*_task_and_setting()).save()
    fewer = {name: tensor for name, tensor in saved.tensors.items() if name != "bias"}
    with pytest.raises(RunError, match="'eszsl' lacks 'bias'"):
        load_model(SavedModel("eszsl", fewer, saved.values))


@pytest.mark.usefixtures("outside")
def test_a_method_from_outside_joins_without_a_fork() -> None:
    assert method_names()[-4:] == ("broken", "guess", "other", "wrong")
    assert method_info("guess").capabilities == ("extendable", "exportable")
    method = make_method("guess", ESZSLSettings(powers=(0,)))
    assert method.name == "guess"
    assert type(make_method("eszsl")) is ESZSL  # a name of ours is not given away


@pytest.mark.usefixtures("outside")
def test_an_entry_point_has_the_name_of_its_method() -> None:
    with pytest.raises(ConfigError, match="'other' names a method that calls itself 'guess'"):
        method_info("other")


@pytest.mark.usefixtures("outside")
def test_what_cannot_be_imported_is_refused_when_it_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        method_info("broken")
    saved = make_method("eszsl").fit(*_task_and_setting()).save()
    assert load_model(saved).seen.tolist() == list(range(12))
    with pytest.raises(ConfigError, match="not a MethodInfo"):
        make_method("wrong")


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("kind", ["guess", "guess-again"])
def test_a_broken_method_does_not_spoil_another_from_outside(kind: str) -> None:
    saved = make_method("eszsl").fit(*_task_and_setting()).save()
    assert load_model(SavedModel(kind, saved.tensors, saved.values)).seen.tolist() == list(range(12))


@pytest.mark.usefixtures("outside")
def test_only_what_works_is_in_a_benchmark_of_everything_and_in_the_whole_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert working_methods() == (*BUILT_IN, "guess")
    assert {cell.method for cell in cells_of(BenchmarkConfig(seeds=1))} == {*working_methods()} - {"clip"}
    assert main(["train", "--help-all"]) == 0
    shown = capsys.readouterr().out
    assert "Settings of --method guess (Somebody, A guess, 2026)" in shown
    assert "Settings of --method broken" not in shown


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("verb", ["train", "tune"])
def test_help_lists_the_methods_of_the_registry(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--method NAME One of {', '.join(method_names())} (default: {DEFAULT}, or {PUBLISHED}, " in shown
    assert "{methods}" not in shown


@pytest.mark.usefixtures("outside")
def test_a_model_says_that_its_method_cannot_be_imported_or_is_not_installed() -> None:
    with pytest.raises(ConfigError, match="method 'broken' from outside the package cannot be imported"):
        load_model(SavedModel("broken", {}, {}))
    with pytest.raises(RunError, match=r"(?s)unknown kind of model 'gone'.*install the package"):
        load_model(SavedModel("gone", {}, {}))


@pytest.mark.usefixtures("outside")
def test_an_outside_module_that_fails_in_any_way_is_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "does_not_parse.py").write_text("INFO = (")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry._outside(), "broken", "does_not_parse:INFO")
    assert main(["train", "numbers", "--method", "broken"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: method 'broken' from outside the package cannot be imported: '(' was never")
    assert len(error.splitlines()) == 2


def test_a_model_that_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no method has models of the kind 'mine'"):
        write_model(tmp_path / "model.safetensors", SavedModel("mine", {}, {}))
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Section:
    width: int


@dataclass(frozen=True)
class Config:
    my_method: Section


def test_a_setting_without_a_default_is_named() -> None:
    with pytest.raises(ConfigError, match=r"these are needed: --my-method\.width\n"):
        parse(Config, [], verb="train")
