"""Recognise photos with an exported file alone: python run_onnx.py model.onnx photo.jpg ... (no dkgzsl needed)."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def pixels_of(path: str, how: dict) -> np.ndarray:
    """An upright RGB photo, its short side resized, its middle cut out."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    (high, wide), filters = how["image_size"], Image.Resampling
    if how["crop_mode"] not in ("center", "squash"):
        if image.size == (wide, high):
            return np.asarray(image)
        sys.exit(f"{path}: this script cannot cut photos for this model; give pictures of {wide} x {high} pixels")
    sides = [int(side / how["crop_share"]) for side in (wide, high)]  # the crop keeps a part
    if how["crop_mode"] == "center":
        sides = [int(max(sides) * side / min(image.size)) for side in image.size]
    image = image.resize(sides, filters[how["interpolation"].upper()])
    left, top = round((sides[0] - wide) / 2), round((sides[1] - high) / 2)
    return np.asarray(image.crop((left, top, left + wide, top + high)))


session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
known = session.get_modelmeta().custom_metadata_map
about = {key.removeprefix("dkgzsl."): json.loads(text) for key, text in known.items() if key.startswith("dkgzsl.")}
for photo in sys.argv[2:]:
    batch = pixels_of(photo, about["preprocessing"])[None]
    probabilities, score = session.run(["probabilities", "in_distribution"], {"pixels": batch})
    best, threshold = int(probabilities[0].argmax()), about["calibration"]["threshold"]
    name = about["classes"][best] if threshold is None or score[0] >= threshold else "none of these"
    print(json.dumps({"image": photo, "class": name, "probability": round(float(probabilities[0, best]), 6)}))
