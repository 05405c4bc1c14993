import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.preprocessing import PhotoPreprocessing
from dkgzsl.features.timm_backbone import NAMED


def run(backbone):
    images = torch.randn(1, 3, *backbone.preprocessing.image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return images, backbone.tokens(images)


def test_resnet101_has_196_regions_of_2048_at_448_pixels():
    backbone = build_backbone("resnet101", random_seed=0)
    images, tokens = run(backbone)
    assert backbone.preprocessing.image_size == (448, 448)
    assert tokens.shape == (1, 197, 2048)
    assert backbone.grid == (14, 14)
    assert not backbone.has_class_token
    with torch.inference_mode():
        maps = backbone.model.forward_features(images)
    for row, column in ((0, 0), (0, 13), (5, 2), (13, 13)):
        assert torch.equal(tokens[0, 1 + 14 * row + column], maps[0, :, row, column])
    torch.testing.assert_close(tokens[0, 0], maps[0].mean((1, 2)))


def test_vit_b16_has_a_class_token_and_196_regions_of_768():
    backbone = build_backbone("vit-b/16", random_seed=0)
    images, tokens = run(backbone)
    assert backbone.preprocessing.image_size == (224, 224)
    assert tokens.shape == (1, 197, 768)
    assert backbone.grid == (14, 14)
    assert backbone.has_class_token
    with torch.inference_mode():
        torch.testing.assert_close(tokens, backbone.model.forward_features(images))
    record = backbone.record()
    assert "unknown" in record["backbone"]["note"]
    assert "21k" in record["backbone"]["note"]


def only_patches(backbone) -> None:
    """Take everything out of a ViT that mixes patches: each region token then sees its own patch alone."""
    backbone.model.blocks = nn.Identity()
    backbone.model.norm = nn.Identity()
    if hasattr(backbone.model, "norm_pre"):
        backbone.model.norm_pre = nn.Identity()


@pytest.mark.parametrize(
    ("name", "size", "before", "has_class_token"),
    [
        ("test_vit", None, 1, True),
        ("test_vit2", None, 1, False),  # one register token, no class token
        ("vit_small_patch14_reg4_dinov2", 56, 5, True),  # a class token and four registers
        ("deit_tiny_distilled_patch16_224", None, 2, True),  # a class and a distillation token
    ],
)
def test_regions_stand_row_by_row_after_the_global_token(name, size, before, has_class_token):
    backbone = build_backbone(name, image_size=size, random_seed=0)
    assert backbone.has_class_token == has_class_token
    assert backbone.model.num_prefix_tokens == before
    only_patches(backbone)
    rows, columns = backbone.grid
    side = backbone.preprocessing.image_size[0] // rows
    black = torch.zeros(1, 3, *backbone.preprocessing.image_size)
    lit = black.clone()
    lit[:, :, side : 2 * side, 3 * side : 4 * side] = 1.0  # the patch in row 1, column 3
    with torch.inference_mode():
        changed = (backbone.tokens(lit) - backbone.tokens(black))[0].abs().sum(1)
    assert len(changed) == 1 + rows * columns
    global_changes = [] if has_class_token else [0]  # the mean of the regions changes with any of them
    assert torch.nonzero(changed > 1e-6).flatten().tolist() == [*global_changes, 1 + columns + 3]


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "swin_tiny_patch4_window7_224"])
def test_any_convolutional_or_window_model_gives_its_grid(name):
    backbone = build_backbone(name, image_size=None, random_seed=0)
    _, tokens = run(backbone)
    assert tokens.shape == (1, 1 + backbone.regions, backbone.channels)
    assert backbone.channels == backbone.model.num_features
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))


def test_position_embeddings_are_resampled_to_the_image_size():
    native, larger = (build_backbone("test_vit", image_size=size, random_seed=0) for size in (None, 320))
    assert (native.grid, larger.grid) == ((10, 10), (20, 20))
    assert run(larger)[1].shape == (1, 401, 64)
    class_part = native.model.pos_embed[:, :1]
    grid = native.model.pos_embed[:, 1:].reshape(1, 10, 10, 64).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, size=(20, 20), mode="bicubic", antialias=True)
    torch.testing.assert_close(larger.model.pos_embed[:, 1:], expected.flatten(2).transpose(1, 2))
    assert torch.equal(larger.model.pos_embed[:, :1], class_part)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="100 pixels"):
        build_backbone("test_vit", image_size=100, random_seed=0)
    with pytest.raises(ConfigError, match="no other image size"):
        build_backbone("mixer_s32_224", image_size=256, random_seed=0)


