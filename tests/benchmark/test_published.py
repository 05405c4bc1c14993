"""What was published of the peers: complete, in agreement with itself and with our defaults."""

import subprocess
import sys
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dkgzsl.benchmark.published import PeerPreset, peer_names, peer_preset
from dkgzsl.errors import ConfigError
from dkgzsl.methods.registry import method_info, method_names


def _defaults(method: str) -> dict[str, Any]:
    """Of the method's settings, what is open filled as published."""
    info = method_info(method)
    settings = info.settings()
    filled = settings if info.published is None else info.published(settings, None, False).settings
    return {one.name: getattr(filled, one.name) for one in fields(filled)}


def test_every_peer_has_a_file_under_its_own_name() -> None:
    peers = set(method_names()) - {"closed-form", "dkgzsl"}
    assert set(peer_names()) == peers
    found = [file.name for file in files("dkgzsl.benchmark").joinpath("published_results").iterdir()]
    assert sorted(found) == sorted(f"{name}.yaml" for name in peers)
    for name in peers:
        assert peer_preset(name).notes


@pytest.mark.parametrize("name", peer_names())
def test_published_figures_agree_with_themselves(name: str) -> None:
    results = peer_preset(name).results
    assert len({(r.dataset, r.backbone, r.semantics, r.split) for r in results}) == len(results)
    for result in results:
        if result.h is not None and result.u is not None and result.s is not None:
            harmonic = 2 * result.u * result.s / (result.u + result.s)
            assert result.h == pytest.approx(harmonic, abs=1.5e-3), result  # printed to three digits


@pytest.mark.parametrize("name", peer_names())
def test_published_settings_are_the_defaults_of_our_settings(name: str) -> None:
    defaults, preset = _defaults(name), peer_preset(name)
    assert {*preset.settings, *(key for one in preset.by_dataset.values() for key in one)} <= defaults.keys()
    assert {key: defaults[key] for key in preset.settings} == preset.settings
    for settings in preset.by_dataset.values():
        for key, value in settings.items():
            assert set(value) <= set(defaults[key])  # what differs by data set is tried everywhere


def test_figures_that_the_field_quotes() -> None:
    """As in the method's own comparison: H on CUB and SUN with pooled ResNet-101 features."""
    expected = {"f-clswgan": (0.497, 0.394), "f-vaegan-d2": (0.536, 0.413), "class-norm": (0.503, 0.431)}
    for name, figures in expected.items():
        by_dataset = {result.dataset: result.h for result in peer_preset(name).results}
        assert (by_dataset["CUB"], by_dataset["SUN"]) == figures


@pytest.mark.parametrize(
    "change",
    [
        {"result": []},
        {"results": [{"dataset": "CUB", "backbone": "resnet101", "semantics": "att", "source": "x"}]},
        {"results": [{"dataset": "CUB", "backbone": "r", "semantics": "att", "source": "x", "u": 0.4}]},
        {"results": [{"dataset": "CUB", "backbone": "r", "semantics": "att", "source": "x", "t1": 54}]},
        {"notes": None},
    ],
)
def test_what_is_not_whole_is_an_error(change: dict[str, object]) -> None:
    file = files("dkgzsl.benchmark").joinpath("published_results", "sae.yaml")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    PeerPreset.model_validate(content)
    with pytest.raises(ValidationError):
        PeerPreset.model_validate(content | change)


def test_an_unknown_peer_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'class-norm'"):
        peer_preset("classnorm")


def test_published_results_are_read_without_torch() -> None:
    code = "import sys, dkgzsl.benchmark.published as p; p.peer_preset('sae'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
