"""`dkgzsl push`: a run to a model hub, or to a folder."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from dkgzsl.cli.next_step import command, free_name, next_line


@dataclass(frozen=True)
class Config:
    """Push a finished run: model, settings, figures and card; no photos, no paths of this machine.

    Of the versions that add-class, adapt and remove-class made, the newest goes, next to the run as trained. The
    backbone's weights stay here: what is printed says how others get them.

    Some models hold features of training images, which are pushed with them; the card says so. dkgzsl, f-clswgan
    and f-vaegan-d2 hold the features of all training images, cada-vae holds latent vectors, and closed-form holds
    the features of up to 1,024 images where validation chose a kernel between images.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REPO_OR_FOLDER")]
    """Repository of the model hub (owner/name), or a folder: a path (./name) or file:///path."""
    private: bool = False
    """Make a new repository private."""
    license: str = "other"
    """Licence for the card, by the hub's name (apache-2.0, cc-by-4.0, ...); other: it depends on the data."""
    token_from_env: bool = False
    """Take the access token from HF_TOKEN alone, not from a stored login."""
    overwrite: bool = False
    """Replace an earlier push in a folder; a repository keeps its history."""
    version: int | None = None
    """The version that goes with it, 0 for none (default: the newest)."""
    history: bool = False
    """Push the versions before it, too; they may hold classes and photos' features that were taken out since."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Push, print what was pushed."""
    from pathlib import Path

    from dkgzsl.features.weights import weights_in_words
    from dkgzsl.inference.hub.hub import push
    from dkgzsl.runs.folder import versions_of
    from dkgzsl.runs.model_record import RecognitionRecord

    run = Path(config.run)
    moved = push(
        run,
        config.target,
        private=config.private,
        license_id=config.license,
        token_from_env=config.token_from_env,
        overwrite=config.overwrite,
        version=config.version,
        history=config.history,
    )
    if config.json:
        print(json_format.dumps(asdict(moved)))
        return
    print(f"pushed     {moved.files} files, {moved.size / 1e6:.1f} MB, to {moved.where}")
    print(f"manifest   {moved.manifest}")
    left = len(versions_of(run)) - len(moved.versions)
    shown = ", ".join(map(str, moved.versions)) or "none: the run as trained"
    others = f"; {left} more {'stays' if left == 1 else 'stay'} here (--history, --version N)" if left else ""
    print(f"versions   {shown}{others}")
    weights = weights_in_words(RecognitionRecord.read(run).images.get("weights") or {})
    if weights is not None:
        print(f"weights    {weights}")
    print(next_line(command("pull", config.target, "--out", free_name(run.resolve().name))))
