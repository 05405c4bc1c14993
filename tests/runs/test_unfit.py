"""What cannot be run or continued: one message, and no folder that was not there before."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError, DkgzslError, RunError
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.runs import plan as planning
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.plan import make_plan
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.training import run_plan, train
from worlds import FEW, arrays, world, world_folder

QUICK = ClosedFormSettings(
    components=(20,),
    shrinkage=(0.5,),
    kernel_width=(0.0,),
    feature_kernel_width=(0.0,),
    ridge=(0.1,),
    seen_blend=(0.0,),
    unit_length="on",
    episodes="off",
)


def loaded(monkeypatch: pytest.MonkeyPatch, problem: Problem) -> None:
    """Let every plan load this problem."""
    monkeypatch.setattr(planning, "load_dataset", lambda *_, **__: problem)


def run(out: Path, **settings) -> TrainConfig:
    return TrainConfig(name="world", out=str(out), **{"settings": QUICK, "baseline": "none", **settings})


def few_seen(number: int, images: int = 18) -> Problem:
    """The world with so many seen classes of so many training images."""
    problem = world()
    parts, labels = problem.parts, problem.labels
    kept = [parts.trainval[labels[parts.trainval] == c][:images] for c in range(number)]
    seen = parts.test_seen[labels[parts.test_seen] < number]
    validation = None if number < 2 else np.array([0])
    new = replace(parts, trainval=np.concatenate(kept), test_seen=seen, validation_classes=validation)
    return replace(problem, parts=new)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (few_seen(1), "no validation"),
        (few_seen(2), "needs 2"),
        (few_seen(12, images=1), "held-out images of seen"),
    ],
    ids=["one class", "two classes", "one image a class"],
)
def test_too_little_to_train_or_validate(monkeypatch, tmp_path, problem, expected) -> None:
    loaded(monkeypatch, problem)
    with pytest.raises(DkgzslError, match=expected):
        train(run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_only_fitting_finds_leaves_no_folder(monkeypatch, tmp_path) -> None:
    features, *_ = arrays()
    loaded(monkeypatch, replace(world(), features=features - 5))
    with pytest.raises(DkgzslError, match="square root"):
        train(run(tmp_path / "a", settings=replace(QUICK, square_root="on")))
    loaded(monkeypatch, replace(world(), features=features * np.float32(1e30)))
    with pytest.raises(DkgzslError, match="no solution"):
        train(run(tmp_path / "b", settings=replace(QUICK, square_root="off")))
    assert list(tmp_path.iterdir()) == []


def test_figures_without_test_images_are_null(monkeypatch, tmp_path) -> None:
    problem = world()
    loaded(monkeypatch, replace(problem, parts=replace(problem.parts, test_seen=np.zeros(0, np.int64))))
    trained = train(run(tmp_path / "run"))
    assert trained.result["metrics"]["h"] is None
    assert trained.details["seeds_detail"][0]["spread_over_classes"].keys() == {"t1", "u"}

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads((tmp_path / "run" / "result.json").read_text(), parse_constant=no_constant)


def test_numbers_that_no_computation_takes() -> None:
    with pytest.raises(ConfigError, match="finite"):
        ClosedFormSettings(ridge=(float("inf"),))
    with pytest.raises(ConfigError, match="first_seed"):
        TrainConfig(name="world", first_seed=2**63)
    with pytest.raises(ConfigError, match="at least one"):
        TrainConfig(name="world", representation=())


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("train(TrainConfig(name='numbers', method='dkgzls'))", "did you mean 'dkgzsl'"),
        ("TrainConfig(name='numbers', protocol='orakel')", "did you mean 'oracle'"),
        ("ClosedFormSettings(episodes='of')", "closed-form.episodes"),
    ],
)
def test_python_knows_the_choices_that_the_command_line_has(made, expected) -> None:
    imports = "from dkgzsl.config import TrainConfig; from dkgzsl.runs.training import train; "
    imports += "from dkgzsl.methods.closed_form.settings import ClosedFormSettings"
    code = f"{imports}; {made}"  # in another process: the tests' check of types would refuse it first
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert expected in refused.stderr.split("ConfigError:")[1]


def test_a_device_without_numbers(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    with pytest.raises(ConfigError, match="meta"):
        train(run(tmp_path / "run", device="meta"))


def test_a_project_with_a_config_of_its_own_is_not_overwritten(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    (tmp_path / "config.yaml").write_text("mine: true\n")
    with pytest.raises(RunError, match="no run"):
        train(run(tmp_path, overwrite=True))
    assert (tmp_path / "config.yaml").read_text() == "mine: true\n"


def test_an_older_run_is_kept_until_the_new_one_is_complete(monkeypatch, tmp_path, capsys) -> None:
    out = tmp_path / "run"

    def whole() -> str:
        return (out / "result.json").read_text()

    loaded(monkeypatch, world())
    train(run(out))
    old = whole()

    unsolvable = replace(world(), features=arrays()[0] * np.float32(1e30))
    loaded(monkeypatch, unsolvable)  # found while fitting: what was there is there again
    with pytest.raises(DkgzslError, match="no solution"):
        train(run(out, overwrite=True, settings=replace(QUICK, square_root="off")))
    assert whole() == old
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

    loaded(monkeypatch, world())
    with monkeypatch.context() as patched:  # broken off, twice: the complete one lies beside
        patched.setattr("dkgzsl.runs.seed.run_protocol", _broken_off)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(run(out, overwrite=True))
            assert (tmp_path / ".run.replaced" / "result.json").read_text() == old
    assert not (out / "result.json").exists()
    train(run(out, resume=True))
    assert (out / "result.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_link_to_a_run_stays_one(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    train(run(tmp_path / "data" / "run"))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "data" / "run", target_is_directory=True)
    before = (link / "environment.json").stat().st_mtime_ns
    train(run(link, overwrite=True))
    assert link.is_symlink()
    assert (tmp_path / "data" / "run" / "environment.json").stat().st_mtime_ns > before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["run"]


def test_what_another_run_set_aside_is_left_alone(monkeypatch, tmp_path) -> None:
    out, aside = tmp_path / "run", tmp_path / ".run.replaced"
    loaded(monkeypatch, world())
    train(run(out))
    with monkeypatch.context() as patched:
        patched.setattr("dkgzsl.runs.seed.run_protocol", _broken_off)
        with pytest.raises(KeyboardInterrupt):
            train(run(out, overwrite=True))
    shutil.rmtree(out)  # the broken one is taken away by hand: the older one comes back, as after a kill
    with pytest.raises(RunError, match="exists already"):
        train(run(out))
    assert (out / "result.json").is_file()
    shutil.copytree(out, aside)  # whose it is, nothing says
    with pytest.raises(RunError, match="lies here still"):
        train(run(out, overwrite=True))
    assert (out / "result.json").is_file()
    assert (aside / "result.json").is_file()


def test_who_fails_late_is_told_where_the_older_run_lies(monkeypatch, tmp_path, capfd) -> None:
    out = tmp_path / "run"
    loaded(monkeypatch, world())
    train(run(out))

    def crashed(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("dkgzsl.runs.seed.run_protocol", crashed)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_plan(make_plan(run(out, overwrite=True)), reporter=Reporter())
    assert str(tmp_path / ".run.replaced") in capfd.readouterr().err
    monkeypatch.setattr(RunFolder, "begin", crashed)  # cannot even begin: all is as it was
    shutil.rmtree(out)
    (tmp_path / ".run.replaced").rename(out)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(run(out, overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (out / "result.json").is_file()


def _broken_off(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_folder_that_one_works_in_is_not_replaced(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    train(run(tmp_path / "run"))
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(RunError, match="started in"):
        train(run(Path(), overwrite=True))
    assert (tmp_path / "run" / "result.json").is_file()


def test_other_data_and_damaged_files_are_not_continued(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    train(run(tmp_path / "run"))
    problem = world()
    parts = replace(problem.parts, trainval=problem.parts.trainval[1:])
    loaded(monkeypatch, replace(problem, parts=parts))
    with pytest.raises(RunError, match="another split"):
        train(run(tmp_path / "run", resume=True))
    loaded(monkeypatch, world())
    (tmp_path / "run" / "config.yaml").write_text("[")
    with pytest.raises(RunError, match="damaged"):
        train(run(tmp_path / "run", resume=True))


def test_a_full_disk_is_a_message(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        train(run(tmp_path / "run"))


def test_ctrl_c_says_how_to_go_on(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    data = str(world_folder(tmp_path / "world"))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_seed", interrupt)
        assert main(["train", data, "--closed-form.components", "20", "--closed-form.episodes", "off"]) == 130
    (folder,) = Path("runs").iterdir()
    assert f"dkgzsl train --resume --out {folder}\n" in capsys.readouterr().err


def test_a_known_name_is_recorded_as_a_name(monkeypatch, tmp_path) -> None:
    """A folder of the same name in the working directory is not what was read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numbers").mkdir()
    assert planning.make_plan(TrainConfig(name="numbers")).config.name == "numbers"


def test_the_evaluation_of_the_softmax_counts(monkeypatch, tmp_path) -> None:
    loaded(monkeypatch, world())
    trained = train(run(tmp_path / "run", settings=replace(FEW, episodes="off", classifier="softmax")))
    (seed,) = trained.details["seeds_detail"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert seed["evaluations"] == sum(line["event"] == "evaluation" for line in lines)
    assert (
        sum(line["setting"].get("classifier") == "softmax" for line in lines if line["event"] == "evaluation") == 1
    )
