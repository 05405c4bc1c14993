"""A run on photos made on the spot, by the verbs that a person types."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from dkgzsl.cli.main import main
from worlds import ONE_WAY

SEEN, CLASSES, EACH = 6, 9, 8
FEW = ["--closed-form.components", "16", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
FEW += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]
FEW += ONE_WAY


@dataclass(frozen=True)
class PhotoRun:
    """What was made: the run, the photos of unseen classes, and the backbone's weights."""

    run: Path
    photos: list[Path]
    weights: Path


def photo_run(folder: Path) -> PhotoRun:
    """Nine classes of coloured noise, six of them seen; a random backbone; attention and the denoising encoder."""
    import timm

    rng = np.random.default_rng(0)
    source = folder / "home" / "someone" / "birds"
    lines, roles, unseen = ["class,red,green,blue"], ["class,role"], []
    for number in range(CLASSES):
        name, colour = f"bird_{number}", rng.uniform(0.2, 0.8, 3)
        lines.append(f"{name},{','.join(f'{value:.3f}' for value in colour)}")
        roles.append(f"{name},{'seen' if number < SEEN else 'unseen'}")
        (source / "images" / name).mkdir(parents=True)
        for photo in range(EACH):
            height, width = 70 + 3 * photo, 96 - 4 * photo
            noise = rng.normal(size=(height, width, 3)) * 0.15
            pixels = (255 * (colour + noise).clip(0, 1)).astype(np.uint8)
            path = source / "images" / name / f"{photo}.png"
            Image.fromarray(pixels).save(path)
            if number >= SEEN:
                unseen.append(path)
    (source / "attributes.csv").write_text("\n".join(lines) + "\n")
    (source / "classes.csv").write_text("\n".join(roles) + "\n")

    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), weights)
    problem, store, run = (str(folder / "home" / name) for name in ("problem", "store", "run"))
    said = ["data", "import", str(source), "--semantics", "attributes", "--out", problem]
    assert main(said) == 0
    said = ["extract", problem, "--backbone", "test_resnet", "--weights", str(weights), "--image-size", "64"]
    assert main([*said, "--out", store, "--device", "cpu"]) == 0
    said = ["train", problem, "--features", store, "--representation", "pooled+refined+scores"]
    refinement = ["--refinement.denoising", "trained", "--refinement.steps", "3"]
    assert main([*said, *refinement, *FEW, "--device", "cpu", "--out", run]) == 0
    return PhotoRun(Path(run), unseen, weights)
