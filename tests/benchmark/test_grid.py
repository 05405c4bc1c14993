"""Benchmark grids: which cells, each kept, the table's arithmetic."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from dkgzsl.benchmark.cells import Cell, epochs_of, read_cell, write_cell
from dkgzsl.benchmark.grid import cells_of, run_cells
from dkgzsl.benchmark.run import benchmark
from dkgzsl.benchmark.table import as_csv, as_markdown, rows_of
from dkgzsl.cli.main import main
from dkgzsl.compatibility import FORMAT
from dkgzsl.config import BenchmarkConfig, RefinementConfig
from dkgzsl.data.load import load_dataset
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.dkgzsl.training import AdversarialTraining
from dkgzsl.methods.peers.wasserstein import WassersteinTraining
from dkgzsl.methods.registry import BUILT_IN, make_method, method_info
from dkgzsl.methods.shared import training
from worlds import described_by_means, world_folder

OLD = Path(__file__).parents[1] / "fixtures" / "format1" / "benchmark"
ITERATIVE = [name for name in BUILT_IN if method_info(name).iterative]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkConfig:
    """Four cells on a small world in files."""
    data = str(world_folder(tmp_path_factory.mktemp("data") / "world"))
    return BenchmarkConfig((data,), ("sae", "gfzsl"), seeds=2)


def fake(cell: Cell, h: float, draws: np.ndarray) -> dict:
    figures = {"t1": 0.5, "u": h, "s": h, "h": h, "h_calibrated": h, "ausuc": h}
    figures |= {"u_calibrated": h, "s_calibrated": h}
    return {
        "figures": figures,
        "title": cell.method.upper(),
        "paper": "",
        "balance": "none",
        "chosen_by": "AUSUC on validation images",
        "epoch": None,
        "epochs_trained": None,
        "schedule": None,
        "name": "made up",
        "backbone": None,
        "split_sha256": "0",
        "seconds": 2.0,
        "draws": {"h": draws, "h_calibrated": draws, "ausuc": draws},
    }


def cell(method: str, seed: int) -> Cell:
    return Cell("d", None, "att", "pooled", method, seed, "validated", None, RefinementConfig())


def test_a_cell_has_the_figures_that_the_protocol_gives(quick, tmp_path) -> None:
    found = benchmark(replace(quick, methods=("sae",), seeds=1, out=str(tmp_path)))
    figures = validated(
        make_method("sae"), load_dataset(quick.datasets[0], test_seed=0), seed=0, raw_share=0.0
    ).figures
    metrics = found.rows[0]["metrics"]
    assert metrics["h"]["mean"] == pytest.approx(figures.h)
    assert metrics["h_calibrated"]["mean"] == pytest.approx(figures.h_calibrated)
    assert metrics["ausuc"]["mean"] == pytest.approx(figures.ausuc)


def test_what_is_done_is_not_done_again_and_a_failure_is_tried_again(quick, tmp_path) -> None:
    config = replace(quick, out=str(tmp_path))
    cells = cells_of(config)
    done: list[Cell] = []
    benchmark(config, on_cell=lambda one, _: done.append(one))
    assert done == cells
    lost = cells[1]
    write_cell(tmp_path / "cells", lost, {"error": "it was interrupted"})
    done.clear()
    found = benchmark(config, on_cell=lambda one, _: done.append(one))
    assert done == [lost]
    assert not found.failed
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["rows"] == json.loads(json.dumps(found.rows))


def test_two_processes_give_what_one_gives(quick, tmp_path) -> None:
    alone = benchmark(replace(quick, out=str(tmp_path / "1")))
    together = benchmark(replace(quick, jobs=2, out=str(tmp_path / "2")))
    for one, other in zip(alone.rows, together.rows, strict=True):
        assert one["method"] == other["method"]
        for name, value in one["metrics"].items():
            assert value["mean"] == pytest.approx(other["metrics"][name]["mean"], abs=2e-3)


def test_a_method_that_fails_leaves_the_others_standing(quick, tmp_path, monkeypatch) -> None:
    import dkgzsl.benchmark.cells as module

    real = module.make_method

    def make(name, *how):
        if name == "gfzsl":
            raise ConfigError("not today")
        return real(name, *how)

    monkeypatch.setattr(module, "make_method", make)
    found = benchmark(replace(quick, seeds=1, out=str(tmp_path)))
    assert [row["method"] for row in found.rows] == ["sae"]
    assert found.failed[0]["method"] == "gfzsl"
    assert "not today" in found.failed[0]["error"]
    assert "not today" in (tmp_path / "table.md").read_text()


def test_methods_of_every_kind_write_cells_with_their_format(tmp_path, monkeypatch, capsys) -> None:
    """On a problem that CLIP can do, too; every training ends with its first epoch."""
    monkeypatch.setattr("dkgzsl.benchmark.grid.load_dataset", lambda *_, **__: described_by_means())
    words = ["benchmark", "--seeds", "1", "--minutes", "1e-9", "--out", str(tmp_path), "--json"]
    small = ["--dkgzsl.hidden-size", "16", "--f-clswgan.hidden-size", "16", "--f-vaegan-d2.hidden-size", "16"]
    assert main([*words, "--methods", *BUILT_IN, *small]) == 0
    table = json.loads(capsys.readouterr().out)
    assert not table["failed"]
    assert {row["method"] for row in table["rows"]} == set(BUILT_IN)
    assert {row["minutes"] for row in table["rows"] if row["method"] in ITERATIVE} == {1e-9}
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "cells").glob("*.json")}
    assert sorted(one["cell"]["method"] for one in records.values()) == sorted(BUILT_IN)
    assert all(one["format"] == FORMAT for one in records.values())
    assert all(one["setting"].get("epochs", 1) == 1 for one in records.values())
    assert {one["cell"]["settings"]["hidden_size"] for one in records.values() if one["cell"]["settings"]} == {16}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["f_clswgan"]["hidden_size"] == 16
    softmax = ["--closed-form.classifier", "softmax", "--closed-form.softmax.epochs", "2"]
    assert main([*words, "--methods", "closed-form", *softmax]) == 0  # other settings, another cell
    [added] = [path for path in (tmp_path / "cells").glob("*.json") if path.name not in records]
    assert json.loads(added.read_text())["cell"]["settings"]["classifier"] == "softmax"


def test_cells_of_another_format_have_another_name(monkeypatch) -> None:
    one = cell("eszsl", 0)
    today = one.slug
    monkeypatch.setattr("dkgzsl.benchmark.cells.FORMAT", FORMAT + 1)
    assert one.slug != today


def test_cells_of_format_one_are_not_read(tmp_path) -> None:
    shutil.copytree(OLD / "cells", tmp_path / "b" / "cells")
    before = {path.name: path.read_bytes() for path in (tmp_path / "b" / "cells").iterdir()}
    data = str(world_folder(tmp_path / "world"))
    config = BenchmarkConfig((data,), ("eszsl",), seeds=1, out=str(tmp_path / "b"))
    with pytest.raises(RunError, match="something else"):  # cells whose settings are lost
        benchmark(config)
    (tmp_path / "b" / "config.yaml").write_text("format: 2\n")
    done: list[Cell] = []
    found = benchmark(config, on_cell=lambda one, _: done.append(one))
    assert [one.method for one in done] == [row["method"] for row in found.rows] == ["eszsl"]
    after = {path.name: path.read_bytes() for path in (tmp_path / "b" / "cells").iterdir()}
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2


def test_settings_of_format_one_are_read_as_they_were_or_refused(tmp_path, capsys) -> None:
    """The name dkgzsl means another method now."""
    file = tmp_path / "old.yaml"
    words = ["benchmark", "--config", str(file), "--datasets", "numbers", "--dry-run"]
    shutil.copy(OLD / "config.yaml", file)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "dkgzsl 0.1 (format 1)" in said
    assert str(file) in said
    for text, methods in (
        (file.read_text().replace("validated", "paper"), ["closed-form", "eszsl"]),
        ("methods: [dkgzsl, paper, f-vaegan]\nseeds: 1\n", ["closed-form", "dkgzsl", "f-vaegan-d2"]),
        ("methods: paper\nseeds: 1\n", ["dkgzsl"]),
        ("methods: [dkgzsl, eszsl]\nseeds: 1\nformat: 2\n", ["dkgzsl", "eszsl"]),
        ("methods: [closed-form, dkgzsl]\nseeds: 1\n", ["closed-form", "dkgzsl"]),
    ):
        file.write_text(text)
        assert main(words) == 0
        *cells, last = capsys.readouterr().out.splitlines()
        assert [line.split()[3] for line in cells] == methods
        assert f"{len(methods)} cell{'s' if len(methods) > 1 else ''};" in last


def test_nothing_but_failures_is_an_error(tmp_path, capsys) -> None:
    """CLIP takes no strokes; it runs only where it is named."""
    words = ["benchmark", "--datasets", "numbers", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*words, "--methods", "clip"]) == 2
    said = capsys.readouterr().err
    assert "one CLIP model" in said
    assert "every cell failed" in said
    assert main([*words, "--dry-run"]) == 0
    assert "clip" not in capsys.readouterr().out


def test_rows_average_over_seeds_and_pair_draws_with_the_best_peer() -> None:
    rng = np.random.default_rng(0)
    draws = {(m, s): rng.random(50) for m in ("closed-form", "a", "b") for s in (0, 1)}
    levels = {"closed-form": (0.8, 0.6), "a": (0.5, 0.5), "b": (0.55, 0.65)}
    cells = [cell(method, seed) for method, seed in draws]
    records = [fake(cell(*key), levels[key[0]][key[1]], draws[key]) for key in draws]
    rows, failed = rows_of(cells, records)
    assert not failed
    assert [row["method"] for row in rows] == ["closed-form", "b", "a"]
    ours = rows[0]
    assert ours["metrics"]["h"] == {"mean": pytest.approx(0.7), "std": pytest.approx(np.std([0.8, 0.6], ddof=1))}
    assert ours["compared_with"] == "b"
    assert ours["lead"]["h"]["mean"] == pytest.approx(0.1)
    paired = np.mean([draws["closed-form", seed] - draws["b", seed] for seed in (0, 1)], axis=0)
    assert ours["lead"]["h"]["low"] == pytest.approx(np.quantile(paired, 0.025))
    assert ours["lead"]["h"]["high"] == pytest.approx(np.quantile(paired, 0.975))
    assert rows[2]["compared_with"] == "closed-form"
    assert rows[2]["lead"]["ausuc"]["mean"] == pytest.approx(-0.2)
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert float(lines[0]["h_mean"]) == pytest.approx(0.7)
    markdown = as_markdown(rows, [])
    assert "| CLOSED-FORM | 50.0 ± 0.0 | 70.0 ± 14.1 |" in markdown
    assert "+10.0 [" in markdown


def test_the_table_says_who_balances_and_whose_budget_ended_early() -> None:
    cells = [cell(method, seed) for method in ("closed-form", "class-norm", "ale", "sae") for seed in (0, 1)]
    cells = [replace(one, minutes=2.0, clock="processor") if one.method == "class-norm" else one for one in cells]
    came = {
        "closed-form": {"balance": "solved"},
        "class-norm": {"epoch": 16, "epochs_trained": 24, "schedule": 50},
        "ale": {"epoch": 8, "epochs_trained": 32, "schedule": 32},
        "sae": {},
    }
    records = [fake(one, 0.5, np.zeros(3)) | came[one.method] for one in cells]
    records[3]["epoch"] = 12
    rows, _ = rows_of(cells, records)
    found = {row["method"]: row for row in rows}
    assert {name: row["balance"] for name, row in found.items()} == {
        "closed-form": "solved",
        "class-norm": "none",
        "ale": "none",
        "sae": "none",
    }
    assert found["class-norm"]["epoch"] == [16, 12]
    assert found["class-norm"]["epochs_trained"] == [24, 24]
    assert found["class-norm"]["schedule"] == 50
    assert found["sae"]["epoch"] is found["sae"]["epochs_trained"] is found["sae"]["schedule"] is None
    text = as_markdown(rows, [])
    assert "| none | 12–16/24/50 | 2 |" in text
    assert "| solved | – | 2 |" in text
    assert "Raw U, S and H of such a row are not comparable" in text
    assert "minutes of processor time" in text
    assert "**CLASS-NORM: the budget ended after epoch 24, before the method's own schedule of 50 epochs" in text
    assert "**ALE" not in text
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(as_csv(rows)))}
    assert lines["class-norm"]["epoch"] == "16 12"
    assert lines["class-norm"]["clock"] == "processor"
    assert (lines["closed-form"]["balance"], lines["sae"]["balance"]) == ("solved", "none")
    assert lines["sae"]["epochs_trained"] == ""
    alone, _ = rows_of(cells[:2], records[:2])
    assert "Balance" not in as_markdown(alone, [])


@pytest.mark.parametrize("name", BUILT_IN)
def test_only_the_default_balances_by_itself(name: str) -> None:
    info = method_info(name)
    assert (info.balance is not None) == (name == "closed-form")
    if info.balance is not None:
        assert info.balance({"balance": True})
        assert not info.balance({"balance": False})
        assert not info.balance({"balance": True, "classifier": "softmax"})


def test_seeds_of_iterative_methods_and_their_minutes_are_their_own() -> None:
    config = BenchmarkConfig(methods=("sae", "class-norm"), seeds=3, iterative_seeds=1, minutes=2.5)
    cells = cells_of(config)
    assert [one.seed for one in cells if one.method == "sae"] == [0, 1, 2]
    assert [(one.seed, one.minutes) for one in cells if one.method == "class-norm"] == [(0, 2.5)]
    assert len({one.slug for one in cells}) == len(cells)


def test_a_budget_of_epochs_is_for_methods_that_train_by_epochs() -> None:
    given = {"class-norm": {"epochs": 40, "hidden_size": 8}}
    config = BenchmarkConfig(
        methods=("sae", "class-norm", "dkgzsl"), seeds=1, minutes=None, epochs=7, settings=given
    )
    sae, norm, published = cells_of(config)
    assert (sae.settings, sae.minutes, sae.clock) == (None, None, None)
    assert (norm.settings.epochs, norm.settings.hidden_size, norm.clock) == (7, 8, None)
    assert published.settings.epochs == 7
    assert cells_of(replace(config, minutes=1.0))[1].clock == "processor"
    with pytest.raises(ConfigError, match="epochs"):
        replace(config, epochs=0)


def test_how_far_a_training_came_is_that_of_the_chosen_option() -> None:
    one = replace(cell("class-norm", 0), dataset="CUB")
    shown = [{"scaling": "none", "epochs": e, "factor": f} for e in (2, 3, 4) for f in (1.0, 0.95)]
    shown += [{"scaling": "min-max", "epochs": e, "factor": 1.0} for e in (2, 3, 4, 6)]
    assert epochs_of(one, shown[2], shown) == {"epoch": 3, "epochs_trained": 4, "schedule": 50}
    short = replace(one, settings=method_info("class-norm").settings(epochs=6))
    assert epochs_of(short, shown[-1], shown) == {"epoch": 6, "epochs_trained": 6, "schedule": 50}


@pytest.mark.parametrize("name", ["f-vaegan-d2", "dkgzsl"])
@pytest.mark.parametrize(("stop_after", "protocol"), [(3, "validated"), (7, "validated"), (3, "oracle")])
def test_an_interrupted_cell_goes_on_to_the_same_record(tmp_path, monkeypatch, name, stop_after, protocol) -> None:
    """Ctrl-C in the exploration and, where there is one, in the final fit; each epoch is trained once."""
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr("dkgzsl.benchmark.grid.load_dataset", lambda *_, **__: described_by_means())
    small = {"hidden_size": 16, "precision": "float32"}
    config = BenchmarkConfig(
        methods=(name,), seeds=1, minutes=None, epochs=6, protocol=protocol, settings={name: small}
    )
    kind = AdversarialTraining if name == "dkgzsl" else WassersteinTraining
    real, trained = kind.train_epoch, []

    def train_epoch(self):
        if len(trained) == stop_after:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(self.epoch + 1)
        return real(self)

    whole = benchmark(replace(config, out=str(tmp_path / "whole"))).rows
    monkeypatch.setattr(kind, "train_epoch", train_epoch)
    broken = replace(config, out=str(tmp_path / "broken"))
    with pytest.raises(KeyboardInterrupt):
        benchmark(broken)
    assert (tmp_path / "broken" / "cells" / "checkpoints").is_dir()
    assert not (tmp_path / "broken" / "table.md").exists()
    rows = benchmark(broken).rows
    assert not (tmp_path / "broken" / "cells" / "checkpoints").exists()
    fitted = rows[0]["epoch"][0] if protocol == "validated" else 0
    epochs = [one for one in trained if one != "interrupted"]
    assert sorted(epochs) == sorted([*range(1, 7), *range(1, fitted + 1)])
    for row in (*rows, *whole):
        del row["seconds"]
    assert rows == whole
    records = [json.loads(next((tmp_path / n / "cells").glob("*.json")).read_text()) for n in ("whole", "broken")]
    assert records[0]["setting"] == records[1]["setting"]
    assert records[0]["figures"] == records[1]["figures"]
    assert records[0]["evaluations"] == records[1]["evaluations"]


def test_data_sets_take_the_semantics_that_they_have() -> None:
    cells = cells_of(BenchmarkConfig(methods=("sae",), seeds=1, semantics=("names", "strokes")))
    assert [one.semantics for one in cells] == ["names", "strokes"]
    with pytest.raises(ConfigError, match="semantics 'stroke'"):
        cells_of(BenchmarkConfig(methods=("sae",), semantics=("strokes", "stroke")))
    with pytest.raises(ConfigError, match="unknown method 'szs'"):
        cells_of(BenchmarkConfig(methods=("szs",)))
    with pytest.raises(ConfigError, match="no regions"):
        cells_of(BenchmarkConfig(methods=("sae",), representations=("scores",)))


def test_region_features_are_named_behind_the_data_set(tmp_path) -> None:
    config = BenchmarkConfig(
        datasets=("numbers@regions",),
        methods=("sae",),
        representations=("pooled", "pooled+maximum"),
        seeds=1,
        out=str(tmp_path),
    )
    found = benchmark(config)
    assert [row["representation"] for row in found.rows] == ["pooled", "pooled+maximum"]
    assert all(row["features"] == "regions" for row in found.rows)


def test_a_damaged_cell_is_named(quick, tmp_path) -> None:
    one = cells_of(replace(quick, seeds=1))[0]
    write_cell(tmp_path, one, fake(one, 0.5, np.zeros(3)))
    (tmp_path / f"{one.slug}.npz").write_bytes(b"no archive")
    with pytest.raises(RunError, match="damaged"):
        read_cell(tmp_path, one)
    with pytest.raises(RunError, match="damaged"):
        run_cells(quick, [one], tmp_path, lambda *_: None)


def test_a_folder_of_something_else_is_left_alone(quick, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="something else"):
        benchmark(replace(quick, out=str(tmp_path)))


def test_command_line(tmp_path, capsys) -> None:
    words = ["benchmark", "--datasets", "numbers", "--methods", "sae", "gfzsl", "--seeds", "1"]
    assert main([*words, "--json", "--out", str(tmp_path / "b")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in printed["rows"]} == {"sae", "gfzsl"}
    assert 0.5 < printed["rows"][0]["metrics"]["h"]["mean"] <= 1
    assert main([*words, "--dry-run"]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    assert "GFZSL" in capsys.readouterr().out
    assert main(["benchmark", "--methods", "nothing"]) == 2
