"""`dkgzsl attention`: where a run's strongest attributes lie on photos."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Draw where a run's refinement attends to on photos: its strongest attributes by name, and saliency."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, of a run on region features."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
    """Photos."""
    out: Path = Path("attention")
    """Folder for the pictures."""
    weights: Path | None = None
    """The backbone's weights, where the features were extracted with --weights."""
    number: int = 4
    """Attributes to draw of each photo."""
    json: bool = False
    """Print a JSON object a photo on standard output."""

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ConfigError(f"number must be at least 1, not {self.number}")
        if not self.images:
            raise ConfigError("no photo is named", fix="dkgzsl attention RUN IMAGE...")


def run(config: Config) -> None:
    """Draw, print what was drawn."""
    from dkgzsl.inference.attention import look_at

    for position, looked in enumerate(
        look_at(Path(config.run), config.images, weights=config.weights, number=config.number)
    ):
        try:
            config.out.mkdir(parents=True, exist_ok=True)
            files = {}
            for kind, picture in looked.pictures.items():
                file = config.out / f"{position:03d}-{looked.image.stem}-{kind}.png"
                picture.save(file)
                files[kind] = str(file)
        except OSError as error:
            raise ConfigError(f"cannot write the pictures: {error.strerror}", where=str(config.out)) from error
        shown = [{"name": name, "strength": round(strength, 2)} for name, strength in looked.attributes]
        if config.json:
            print(json_format.dumps({"image": str(looked.image), "attributes": shown, "pictures": files}))
        else:
            named = ", ".join(f"{one['name']} {one['strength']:+.1f}" for one in shown)
            print(f"{looked.image}: {named}\n  {', '.join(files.values())}")
