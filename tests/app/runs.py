"""A run of `numbers` for the tests of the page, made in seconds, and pictures for it."""

import io
from functools import cache
from pathlib import Path

from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.data.numbers.dataset import numbers

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off"]


def quick_run(out: Path) -> Path:
    """Train it."""
    assert main(["train", "numbers", *QUICK, "--baseline", "none", "--report", "off", "--out", str(out)]) == 0
    return out


@cache
def _problem():
    return numbers()


def tiny_picture(name: str, which: int = 0) -> bytes:
    """A test image of a class as a PNG file."""
    problem = _problem()
    tested = [*problem.parts.test_unseen, *problem.parts.test_seen]
    own = [position for position in tested if problem.class_names[problem.labels[position]] == name]
    content = io.BytesIO()
    Image.fromarray(problem.pictures[own[which]]).save(content, "PNG")
    return content.getvalue()
