"""CLIP's two halves: the package's features and descriptions against open_clip's own embeddings."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("open_clip", reason="the extra `clip` is not installed")

import open_clip

from dkgzsl.cli.main import main
from dkgzsl.data.text_semantics import encode
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.backbones import build_backbone, rebuild_backbone
from dkgzsl.features.clip import load_clip
from dkgzsl.inference.hub.redaction import redacted
from dkgzsl.methods.base import Task
from dkgzsl.methods.peers.clip import CLIP

TINY = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "head_width": 6, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "test-tiny.json").write_text(json.dumps(TINY))
    (folder / "test-residual.json").write_text(
        json.dumps({**TINY, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}})
    )
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights, and the model that they are of."""
    from safetensors.torch import save_file

    torch.manual_seed(4)
    model = open_clip.create_model("test-tiny", load_weights=False).eval()
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path, model


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8))


def test_images_are_embedded_as_open_clip_does(weights, picture) -> None:
    path, model = weights
    backbone = build_backbone("clip:test-tiny", weights=path)
    assert (backbone.grid, backbone.channels, backbone.has_class_token) == ((4, 4), 12, True)
    pixels = torch.from_numpy(backbone.preprocessing.pixels(picture).copy())[None]
    with torch.inference_mode():
        tokens = backbone.tokens(backbone.preprocessing.scale(pixels))
        theirs = open_clip.image_transform(32, is_train=False)(picture)[None]
        expected = model.encode_image(theirs)
    assert tokens.shape == (1, 17, 12)
    torch.testing.assert_close(tokens[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert tokens[0, 1:].std(0).min() > 0


def test_texts_are_embedded_as_open_clip_does(weights) -> None:
    path, model = weights
    texts = ["a photo of a wren", "a photo of a gull"]
    table, origin = encode(["wren", "gull"], texts, encoder=f"clip:test-tiny@{path}")
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("test-tiny")(texts), normalize=True)
    np.testing.assert_allclose(table.values, expected.numpy(), atol=1e-6)
    assert origin["library"].startswith("open_clip ")
    assert origin["texts"] == dict(zip(["wren", "gull"], texts, strict=True))


def test_loading_is_silent(capfd, monkeypatch) -> None:
    build_backbone("clip:test-tiny", random_seed=3)

    def no_network(*_: object, **__: object) -> None:
        logging.error("Failed to download")
        raise RuntimeError("Failed to download")

    monkeypatch.setattr(open_clip, "create_model", no_network)
    with pytest.raises(DataError, match="cannot be fetched: Failed to download"):
        load_clip("clip:ViT-B-32@openai")
    assert capfd.readouterr() == ("", "")


def test_from_photos_and_text_to_figures_and_onnx(tmp_path, capsys, monkeypatch, weights) -> None:
    """Every verb on the way takes the names; what is said of a class is no number of its vector."""
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    path, _ = weights
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "birds" / "images" / f"kind_{number}"
        folder.mkdir(parents=True)
        for k in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{k}.png")
    roles = "".join(f"kind_{number},{'unseen' if number > 5 else 'seen'}\n" for number in range(8))
    (tmp_path / "birds" / "classes.csv").write_text("class,role\n" + roles)
    problem, store, run = (str(tmp_path / name) for name in ("problem", "store", "run"))
    monkeypatch.chdir(path.parent)
    name = f"clip:test-tiny@{path.name}"

    def verb(*words: str) -> str:
        assert main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    verb("data", "describe", str(tmp_path / "birds"), "--encoder", name, "--as", "clip")
    verb("data", "import", str(tmp_path / "birds"), "--semantics", "clip", "--out", problem)
    verb("extract", problem, "--backbone", "clip:test-tiny", "--weights", str(path), "--out", store)
    words = ("--methods", "clip", "eszsl", "--seeds", "1", "--out", str(tmp_path / "table"), "--json")
    rows = json.loads(verb("benchmark", "--datasets", f"{problem}@{store}", *words))["rows"]
    assert {row["method"] for row in rows} == {"clip", "eszsl"}
    few = (
        "--closed-form.components",
        "8",
        "--closed-form.shrinkage",
        "0.5",
        "--baseline",
        "none",
        "--report",
        "off",
    )
    verb("train", problem, "--features", store, "--out", run, *few)
    assert "scores" not in (tmp_path / "run" / "config.yaml").read_text()  # nothing that ARA could attend by
    monkeypatch.chdir(tmp_path)
    verb("add-class", run, "--name", "gull", "--text", "a photo of a gull")
    photo = str(tmp_path / "birds" / "images" / "kind_7" / "0.png")
    assert "embedding" not in verb("predict", run, photo, "--weights", str(path))
    verb("export", run, "--weights", str(path), "--out", str(tmp_path / "model.onnx"))


def test_a_store_finds_its_clip_model_again(weights) -> None:
    path, _ = weights
    drawn = build_backbone("clip:test-tiny", random_seed=3)
    again = rebuild_backbone(drawn.record())
    assert again.weights["sha256"] == drawn.weights["sha256"]
    kept = build_backbone("clip:test-tiny", weights=path)
    assert kept.weights["sha256"] != drawn.weights["sha256"]
    assert rebuild_backbone(kept.record(), weights=path).weights == kept.weights
    assert rebuild_backbone(kept.record()).weights == kept.weights
    moved = path.rename(path.with_name("elsewhere.safetensors"))
    with pytest.raises(DataError, match="--weights"):
        rebuild_backbone(kept.record())
    moved.rename(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip:ViT-B-23", "unknown CLIP model"),
        ("clip:ViT-B-32@opnai", "openai"),
        ("clip:test-tiny", "publishes no weights"),
    ],
)
def test_what_is_not_there_is_named(name, expected) -> None:
    with pytest.raises((ConfigError, DataError), match=expected):
        load_clip(name)


