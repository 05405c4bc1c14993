"""What is taken for damage, and what is not: bugs of this package stay visible where checksums are right."""

import json
import shutil

import numpy as np
import pytest

from dkgzsl import TrainConfig, train
from dkgzsl.checksums import Checksums
from dkgzsl.cli.main import main
from dkgzsl.data.fetching.download import Partial, State
from dkgzsl.data.fetching.fetch import Origin, read_origins
from dkgzsl.data.formats.problem_record import origin_schema
from dkgzsl.errors import DataError, RunError
from dkgzsl.estimator.estimator import ZeroShotClassifier
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.reading import check_schema
from dkgzsl.runs.evaluation import evaluate
from dkgzsl.runs.pages import compare_runs, write_report
from dkgzsl.runs.versions import history_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "run"
    train(TrainConfig(dataset="numbers", out=str(path), method="eszsl", seeds=1, report="off"))
    return path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def _bug(*_, **__):
    raise KeyError("a bug of ours")


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("verb", ["page", "comparison", "evaluation", "recognizer"])
def test_a_bug_is_no_damage_where_checksums_are_right(run, tmp_path, monkeypatch, verb, sealed) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    if not sealed:
        for path in (run, other):
            (path / "checksums.json").unlink()
    place, name, work = {
        "page": ("dkgzsl.report.pages.run", "render_run", lambda: write_report(run)),
        "comparison": ("dkgzsl.report.pages.compare", "compare", lambda: compare_runs([run, other])),
        "evaluation": ("dkgzsl.runs.evaluation", "_scored_again", lambda: evaluate(run)),
        "recognizer": ("dkgzsl.inference.recognizer", "check_whole", lambda: Recognizer.from_run(run)),
    }[verb]
    monkeypatch.setattr(f"{place}.{name}", _bug)
    with pytest.raises(KeyError if sealed else RunError, match="a bug of ours"):
        work()


def test_other_sizes_are_said_before_anything_is_scored(run, capsys) -> None:
    file = run / "recognizer.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "features": [7]}))
    Checksums.of(run).write(run)
    assert main(["evaluate", str(run)]) == 2
    assert "the run was trained on [7]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("checksums.json", {"format": "dkgzsl checksums 1", "finished": True, "files": "x", "sha256": "0"}),
        ("checksums.json", {"format": "dkgzsl checksums 1", "finished": 1, "files": {}, "sha256": "0"}),
        ("checksums.json", [1]),
    ],
)
def test_a_list_of_checksums_of_another_form_is_damage(run, name, content) -> None:
    (run / name).write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"checksums\.json is damaged itself"):
        Recognizer.from_run(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ece", "x"), ("ece", 2), ("kept_seen", "99"), ("confidence", "x"), ("accuracy", {}), ("keptseen", None)],
)
def test_reliability_of_another_form_is_damage(run, key, value) -> None:
    (run / "checksums.json").unlink()
    (run / "result.json").unlink()
    file = run / "seeds/0.json"
    record = json.loads(file.read_text())
    record["reliability"][key] = value
    file.write_text(json.dumps(record))
    with pytest.raises(RunError, match=rf"0\.json is damaged: reliability\.{key}"):
        train(TrainConfig(dataset="numbers", out=str(run), method="eszsl", seeds=1, report="off", resume=True))


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("environment.json", "commit", 5),
        ("environment.json", "device", None),
        ("environment.json", "data", {"store": {"weights": "x"}}),
        ("environment.json", "data", {"files": ["x"]}),
        ("environment.json", "places", {"name": 1}),
        ("seeds/0.json", "test_evaluations", "1"),
        ("seeds/0.json", "spread_over_classes", {"h": "1"}),
        ("seeds/0.json", "cuts", "1"),
    ],
)
def test_what_the_card_reads_is_checked_first(run, file, key, value) -> None:
    (run / "checksums.json").unlink()
    (run / "result.json").unlink()
    record = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**record, key: value}))
    with pytest.raises(RunError, match=rf"{file} is damaged: {key}"):
        train(TrainConfig(dataset="numbers", out=str(run), method="eszsl", seeds=1, report="off", resume=True))


