"""Published settings and results: complete, checked, and as the publication's tables have them."""

import subprocess
import sys
from importlib.resources import files

import pytest
import yaml
from pydantic import ValidationError

from dkgzsl.methods.dkgzsl.method import published
from dkgzsl.methods.dkgzsl.settings import DKGZSLSettings, Preset, preset_names, preset_of


def test_published_data_sets_are_there_with_both_backbones() -> None:
    for name in ("AWA2", "CUB", "SUN"):
        preset = preset_of(name.lower())
        assert preset.dataset == name
        assert set(preset.published) == {"resnet101", "vit-b/16"}
        assert preset.notes
        assert preset.generator.hidden_size == 4096


@pytest.mark.parametrize("name", ["AWA2", "CUB", "SUN"])
def test_published_figures_agree_with_themselves(name: str) -> None:
    for figures in preset_of(name).published.values():
        harmonic = 2 * figures.u * figures.s / (figures.u + figures.s)
        assert figures.h == pytest.approx(harmonic, abs=1.1e-3)  # printed to three digits


def test_every_file_is_found_by_its_data_set_name() -> None:
    names = [
        file.name
        for file in files("dkgzsl.methods.dkgzsl").joinpath("published").iterdir()
        if file.name.endswith(".yaml")
    ]
    assert sorted(names) == sorted(f"{name.lower()}.yaml" for name in (*preset_names(), "default"))


def test_unknown_data_sets_get_the_default_without_published_figures() -> None:
    assert preset_of("birds at home") == preset_of(None)
    assert not preset_of(None).published
    assert not preset_of("numbers").published


@pytest.mark.parametrize(
    "change",
    [{"epoch": 3}, {"training": {"epochs": 0, "batch_size": 1, "seed": 0}}, {"softmax": {"per_class": 3}}],
)
def test_a_key_too_many_a_value_out_of_range_a_key_too_few_are_errors(change: dict[str, object]) -> None:
    content = yaml.safe_load(
        files("dkgzsl.methods.dkgzsl").joinpath("published", "cub.yaml").read_text(encoding="utf-8")
    )
    Preset.model_validate(content)
    with pytest.raises(ValidationError):
        Preset.model_validate(content | change)


def test_what_the_user_says_stands_and_the_rest_is_filled() -> None:
    found = published(DKGZSLSettings(batch_size=32, hidden_size=64), "SUN", False)
    assert (found.settings.batch_size, found.settings.epochs, found.seed) == (32, 400, 4115)
    assert found.settings.hidden_size == 64
    assert found.settings.fusion_learning_rate == 1e-4
    assert found.settings.evaluate_every == 40
    assert found.settings.softmax.per_class == 80
    assert (found.semantics, found.refinement_steps) == ("att", 1501)


def test_presets_are_read_without_torch() -> None:
    code = "import sys, dkgzsl.methods.dkgzsl.settings as p; p.preset_of('CUB'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