def test_what_the_tag_of_weights_says_is_heard(monkeypatch) -> None:
    """OpenAI's weights were trained with QuickGELU, others on squashed images or another scale of pixels."""
    said = {"quick_gelu": True, "mean": (0.5, 0.5, 0.5), "resize_mode": "squash", "interpolation": "bilinear"}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["own"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: said)
    model = load_clip("clip:test-tiny@own", random_seed=0).model
    assert type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert type(model.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    wanted = build_backbone("clip:test-tiny@own", random_seed=0).preprocessing
    assert (wanted.crop_mode, wanted.interpolation, wanted.mean[0]) == ("squash", "bilinear", 0.5)
    assert wanted.std[0] == pytest.approx(0.26862954)
    given = {}
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **how: given.update(how) or model)
    load_clip("clip:test-tiny@own")
    assert given["force_quick_gelu"]
    assert given["pretrained"] == "own"


def test_where_a_file_lies_is_recorded_once(weights) -> None:
    path, _ = weights
    record = build_backbone(f"clip:test-tiny@{path}").record()
    assert record["backbone"]["name"] == "clip:test-tiny"
    assert record["weights"]["file"] == "tiny.safetensors"
    assert record["weights"].pop("path") == str(path)
    assert str(path.parent) not in json.dumps(record)


@pytest.mark.parametrize("path", ["/home/jane doe/my models/w.pt", "../me/w.pt", "C:\\Users\\me\\w.pt", "w.pt"])
def test_where_a_file_lies_is_not_published(path) -> None:
    assert redacted(f"clip:ViT-B-32@{path}") == "clip:ViT-B-32@w.pt"
    assert redacted(f"described by `clip:ViT-B-32@{path}`, all") == "described by `clip:ViT-B-32@w.pt`, all"
    assert redacted("clip:ViT-B-32@openai") == "clip:ViT-B-32@openai"


def test_what_has_no_plain_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="vision transformer"):
        build_backbone("clip:test-residual", random_seed=0)
    with pytest.raises(ConfigError, match="32 pixels"):
        build_backbone("clip:test-tiny", random_seed=0, image_size=64)


def test_features_and_descriptions_of_two_models_are_told() -> None:
    task = Task(
        torch.ones(4, 12), torch.tensor([0, 0, 1, 1]), torch.ones(3, 5), torch.arange(2), torch.tensor([2])
    )
    with pytest.raises(ConfigError, match="one CLIP model"):
        CLIP().fit(task, {})


def test_the_nearest_text_is_the_class() -> None:
    """Cosine, whatever the lengths, of seen and unseen classes alike."""
    random = torch.Generator().manual_seed(0)
    semantics = torch.randn(3, 12, generator=random)
    features = 7 * torch.randn(5, 12, generator=random)
    task = Task(features, torch.tensor([0, 0, 1, 1, 1]), semantics, torch.arange(2), torch.tensor([2]))
    expected = torch.nn.functional.cosine_similarity(features[:, None], semantics[None], dim=2)
    torch.testing.assert_close(CLIP().fit(task, {}).scores(features), expected)
