"""Published figures beside measured ones."""

import json
from dataclasses import replace

import pytest
import yaml

from dkgzsl.benchmark import reproduce as module
from dkgzsl.benchmark.reproduce import published_of, reproduce
from dkgzsl.cli.main import main
from dkgzsl.config import ReproduceConfig
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.methods.dkgzsl.settings import preset_of
from worlds import world, world_folder


def test_all_twelve_cells_of_the_methods_table_and_its_u_and_s() -> None:
    figures = {
        (line.dataset, line.backbone): [line.figures[k] for k in ("t1", "u", "s", "h")]
        for name in ("AWA2", "CUB", "SUN")
        for line in published_of(name)[0]
    }
    assert figures == {
        ("AWA2", "resnet101"): [0.792, 0.675, 0.792, 0.729],
        ("AWA2", "vit-b/16"): [0.837, 0.798, 0.83, 0.814],
        ("CUB", "resnet101"): [0.852, 0.802, 0.713, 0.754],
        ("CUB", "vit-b/16"): [0.872, 0.79, 0.735, 0.762],
        ("SUN", "resnet101"): [0.677, 0.482, 0.409, 0.443],
        ("SUN", "vit-b/16"): [0.731, 0.576, 0.456, 0.51],
    }


def test_unknown_names_and_backbones_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="eszl"):
        published_of("eszl")
    with pytest.raises(ConfigError, match="vgg"):
        published_of("CUB", backbone="vgg")
    assert [line.backbone for line in published_of("cub", backbone="resnet101")[0]] == ["resnet101"]


def test_both_protocols_are_run_where_the_data_is_and_the_rest_says_why(monkeypatch, tmp_path) -> None:
    asked = []

    def own(config, line, protocol, folder):
        if line.backbone == "vit-b/16":
            raise DataError("CUB lacks vit_b16.mat")
        asked.append((line.backbone, protocol))
        return {key: {"mean": 0.5, "std": 0.0} for key in ("t1", "u", "s", "h")}

    monkeypatch.setattr(module, "_own", own)
    found = reproduce(ReproduceConfig("CUB", out=str(tmp_path)), log=lambda _: None)
    assert asked == [("resnet101", "validated"), ("resnet101", "oracle")]
    reasons = {line.backbone: why for line, _, why in found.lines}
    assert reasons["resnet101"] is None
    assert "vit_b16" in reasons["vit-b/16"]


