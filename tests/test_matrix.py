"""Every method of the registry under every verb, with small budgets: it serves, or names who does.

The default method is trained on `numbers`, the others on a small world in files.

Two tables: `BUDGETS` has one line a method, `VERBS` and `CAPABLE` one entry a verb. The first tests below fail if
a method or a capability is missing from them.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from dkgzsl import Problem, ZeroShotClassifier, load_dataset
from dkgzsl.cli.main import VERBS as ALL_VERBS
from dkgzsl.cli.main import main
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import CAPABILITIES, capabilities_of
from dkgzsl.methods.registry import method_info, method_names, methods_with
from formats.files import write_xlsa17
from formats.toy import Toy
from worlds import CLASSES, SEEN, arrays, world_folder

GENERATOR = {"hidden_size": 16, "epochs": 1, "batch_size": 256, "per_class": 5, "softmax_epochs": 1}
WIDTHS = {f"{one}_{part}": 16 for one in ("feature", "description") for part in ("encoder", "decoder")}
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "closed-form": {
        "components": [60], "shrinkage": [0.5], "kernel_width": [2.0], "feature_kernel_width": [0.0],
        "ridge": [0.1], "seen_blend": [0.0], "episodes": "off",
    },
    "dkgzsl": {"hidden_size": 16, "epochs": 1, "batch_size": 256, "softmax": {"per_class": 5, "epochs": 1}},
    "eszsl": {"powers": [-1], "scalings": ["unit"]},
    "sae": {"powers": [0], "scalings": ["unit"], "descriptions": ["unit"]},
    "ridge": {"powers": [-1], "scalings": ["unit"]},
    "exem": {"components": 20, "widths": [1.0], "costs": [10.0], "scalings": ["none"], "descriptions": ["unit"]},
    "gfzsl": {"powers": [-1], "widths": [1.0], "floors": [0.3], "further_floors": [0.3], "scalings": ["unit"]},
    "ale": {"epochs": 1, "rates": [0.3], "scalings": ["unit"]},
    "class-norm": {"epochs": 1, "hidden_size": 16, "scalings": ["none"]},
    "f-clswgan": GENERATOR,
    "f-vaegan-d2": GENERATOR,
    "cada-vae": {
        "widths": {**WIDTHS, "latent": 8}, "epochs": 1, "batch_size": 256, "per_class": 5, "seen_per_class": 5,
        "softmax_epochs": 1,
    },
    "clip": {},
}  # fmt: skip
"""Settings of each method: what it takes to run, not what it takes to be good."""


class Run(NamedTuple):
    """A finished run of a method, and the data that it was trained on."""

    method: str
    folder: Path
    data: str
    settings: Path
    problem: Problem

    @property
    def words(self) -> list[str]:
        return ["--method", self.method, "--config", str(self.settings)]


def described_by_means(folder: Path) -> Path:
    """A data set whose descriptions lie where its features do, which CLIP's method needs."""
    features, labels, attributes = arrays()
    means = attributes @ np.linalg.lstsq(attributes[labels], features - 4, rcond=None)[0] + 4
    of_class = [np.flatnonzero(labels == c) for c in range(CLASSES)]
    parts = {
        "trainval": np.concatenate([images[:18] for images in of_class[:SEEN]]),
        "test_seen": np.concatenate([images[18:] for images in of_class[:SEEN]]),
        "test_unseen": np.concatenate(of_class[SEEN:]),
        "train": np.flatnonzero(labels < 9),
        "val": np.flatnonzero((labels >= 9) & (labels < SEEN)),
    }
    write_xlsa17(folder, Toy(features, labels, means, None, tuple(f"class {c}" for c in range(CLASSES)), parts))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of a method, trained when it is asked for first."""
    place = tmp_path_factory.mktemp("matrix")

    @cache
    def train(method: str) -> Run:
        in_one_space = method_info(method).on_request
        data = "numbers" if method == "closed-form" else str(place / ("means" if in_one_space else "world"))
        if data != "numbers" and not Path(data).exists():
            described_by_means(Path(data)) if in_one_space else world_folder(Path(data))
        settings, out = place / f"{method}.yaml", place / method
        settings.write_text(yaml.safe_dump({"representation": ["pooled"], method: dict(BUDGETS[method])}))
        run = Run(method, out, data, settings, load_dataset(data))
        assert main(["train", data, *run.words, "--baseline", "none", "--out", str(out), "--json"]) == 0
        return run

    return train


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The one JSON object that a command prints."""
    capsys.readouterr()
    code = main([*words, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out.splitlines()[0])


def result_of(run: Run) -> dict[str, Any]:
    content = json.loads((run.folder / "result.json").read_text())
    assert content["method"] == run.method
    assert content["format"] == 2
    return content


def evaluate(run: Run, capsys, tmp_path: Path) -> None:
    found = printed(capsys, "evaluate", str(run.folder))
    assert (found["method"], found["metrics"]) == (run.method, result_of(run)["metrics"])
    assert found["metrics"]["t1"]["mean"] is not None


def predict(run: Run, capsys, tmp_path: Path) -> None:
    rows = np.concatenate([run.problem.parts.test_seen[:2], run.problem.parts.test_unseen[:2]])
    np.save(tmp_path / "rows.npy", np.asarray(run.problem.features[rows]))
    capsys.readouterr()
    assert main(["predict", str(run.folder), "--features", str(tmp_path / "rows.npy"), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["image"] for one in found] == [f"row {k}" for k in range(4)]
    assert all(one["nearest"][0]["class"] in run.problem.class_names for one in found)


def report(run: Run, capsys, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(run.folder), "--out", str(page)]) == 0
    assert run.method in page.read_text()
    assert (run.folder / "report.html").is_file()


def compare(run: Run, capsys, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert main(["train", run.data, *run.words, "--baseline", "none", "--out", str(other), "--json"]) == 0
    found = printed(capsys, "compare", str(run.folder), str(other))
    assert [one["method"] for one in found["runs"]] == [run.method] * 2
    assert found["runs"][0]["metrics"] == found["runs"][1]["metrics"]


def push(run: Run, capsys, tmp_path: Path) -> None:
    assert main(["push", str(run.folder), f"{tmp_path}/pushed"]) == 0
    assert main(["pull", f"{tmp_path}/pushed", "--out", str(tmp_path / "pulled")]) == 0
    features = np.asarray(run.problem.features[run.problem.parts.test_unseen[:3]])
    there, back = Recognizer.from_run(run.folder), Recognizer.from_run(tmp_path / "pulled")
    np.testing.assert_array_equal(there.scores(features), back.scores(features))


def benchmark(run: Run, capsys, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({run.method: dict(BUDGETS[run.method])}))
    words = ["--datasets", run.data, "--methods", run.method, "--seeds", "1", "--config", str(settings)]
    (row,) = printed(capsys, "benchmark", *words, "--out", str(tmp_path / "grid"))["rows"]
    assert row["method"] == run.method
    assert row["metrics"]["t1"]["mean"] == pytest.approx(result_of(run)["metrics"]["t1"]["mean"], abs=0.15)


def tune(run: Run, capsys, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    few = {name: value for name, value in BUDGETS[run.method].items() if not isinstance(value, list)}
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"representation": ["pooled"], run.method: few}))
    words = ["tune", run.data, "--method", run.method, "--config", str(settings), "--trials", "1"]
    code = main([*words, "--out", str(tmp_path / "search")])
    if run.method == "clip":  # it learns nothing, and has nothing to choose
        assert code == 2
        assert "no setting to search for" in capsys.readouterr().err
        return
    assert code == 0, capsys.readouterr().err
    best = yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())
    assert best["method"] == run.method


