"""The card of a real run: it parses as model hubs parse it, its figures are the run's, its Python runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dkgzsl.cli import push
from dkgzsl.cli.main import VERBS, main
from dkgzsl.display import percent
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.registry import BUILT_IN, method_info
from dkgzsl.runs import model_card as cards
from dkgzsl.runs.model_card import model_card
from worlds import ONE_WAY, world_folder

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
FEW += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]
FEW += ONE_WAY
LINEAR = ["--closed-form.feature-kernel-width", "0"]
PAPER = ["--epochs", "2", "--batch-size", "32", "--dkgzsl.hidden-size", "16", "--dkgzsl.softmax.per-class", "10"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "mine"
    assert main(["train", data, *FEW, *LINEAR, "--seeds", "2", "--out", str(out)]) == 0
    return out


def front(card: str) -> dict:
    opening, matter, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter)


def test_the_figures_are_those_of_the_result(run) -> None:
    card, result = (run / "card.md").read_text(), json.loads((run / "result.json").read_text())
    (entry,) = front(card)["model-index"][0]["results"]
    found = {metric["type"]: metric for metric in entry["metrics"]}
    assert set(found) == set(result["metrics"])
    for name, metric in result["metrics"].items():
        assert found[name]["value"] == metric["mean"]
        assert found[name]["args"]["deviation_over_seeds"] == metric["std"]
        assert f"| {percent(metric['mean'])} ± {percent(metric['std'])} |" in card
    provenance = entry["dataset"]["args"]
    environment = json.loads((run / "environment.json").read_text())
    assert provenance["split_sha256"] == environment["split_sha256"]
    assert (provenance["protocol"], provenance["seeds"]) == ("validated", [0, 1])
    assert (entry["dataset"]["name"], entry["dataset"]["config"]) == ("world", "att")
    assert "12 had training images, 4 are known" in card
    assert "test images scored once" in card
    assert "model file holds" not in card
    assert str(run.parent) not in card


def test_the_hubs_own_reader_takes_it(run) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    data = hub.ModelCard((run / "card.md").read_text()).data
    result = json.loads((run / "result.json").read_text())
    values = {one.metric_type: one.metric_value for one in data.eval_results}
    assert values == {name: metric["mean"] for name, metric in result["metrics"].items()}
    assert data.library_name == "dkgzsl"
    assert data.license == "other"


def test_a_licence_is_taken_as_given(run) -> None:
    result = json.loads((run / "result.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    matter = front(model_card(result, result, environment, license_id="cc-by-4.0"))
    assert matter["license"] == "cc-by-4.0"
    assert "license_name" not in matter


def test_figures_that_were_chosen_on_test_say_so(data, tmp_path) -> None:
    assert main(["train", data, *PAPER, "--protocol", "oracle", "--baseline", "none", "--out", str(tmp_path)]) == 0
    card, result = (tmp_path / "card.md").read_text(), json.loads((tmp_path / "result.json").read_text())
    evaluations = result["seeds_detail"][0]["test_evaluations"]
    assert f"chosen on the test images, which were scored {evaluations} times" in card
    matter = front(card)
    assert "protocol:oracle" in matter["tags"]
    assert matter["model-index"][0]["results"][0]["dataset"]["args"]["test_evaluations"] == evaluations
    assert "Probabilities are not calibrated" in card
    assert "features, not the photos, of the training images" in card  # they travel with the model
    assert "h_calibrated" not in [m["type"] for m in matter["model-index"][0]["results"][0]["metrics"]]


def test_a_kernel_between_images_tells_what_it_keeps(data, tmp_path) -> None:
    kernel = ["--closed-form.feature-kernel-width", "1", "--baseline", "none", "--report", "off"]
    assert main(["train", data, *FEW, *kernel, "--out", str(tmp_path)]) == 0
    assert "features, not the photos, of up to 1,024 training images" in (tmp_path / "card.md").read_text()


def test_the_commands_of_the_card_exist_and_its_python_compiles(run) -> None:
    card = (run / "card.md").read_text()
    verbs = re.findall(r"^dkgzsl ([a-z-]+)", card, re.MULTILINE)
    assert verbs == ["pull", "predict", "add-class", "adapt", "export"]
    assert set(verbs) <= set(VERBS)
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        compile(block, "card", "exec")


class Plain:
    """A model that scores and does nothing else."""

    def save(self) -> SavedModel:
        raise NotImplementedError


def card_of(run: Path, method: str) -> str:
    result = {**json.loads((run / "result.json").read_text()), "method": method}
    return model_card(result, result, json.loads((run / "environment.json").read_text()))


def test_the_card_promises_what_the_method_can_do(run, monkeypatch) -> None:
    promises = ("Classes can be added", "dkgzsl add-class", "dkgzsl export", "onnxruntime")
    assert all(one in card_of(run, "eszsl") for one in promises)
    assert "dkgzsl adapt" not in card_of(run, "eszsl")
    plain = replace(method_info("eszsl"), models={"plain": Plain})
    monkeypatch.setattr(cards, "method_info", lambda _: plain)
    assert not [one for one in promises if one in card_of(run, "eszsl")]


def test_nothing_is_promised_of_a_method_that_is_not_installed(run) -> None:
    card = card_of(run, "gone")
    assert "dkgzsl predict run photo.jpg" in card
    assert "add-class" not in card
    assert "export" not in card


@pytest.mark.parametrize("method", BUILT_IN)
def test_docs_and_push_name_the_methods_that_keep_features(method) -> None:
    keeps = method_info(method).keeps_features
    kept = bool(keeps and keeps({"feature_kernel_width": 1.0}))
    page = Path(__file__).parents[2] / "docs" / "methods" / "index.md"
    (said,) = re.findall(r"A run of (.+?); the card says so", " ".join(page.read_text(encoding="utf-8").split()))
    assert (f"`{method}`" in said) == kept
    words = re.split(r"[ ,]+", " ".join((push.Config.__doc__ or "").partition("the card says so.")[2].split()))
    assert (method in words) == kept