@pytest.mark.parametrize(
    "change", [{"version": "1"}, {"parent": -1}, {"photos": []}, {"classes": "late"}, {"made": 5}]
)
def test_history_of_another_form_is_damage(tmp_path, change) -> None:
    whole = {
        "version": 1,
        "parent": 0,
        "made": "now",
        "action": "add-class",
        "classes": ["late"],
        "photos": {"late": 2},
    }
    (tmp_path / "history.json").write_text(json.dumps(whole))
    assert history_of(tmp_path) == whole
    (tmp_path / "history.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(RunError, match=f"history.json is damaged: {next(iter(change))}"):
        history_of(tmp_path)


@pytest.mark.parametrize("change", [{"encoder": 1}, {"texts": ["a"]}, {"texts": {"a": None}}, {"library": {}}])
def test_the_origin_of_a_table_of_another_form_is_damage(tmp_path, change) -> None:
    whole = {"encoder": "e", "library": None, "texts": {"a": "a bird"}, "more": 1}
    check_schema(whole, origin_schema(), "damaged", tmp_path)
    with pytest.raises(DataError, match=f"damaged: {next(iter(change))}"):
        check_schema({**whole, **change}, origin_schema(), "damaged", tmp_path)


@pytest.mark.parametrize("method", ["[closed-form]", "{a: 1}", "5", "[]"])
def test_a_method_that_is_no_name_is_our_error(tmp_path, capsys, method) -> None:
    (tmp_path / "x.yaml").write_text(f"method: {method}\ndataset: numbers\n")
    assert main(["train", "--config", str(tmp_path / "x.yaml"), "--dry-run"]) == 2
    assert "method must be the name of one method, not" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*too few to validate")
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("recognizer.json", lambda it: it | {"features": []}, "no size of the features"),
        ("estimator.json", lambda it: it | {"params": it["params"] | {"eqochs": 1}}, "no parameter 'eqochs'"),
    ],
)
def test_an_estimator_of_another_form_is_damage(tmp_path, name, change, said) -> None:
    rng, names = np.random.default_rng(0), ["a", "b", "c", "d"]
    labels = np.repeat(names[:3], 10)
    fitted = ZeroShotClassifier(method="eszsl", calibrate=False).fit(
        rng.normal(size=(30, 5)).astype(np.float32),
        labels,
        semantics=dict(zip(names, rng.random((4, 3)), strict=True)),
    )
    fitted.save(tmp_path / "e")
    (tmp_path / "e" / "checksums.json").unlink()
    file = tmp_path / "e" / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(RunError, match=said):
        ZeroShotClassifier.load(tmp_path / "e")


ORIGIN = {
    "url": "u", "sha256": "0" * 64, "checked": "known", "size": 1, "etag": None, "date": "d", "terms": "t",
}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{}, {"sha256": "x"}, {"size": "1"}, {"checked": "x"}, {"more": 1}, {"url": None}]
)
def test_what_was_fetched_is_known_where_the_record_is_whole(tmp_path, change) -> None:
    (tmp_path / "fetched.json").write_text(json.dumps({"data": {**ORIGIN, **change}}))
    assert read_origins(tmp_path) == ({} if change else {"data": Origin(**ORIGIN)})


@pytest.mark.parametrize("change", [{}, {"etag": 1}, {"total": "1"}, {"url": None}, {"more": 1}])
def test_what_was_begun_is_known_where_the_notes_are_whole(tmp_path, change) -> None:
    (tmp_path / "x.part").write_bytes(b"123")
    notes = {"url": "u", "etag": '"e"', "modified": None, "total": 5, **change}
    (tmp_path / "x.part.json").write_text(json.dumps(notes))
    assert Partial(tmp_path / "x").state("u") == (None if change else State("u", '"e"', None, 5))