def reproduce(run: Run, capsys, tmp_path: Path) -> None:
    """Only what is printed for a data set is reproduced: elsewhere the message says so."""
    assert main(["reproduce", run.data, "--method", run.method, "--out", str(tmp_path / "again")]) == 2
    captured = capsys.readouterr()
    assert "publish" in captured.err
    assert not (tmp_path / "again").exists()


def estimate(run: Run, capsys, tmp_path: Path) -> None:
    problem = run.problem
    names = np.array(problem.class_names)
    described = dict(zip(names.tolist(), problem.semantics, strict=True))
    images = problem.parts.trainval
    X, y = np.asarray(problem.features[images]), names[problem.labels[images]]
    kept = X[:, 0] if X.ndim == 3 else X
    model = ZeroShotClassifier(method=run.method, settings=dict(BUDGETS[run.method]), random_state=0)
    model.fit(kept, y, semantics=described)
    model.save(tmp_path / "estimator")
    loaded = ZeroShotClassifier.load(tmp_path / "estimator")
    assert loaded.method == run.method
    np.testing.assert_array_equal(loaded.predict(kept[:20]), model.predict(kept[:20]))
    assert set(model.classes_) == set(names)


VERBS: Mapping[str, Callable[..., None]] = {
    "evaluate": evaluate, "predict": predict, "report": report, "compare": compare, "push": push,
    "benchmark": benchmark, "tune": tune, "reproduce": reproduce, "estimator": estimate,
}  # fmt: skip
"""What every method serves; `train` makes the run that they start from."""