def test_the_published_method_is_trained_with_its_preset_and_continued(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("dkgzsl.runs.plan.load_dataset", lambda *_, **__: world())
    config = ReproduceConfig("CUB", backbone="vit-b/16", epochs=1, out=str(tmp_path))
    found = reproduce(config, log=lambda _: None)
    [(line, measured, why)] = found.lines
    assert (line.method, why) == ("dkgzsl", None)
    assert set(measured) == {"validated", "oracle"}
    for protocol in measured:
        run = tmp_path / f"CUB-vit-b16-{protocol}"
        result = json.loads((run / "result.json").read_text())
        assert (result["method"], result["protocol"]) == ("dkgzsl", protocol)
        assert result["metrics"] == measured[protocol]
        settings = yaml.safe_load((run / "config.yaml").read_text())["dkgzsl"]
        assert settings["epochs"] == 1
        assert settings["hidden_size"] == preset_of("CUB").generator.hidden_size
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")}
    assert reproduce(config, log=lambda _: None).lines == found.lines
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_peer_is_run_as_the_registry_has_it(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("dkgzsl.benchmark.grid.load_dataset", lambda *_, **__: world())
    words = ["reproduce", "CUB", "--method", "eszsl", "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["method"] for row in rows} == {"eszsl"}
    for row in rows:
        for protocol in ("validated", "oracle"):
            table = json.loads((tmp_path / f"CUB-resnet101-att-{protocol}" / "table.json").read_text())
            assert [one["method"] for one in table["rows"]] == ["eszsl"]
            assert row["measured"][protocol] == table["rows"][0]["metrics"]
            assert table["rows"][0]["protocol"] == protocol


def test_a_peer_has_its_published_constants_the_asked_epochs_and_the_lines_features(monkeypatch, tmp_path) -> None:
    asked = []

    def stopped(config):
        asked.append(config)
        raise DataError("seen enough")

    monkeypatch.setattr(module, "benchmark", stopped)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, method in (("CUB", "class-norm"), ("SUN", "class-norm"), ("CUB", "f-clswgan")):
        config = ReproduceConfig(name, method=method, epochs=2, out=str(tmp_path))
        with pytest.raises(DataError, match="seen enough"):
            reproduce(config, log=lambda _: None)
    cub, sun, other = asked
    assert [one.settings["class-norm"].factors for one in (cub, sun)] == [(1.0,), (0.95,)]
    assert cub.settings["class-norm"].epochs == 2
    assert (other.settings["f-clswgan"].hidden_size, other.settings["f-clswgan"].learning_rate) == (4096, 1e-4)
    assert cub.datasets == ("CUB@res101",)
    assert cub.device == "cuda", "as the help says: CUDA where there is one"
    with pytest.raises(DataError):
        reproduce(ReproduceConfig("CUB", method="ale", device="cpu", out=str(tmp_path)), log=lambda _: None)
    assert asked[-1].device == "cpu"


def test_a_few_epochs_of_a_peer_are_few(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr("dkgzsl.benchmark.grid.load_dataset", lambda *_, **__: world())
    words = ["reproduce", "CUB", "--method", "class-norm", "--epochs", "1", "--out", str(tmp_path)]
    assert main([*words, "--device", "cpu"]) == 0
    assert "here, validated, epochs: 1" in capsys.readouterr().out
    cells = [json.loads(file.read_text()) for file in tmp_path.glob("*/cells/*.json")]
    assert len(cells) == 2
    assert all(cell["cell"]["settings"]["epochs"] == 1 for cell in cells)
    assert {cell["setting"]["epochs"] for cell in cells} == {1}


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_epochs_and_minutes_are_refused_where_they_mean_nothing(capsys, more) -> None:
    for method, flags in (
        ("eszsl", ["--epochs", "3"]),
        ("sae", ["--minutes", "1"]),
        ("dkgzsl", ["--minutes", "1"]),
    ):
        assert main(["reproduce", "CUB", "--method", method, *flags, *more]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"{flags[0]} has no meaning for" in said.err


def test_lines_on_the_standard_split_or_of_features_that_are_not_here_are_not_run(monkeypatch, tmp_path) -> None:
    ran = []

    def peer(config, line, protocol, folder):
        ran.append((line.backbone, line.split))
        return {key: {"mean": 0.5, "std": 0.0} for key in ("t1", "u", "s", "h")}

    monkeypatch.setattr(module, "_peer", peer)
    found = reproduce(ReproduceConfig("CUB", method="sae", out=str(tmp_path)), log=lambda _: None)
    assert set(ran) == {("resnet101", "proposed")}
    reasons = {line.backbone: why for line, _, why in found.lines}
    assert reasons["resnet101"] is None
    assert "standard split" in reasons["googlenet"]


def test_a_line_of_another_backbone_does_not_get_the_default_features(tmp_path) -> None:
    world_folder(tmp_path / "CUB")
    [line], _ = published_of("CUB", method="eszsl")
    config = ReproduceConfig("CUB", data_root=str(tmp_path), device="cpu")
    with pytest.raises(DataError, match="googlenet"):
        module._peer(config, replace(line, backbone="googlenet"), "validated", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_method_is_named_by_flag_or_by_place(capsys) -> None:
    for named, flagged in (("dkgzsl", []), ("ale", ["--method", "ale"])):
        found = []
        for words in ([named], flagged):
            assert main(["reproduce", *words, "--dry-run", "--json"]) == 0
            found.append(json.loads(capsys.readouterr().out))
        assert found[0] == found[1]
        assert {row["method"] for row in found[0]["rows"]} == {named}
    assert main(["reproduce", "closed-form", "--dry-run"]) == 2
    assert "nothing published is known of 'closed-form'" in capsys.readouterr().err


def test_without_data_the_message_says_where_to_get_it(tmp_path, capsys) -> None:
    words = ["reproduce", "class-norm", "--data-root", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main(words) == 2
    assert "dkgzsl data fetch" in capsys.readouterr().err


def test_dry_run_prints_published_figures_and_what_the_paper_leaves_out(capsys) -> None:
    assert main(["reproduce", "CUB", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "85.2" in out
    assert "note:" in out
    assert main(["reproduce", "eszsl", "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows
    assert not any(row["checked"] for row in rows)
