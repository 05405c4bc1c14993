"""docs/extend.md: its code blocks are a package from outside, found by its entry points."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dkgzsl
from dkgzsl.cli.main import main
from dkgzsl.data.formats import reader as formats
from dkgzsl.data.load import load_dataset
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.estimator.estimator import ZeroShotClassifier
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.features import backbones
from dkgzsl.methods import registry as methods
from worlds import arrays, world

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
SOURCE = Path(dkgzsl.__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """File name and text of every block on the page."""
    return [(name, text) for _, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


def forget() -> None:
    for registry in (methods, formats, backbones):
        registry._outside.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


def install(site: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """A package's metadata as pip leaves it: entry points by group."""
    metadata = site / f"{name}-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def install_page(site: Path) -> None:
    """The page's package: its modules, and its entry points."""
    points: dict[str, dict[str, str]] = {}
    for name, text in blocks():
        if name == "pyproject.toml":
            points |= tomllib.loads(text)["project"]["entry-points"]
        else:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text, encoding="utf-8")
    install(site, "my_package", points)


@pytest.fixture
def installed(tmp_path, monkeypatch) -> None:
    install_page(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    forget()
    yield
    monkeypatch.undo()
    forget()


def lines_of_code(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def test_each_example_is_short() -> None:
    assert [name for name, _ in blocks()] == [
        "my_package/nearest_mean.py",
        "pyproject.toml",
        "my_package/npz_reader.py",
        "pyproject.toml",
        "my_package/colour_grid.py",
        "pyproject.toml",
    ]
    assert all(lines_of_code(text) < 60 for _, text in blocks())


class Outside:
    """The page's package, and a broken one, installed for processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, site = folder, folder / "site"
        install_page(site)
        install(site, "broken_package", {"dkgzsl.methods": {"broken": "no_such_module:INFO"}})
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, SOURCE)))}

    def dkgzsl(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dkgzsl", *shlex.split(line)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def out(self, line: str) -> str:
        done = self.dkgzsl(line)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Outside:
    """With the run that the next tests take; the broken package is there all the time."""
    found = Outside(tmp_path_factory.mktemp("outside"))
    words = "train numbers --method nearest-mean --device cpu --baseline none --report off"
    found.trained = json.loads(found.out(f"{words} --json --out run"))
    return found


@pytest.fixture
def here(outside, installed, monkeypatch, capsys) -> Callable[..., str]:
    """A command in this process and in the folder of the run: what it prints, or its message where it fails."""
    monkeypatch.chdir(outside.folder)

    def run(line: str, *, fails: bool = False) -> str:
        capsys.readouterr()
        assert main(shlex.split(line)) == (2 if fails else 0)
        said = capsys.readouterr()
        return said.err if fails else said.out

    return run


def test_a_method_from_outside_trains_above_chance(outside) -> None:
    figures = {name: value["mean"] for name, value in outside.trained["metrics"].items()}
    assert outside.trained["method"] == "nearest-mean"
    assert figures["t1"] > 0.5  # by chance 0.05
    assert min(figures["u"], figures["s"], figures["h_calibrated"], figures["ausuc"]) > 0.3  # by chance 0.01
    assert json.loads((outside.folder / "run" / "result.json").read_text())["method"] == "nearest-mean"
    assert "nearest_mean:\n  ridge:" in (outside.folder / "run" / "config.yaml").read_text()


def test_its_run_is_evaluated_reported_and_compared(outside, here) -> None:
    again = json.loads(outside.out("evaluate run --json"))
    for name, value in outside.trained["metrics"].items():
        assert again["metrics"][name]["mean"] == pytest.approx(value["mean"], abs=1e-9)
    here("report run")
    assert "<title>numbers, nearest-mean" in (outside.folder / "run" / "report.html").read_text()
    few = "--eszsl.scalings unit --device cpu --baseline none --report off"
    here(f"train numbers --method eszsl {few} --out peer")
    compared = here("compare run peer")
    assert "run: numbers, method nearest-mean" in compared
    assert "peer: numbers, method eszsl" in compared


def test_its_run_predicts(outside, here) -> None:
    problem = load_dataset("numbers")
    images = problem.parts.test_unseen[::80]
    np.save(outside.folder / "rows.npy", problem.features[images])
    found = [json.loads(line) for line in here("predict run --features rows.npy --json").splitlines()]
    assert len(found) == len(images) == 10
    right = [one["class"] == problem.class_names[k] for one, k in zip(found, problem.labels[images], strict=True)]
    assert sum(right) >= 7


def test_its_capability_is_served_and_the_others_are_refused(outside, here) -> None:
    np.save(outside.folder / "row.npy", 0.9 * load_dataset("numbers").semantics[3])
    added = json.loads(here("add-class run --name another --attributes row.npy --json"))
    assert added["classes"] == 101
    for line, says in {
        "synthesize run --out x.npz": "this model (nearest-mean) synthesizes no features",
        "export run --out x.onnx": "this model (nearest-mean) cannot be exported",
    }.items():
        message = here(line, fails=True)
        assert message.startswith(f"error: {says}\n")
        assert "train with --method closed-form" in message


COMMANDS = re.findall(r"^dkgzsl (.+ nearest-mean .+)$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[] if "--help" in line else pytest.mark.long) for line in COMMANDS]
)
def test_the_pages_commands_run(outside, line) -> None:
    shown = outside.out(line + (" --device cpu" if "--out" in line else ""))
    if "--help" in line:
        assert "Settings of --method nearest-mean (A. Author, A title, a venue 2026):" in shown
        assert "--nearest-mean.ridge X..." in shown
        assert "Ridges to try on validation classes. (default: 0.01 0.1 1.0)" in shown
    else:
        assert re.search("nearest.mean", shown, re.IGNORECASE)


def test_a_broken_method_from_outside_is_one_error_under_its_own_name(outside) -> None:
    done = outside.dkgzsl("train numbers --method broken")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: method 'broken' from outside the package cannot be imported: No module named 'no_such_module'",
        "  where: no_such_module:INFO",
    ]
    done = outside.dkgzsl("train numbers --method nearest-meen")
    assert done.returncode == 2
    assert "did you mean 'nearest-mean'?" in done.stderr


@pytest.mark.usefixtures("installed")
def test_a_method_from_outside_is_the_estimators_too() -> None:
    problem = world()
    task, held_out = final_task(problem)
    described = {int(c): problem.semantics[c] for c in range(16)}
    model = ZeroShotClassifier(method="nearest-mean", settings={"ridge": 0.1}, random_state=0)
    model.fit(task.features.numpy(), task.labels.numpy(), semantics=described)
    assert model.setting_["ridge"] == 0.1
    right = model.predict(held_out.features.numpy()) == held_out.labels
    assert right[held_out.labels >= 12].mean() > 0.7  # unseen classes; by chance 1/16
    with pytest.raises(ConfigError, match="rigde"):
        ZeroShotClassifier(method="nearest-mean", settings={"rigde": 0.1}).fit(
            task.features.numpy(), task.labels.numpy(), semantics=described
        )


@pytest.mark.usefixtures("installed")
def test_its_added_class_scores_as_if_it_had_always_been_there() -> None:
    task, held_out = final_task(world())
    method = methods.make_method("nearest-mean")
    whole = method.fit(task, {"ridge": 0.1})
    fewer = methods.load_model(
        method.fit(replace(task, semantics=task.semantics[:14], unseen=task.unseen[:2]), {"ridge": 0.1}).save()
    )
    grown = fewer.with_classes(task.semantics, task.unseen)
    torch.testing.assert_close(grown.scores(held_out.features), whole.scores(held_out.features))
    assert methods.method_info("nearest-mean").capabilities == ("extendable",)


@pytest.fixture
def birds(tmp_path) -> Path:
    features, labels, attributes = arrays()
    names = np.array([f"bird {number}" for number in range(16)])
    path = tmp_path / "birds.npz"
    np.savez(
        path, features=features, labels=labels, class_names=names, attributes=attributes, unseen=[12, 13, 14, 15]
    )
    return path


@pytest.mark.usefixtures("installed")
def test_a_reader_from_outside_loads_trains_and_is_checked(birds, tmp_path, capsys) -> None:
    assert formats.reader_names()[-1] == "npz"
    problem = load_dataset(birds)
    assert problem.name == "birds"
    assert problem.unseen_classes.tolist() == [12, 13, 14, 15]
    assert len(problem.parts.test_seen) == 12 * 5
    assert main(["data", "check", str(birds), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "birds"
    words = ["train", str(birds), "--method", "eszsl", "--baseline", "none", "--report", "off", "--seeds", "2"]
    assert main([*words, "--json", "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["t1"]["mean"] > 0.5  # by chance 0.25


def test_without_the_package_the_file_is_unknown(birds) -> None:
    with pytest.raises(DataError, match="unknown data set"):
        load_dataset(birds)


@pytest.mark.usefixtures("installed")
def test_a_backbone_from_outside_extracts_and_predicts(tmp_path, capsys) -> None:
    rng, source = np.random.default_rng(0), tmp_path / "mine"
    lines = ["class,red,green,blue"]
    for number in range(8):
        colour = rng.uniform(0.1, 0.9, 3)
        lines.append(f"hue {number}," + ",".join(f"{value:.3f}" for value in colour))
        (source / "images" / f"hue {number}").mkdir(parents=True)
        for photo in range(8):
            pixels = (255 * (colour + 0.05 * rng.normal(size=(40, 48, 3))).clip(0, 1)).astype(np.uint8)
            Image.fromarray(pixels).save(source / "images" / f"hue {number}" / f"{photo}.png")
    (source / "attributes.csv").write_text("\n".join(lines) + "\n")
    roles = [f"hue {number},{'unseen' if number > 5 else 'seen'}" for number in range(8)]
    (source / "classes.csv").write_text("class,role\n" + "\n".join(roles) + "\n")
    problem, store, run = (str(tmp_path / name) for name in ("problem", "store", "run"))
    assert main(["data", "import", str(source), "--semantics", "attributes", "--out", problem]) == 0
    words = ["extract", problem, "--backbone", "colour-grid", "--image-size", "32", "--out", store]
    assert main([*words, "--device", "cpu"]) == 0
    words = ["train", problem, "--features", store, "--representation", "pooled", "--baseline", "none"]
    assert main([*words, "--report", "off", "--device", "cpu", "--out", run]) == 0
    capsys.readouterr()
    photo = str(source / "images" / "hue 6" / "0.png")
    assert main(["predict", run, photo, "--json"]) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["image"] == photo
    stored = load_dataset(problem, features=store)
    assert stored.provenance["backbone"] == "colour-grid"
    assert stored.features.shape == (64, 17, 6)


@pytest.mark.usefixtures("installed")
def test_what_is_no_reader_or_backbone_says_so(tmp_path, monkeypatch) -> None:
    import my_package.colour_grid
    import my_package.npz_reader

    monkeypatch.setattr(my_package.npz_reader, "NpzReader", dict)
    monkeypatch.setattr(my_package.colour_grid, "build", lambda name, **_: name)
    with pytest.raises(ConfigError, match="gives a dict, not a reader"):
        formats.reader_of("npz")
    with pytest.raises(ConfigError, match="'colour-grid' is a str, not a backbone"):
        backbones.build_backbone("colour-grid")


@pytest.mark.usefixtures("installed")
def test_a_broken_package_spoils_nothing_of_ours(birds, monkeypatch) -> None:
    import my_package.npz_reader

    monkeypatch.delattr(my_package.npz_reader, "NpzReader")
    assert load_dataset("numbers").name == "numbers"
    assert formats.embedded_reader("no such name") is None
    with pytest.raises(ConfigError, match="the reader 'npz' cannot be made"):
        load_dataset(birds)
    monkeypatch.delattr("my_package.colour_grid.build")
    assert backbones.build_backbone("oriented-gradients").grid == (5, 5)
    with pytest.raises(ConfigError, match="'colour-grid' cannot be imported"):
        backbones.build_backbone("colour-grid")