def synthesize(run: Run, place: Path) -> list[str]:
    names = [run.problem.class_names[k] for k in run.problem.unseen_classes[:2]]
    return ["synthesize", str(run.folder), "--classes", *names, "--number", "3", "--out", str(place / "made.npz")]


def add_class(run: Run, place: Path) -> list[str]:
    np.save(place / "described.npy", run.problem.semantics.mean(0))
    return ["add-class", str(run.folder), "--name", "new", "--attributes", str(place / "described.npy")]


def add_photos(run: Run, place: Path) -> list[str]:
    np.save(place / "photos.npy", np.asarray(run.problem.features[run.problem.parts.test_unseen[:3]]))
    return [*add_class(run, place), "--features", str(place / "photos.npy")]


def export(run: Run, place: Path) -> list[str]:
    return ["export", str(run.folder), "--features-only", "--out", str(place / "model.onnx")]


def adapt(run: Run, place: Path) -> list[str]:
    np.save(place / "pool.npy", np.asarray(run.problem.features[run.problem.parts.test_unseen[:200]]))
    return ["adapt", str(run.folder), str(place / "pool.npy")]


CAPABLE: Mapping[str, Callable[[Run, Path], list[str]]] = {
    "generator": synthesize, "extendable": add_class, "few-shot": add_photos, "exportable": export,
    "adaptable": adapt,
}  # fmt: skip
"""By capability, the command that needs it."""


def test_every_method_has_a_budget() -> None:
    assert set(BUDGETS) == set(method_names())


def test_every_capability_has_a_verb() -> None:
    assert set(CAPABLE) == set(CAPABILITIES)


def test_every_verb_that_takes_a_method_or_a_run_is_in_the_matrix() -> None:
    others = {
        "doctor", "extract", "app", "remove-class",  # no method matters to them
        "train", "pull", "synthesize", "add-class", "export", "adapt",  # made above, or by capability
    }  # fmt: skip
    assert {verb for verb in ALL_VERBS if not verb.startswith("data ")} - others == set(VERBS) - {"estimator"}


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("verb", VERBS)
def test_every_method_serves_every_verb(trained, capsys, tmp_path, method, verb) -> None:
    VERBS[verb](trained(method), capsys, tmp_path)


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_verb_serves_or_names_who_does(trained, capsys, tmp_path, method, capability) -> None:
    run = trained(method)
    able = capability in capabilities_of(type(Recognizer.from_run(run.folder, 0).model))
    assert able == (capability in method_info(method).capabilities)
    words = [*CAPABLE[capability](run, tmp_path), *(["--version", "0"] if capability != "exportable" else [])]
    capsys.readouterr()
    code = main(words)
    message = capsys.readouterr().err
    assert code == (0 if able else 2), message
    if not able:
        assert "Traceback" not in message
        for name in methods_with(capability):
            assert name in message
