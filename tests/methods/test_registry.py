"""Methods by name: complete, lazy, and open to those from outside."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods import registry
from dkgzsl.methods.base import Method, SavedModel, Task
from dkgzsl.methods.dkgzsl.method import DKGZSL
from dkgzsl.methods.peers.eszsl import ESZSL
from dkgzsl.methods.registry import MethodInfo, load_model, make_method, method_info, method_names
from worlds import world


def _task_and_setting() -> tuple[Task, dict[str, object]]:
    return final_task(world())[0], {"scaling": "unit", "gamma": 0, "lambda": 0}


class Guess(ESZSL):
    """A method from outside."""

    name = "guess"


INFO = MethodInfo(
    title="Guess",
    factory=f"{__name__}:Guess",
    models={"guess": "dkgzsl.methods.peers.linear_model:LinearModel"},
    authors="nobody",
    venue="nowhere",
    year=2026,
)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Entry points as an installed package would have them."""
    found = [
        EntryPoint("guess", f"{__name__}:INFO", registry.GROUP),
        EntryPoint("eszsl", f"{__name__}:INFO", registry.GROUP),
        EntryPoint("broken", "no.such.module:INFO", registry.GROUP),
        EntryPoint("wrong", f"{__name__}:Guess", registry.GROUP),
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
    method = make_method(name, seed=3, minutes=0.5, dataset="numbers")
    assert isinstance(method, Method)
    assert method.name == name
    assert getattr(method, "seed", 3) == 3
    assert not info.iterative or method.minutes == 0.5  # type: ignore[attr-defined]
    assert info.title
    assert str(info.year) in info.citation


def test_published_settings_go_by_the_data_set() -> None:
    of_numbers, of_cub = make_method("paper", dataset="numbers"), make_method("paper", dataset="CUB")
    assert isinstance(of_numbers, DKGZSL)
    assert isinstance(of_cub, DKGZSL)
    assert (of_numbers.epochs, of_cub.epochs) == (20, 500)


def test_names_and_citations_import_nothing_heavy() -> None:
    code = (
        "import sys; from dkgzsl.methods.registry import *; "
        "[method_info(n).citation for n in method_names()]; sys.exit('sklearn' in sys.modules "
        "or any(m.startswith('dkgzsl.methods.peers') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'eszsl'"):
        make_method("ezsl")
    with pytest.raises(RunError, match="'eszsl'"):
        load_model(SavedModel("ezsl", {}, {}))


def test_a_model_file_of_another_version_is_told() -> None:
    saved = make_method("eszsl").fit(*_task_and_setting()).save()
    fewer = {name: tensor for name, tensor in saved.tensors.items() if name != "weights"}
    with pytest.raises(RunError, match="'eszsl' lacks 'weights'"):
        load_model(SavedModel("eszsl", fewer, saved.values))


@pytest.mark.usefixtures("outside")
def test_a_method_from_outside_joins_without_a_fork() -> None:
    assert method_names()[-3:] == ("broken", "guess", "wrong")
    assert method_info("guess").citation == "nobody, nowhere 2026"
    assert make_method("guess").name == "guess"
    assert type(make_method("eszsl")).__name__ == "ESZSL"  # a name of ours is not given away


@pytest.mark.usefixtures("outside")
def test_what_cannot_be_imported_is_told_when_it_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        method_info("broken")
    saved = make_method("eszsl", seed=0).fit(*_task_and_setting()).save()
    assert load_model(saved).seen.tolist() == list(range(12))
    with pytest.raises(ConfigError, match="not a MethodInfo"):
        make_method("wrong")
