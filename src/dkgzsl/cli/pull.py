"""`dkgzsl pull`: a pushed run from a model hub, or from a folder."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.cli.next_step import after_pull, command, next_line


@dataclass(frozen=True)
class Config:
    """Pull a run that was pushed; every file is verified against its manifest, and nothing in it can run code."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REPO_OR_FOLDER")]
    """Repository of the model hub (owner/name), or a folder: a path (./name) or file:///path."""
    out: Path
    """Run folder, new or empty."""
    token_from_env: bool = False
    """Take the access token from HF_TOKEN alone, not from a stored login."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Pull, print what was pulled."""
    from dkgzsl.errors import DataError
    from dkgzsl.features.weights import recorded_weights, weights_folder
    from dkgzsl.inference.hub.hub import pull
    from dkgzsl.runs.model_record import RecognitionRecord

    moved = pull(config.source, config.out, token_from_env=config.token_from_env)
    if config.json:
        print(json_format.dumps(asdict(moved)))
        return
    print(f"pulled     {moved.files} files, {moved.size / 1e6:.1f} MB, to {moved.where}")
    print(f"manifest   {moved.manifest}")
    weights = RecognitionRecord.read(config.out).images.get("weights") or {}
    step = after_pull(config.out, moved.where)
    if weights.get("source") == "file":
        try:
            print(f"weights    {recorded_weights(weights)}")
        except DataError:
            print(
                f"weights    {weights['file']} is needed for photos, and not here: put it into {weights_folder()} "
                f"(sha256 begins with {weights['sha256'][:16]})"
            )
            step = command("help", "predict")
    print(next_line(step))