def test_unknown_names_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'vit-b/16'"):
        build_backbone("vit-b16")
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        build_backbone("resnet_50")


def test_named_backbones_exist_in_timm_with_weights():
    for named in NAMED.values():
        assert timm.models.get_pretrained_cfg(named.timm_name).has_weights


def test_offline_the_error_says_how_to_get_weights(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("dkgzsl.features.weights._resolves", lambda host: False)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(DataError, match="--weights FILE") as error:
        build_backbone("test_vit3")
    assert "timm/test_vit3" in str(error.value)


def test_without_published_weights_the_error_says_so():
    with pytest.raises(DataError, match="publishes no weights"):
        build_backbone("mixer_s32_224")


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model("test_resnet", pretrained=False, num_classes=7).state_dict()


def same_weights(backbone, state, tolerance=0.0) -> bool:
    found = backbone.model.state_dict()
    assert not any(name.startswith("fc.") for name in found)
    return all(torch.allclose(value.float(), state[name].float(), atol=tolerance) for name, value in found.items())


def test_half_precision_safetensors_are_cast_and_the_classifier_is_left_out(tmp_path, state):
    path = tmp_path / "w.safetensors"
    half = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
    save_file(half, path)
    backbone = build_backbone("test_resnet", weights=path)
    assert all(p.dtype == torch.float32 for p in backbone.model.parameters())
    assert same_weights(backbone, half)
    assert backbone.weights["file"] == "w.safetensors"


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}}])
def test_pytorch_files_old_and_wrapped(tmp_path, state, wrap):
    old = {n: t for n, t in state.items() if "num_batches_tracked" not in n}
    torch.save(wrap(old), tmp_path / "w.pth")
    assert same_weights(build_backbone("test_resnet", weights=tmp_path / "w.pth"), state)


class Executes:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was executed",))


def test_no_code_in_a_file_is_executed(tmp_path):
    torch.save({"fc.weight": Executes()}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="cannot read the weights"):
        build_backbone("test_resnet", weights=tmp_path / "w.pth")


def test_weights_that_do_not_fit_name_the_keys(tmp_path, state):
    gone = next(name for name in state if name.startswith("layer1") and name.endswith("weight"))
    save_file(
        {"extra.weight": torch.zeros(2)} | {n: t for n, t in state.items() if n != gone},
        tmp_path / "w.safetensors",
    )
    with pytest.raises(DataError) as error:
        build_backbone("test_resnet", weights=tmp_path / "w.safetensors")
    assert f"missing: {gone}" in str(error.value)
    assert "unexpected: extra.weight" in str(error.value)
    save_file({n: (t[:1] if n == gone else t).contiguous() for n, t in state.items()}, tmp_path / "v.safetensors")
    with pytest.raises(DataError, match="of another shape"):
        build_backbone("test_resnet", weights=tmp_path / "v.safetensors")
    with pytest.raises(DataError, match="no such file"):
        build_backbone("test_resnet", weights=tmp_path / "none.pth")


def test_preprocessing_equals_timms_own():
    from timm.data import create_transform, resolve_data_config

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 420, 3), np.uint8))
    config = resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg("resnet50").to_dict())
    ours = PhotoPreprocessing.from_timm(config)
    expected = create_transform(**config, is_training=False)(image)
    found = ours.scale(torch.from_numpy(np.array(ours.pixels(image)))[None])[0]
    torch.testing.assert_close(found, expected)


def test_why_weights_cannot_be_fetched_is_said_in_words(monkeypatch):
    class LocalEntryNotFoundError(FileNotFoundError):
        pass

    def offline(*_, **__):
        raise RuntimeError("no file") from LocalEntryNotFoundError("outgoing traffic has been disabled")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(DataError, match="the network or the model hub cannot be reached") as error:
        build_backbone("resnet18")
    assert "LocalEntryNotFoundError" not in str(error.value)
    assert "--weights FILE" in str(error.value)
