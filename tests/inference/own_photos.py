"""A folder as a person has it: drawn photos by class, and an Excel table of what each class is like."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

COLOURS = {"red": (205, 50, 45), "green": (60, 165, 70), "blue": (50, 80, 200)}
SHAPES = ("round", "square", "striped")
SEEN = ("red round", "red square", "green square", "green striped", "blue round", "blue striped", "red striped")
DESCRIBED = ("green round", "blue square")
"""Classes without a photo in training; the second has none at all."""
EACH = 10


def draw(name: str, rng: np.random.Generator) -> Image.Image:
    """A photo of a class: its shape in its colour, somewhere on a grey ground, with noise."""
    colour, shape = name.split()
    width, height = int(rng.integers(90, 130)), int(rng.integers(80, 110))
    ground = tuple(int(value) for value in rng.integers(170, 230, 3))
    image = Image.new("RGB", (width, height), ground)
    pen, side = ImageDraw.Draw(image), int(rng.integers(45, 65))
    left, top = int(rng.integers(5, width - side - 4)), int(rng.integers(5, height - side - 4))
    box = (left, top, left + side, top + side)
    if shape == "round":
        pen.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        pen.rectangle(box, fill=COLOURS[colour])
    else:
        for offset in range(0, side, 12):
            pen.rectangle((left, top + offset, left + side, top + offset + 5), fill=COLOURS[colour])
    pixels = np.asarray(image).astype(np.int64) + rng.integers(-12, 13, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def own_photos(folder: Path) -> Path:
    """Make the folder `folder`: photos of the seen classes and of one described class, and `attributes.xlsx`."""
    import openpyxl

    rng = np.random.default_rng(0)
    for name in (*SEEN, DESCRIBED[0]):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(EACH):
            draw(name, rng).save(folder / "images" / name / f"IMG_{number:04d}.jpg")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["class", *COLOURS, *SHAPES])
    for name in (*SEEN, *DESCRIBED):
        words = name.split()
        sheet.append([name, *(int(word in words) for word in (*COLOURS, *SHAPES))])
    book.save(folder / "attributes.xlsx")
    roles = [f"{name},{'unseen' if name in DESCRIBED else 'seen'}" for name in (*SEEN, *DESCRIBED)]
    (folder / "classes.csv").write_text("\n".join(["class,role", *roles]) + "\n")
    return folder


def tiny_weights(file: Path) -> Path:
    """Random weights of timm's smallest ResNet."""
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    return file
