"""What was published of the peers: settings, results with their sources, and what their papers leave out.

One YAML file a method, named as the registry names it, checked when it is read. The paper itself is named by the
method's `MethodInfo`. This module imports no torch.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import Field, model_validator

from dkgzsl.errors import ConfigError, nearest
from dkgzsl.methods.dkgzsl.settings import Checked, Share

Value = int | float | str | tuple[int | float | str, ...]


class PublishedResult(Checked):
    """Published figures of one method on one data set, as fractions of 1.

    Attributes:
        dataset: name of the data set.
        backbone: of the features; none was fine-tuned.
        semantics: class descriptions, as the data sets name them.
        split: the field's `proposed` split (Xian et al., 2018) or the older `standard` one.
        chosen_on: images that settings were chosen on, as far as the source says.
        t1: unseen images among unseen classes; None: not published.
        u: unseen images among all classes.
        s: seen images among all classes.
        h: harmonic mean of both.
        source: where the figures are printed.
        checked: whether they were compared with the printed table; otherwise they are from memory.
    """

    dataset: str
    backbone: str
    semantics: str
    split: Literal["proposed", "standard"] = "proposed"
    chosen_on: Literal["validation", "test", "unknown"] = "unknown"
    t1: Share | None = None
    u: Share | None = None
    s: Share | None = None
    h: Share | None = None
    source: str
    checked: bool = False

    @model_validator(mode="after")
    def _complete(self) -> PublishedResult:
        generalized = [self.u is None, self.s is None, self.h is None]
        if any(generalized) and not all(generalized):
            raise ValueError("u, s and h are published together")
        if self.t1 is None and all(generalized):
            raise ValueError("a result has t1, or u, s and h")
        return self


class PeerPreset(Checked):
    """What is known of a peer's publication.

    Attributes:
        method: its name in the registry.
        settings: published constants, by the names of our method's settings.
        by_dataset: those that differ by data set.
        results: published figures.
        notes: settings that the paper leaves out, and what was chosen instead.
    """

    method: str
    settings: dict[str, Value]
    by_dataset: dict[str, dict[str, Value]] = Field(default_factory=dict)
    results: tuple[PublishedResult, ...]
    notes: tuple[str, ...]


def peer_names() -> tuple[str, ...]:
    """Methods with a file, in alphabetical order."""
    return tuple(sorted(_presets()))


def peer_preset(method: str) -> PeerPreset:
    """What was published of a method.

    Raises:
        ConfigError: no file is about it.
    """
    if method not in _presets():
        raise ConfigError(
            f"nothing published is known of {method!r}", fix=nearest(method, peer_names(), of="peers")
        )
    return _presets()[method]


@cache
def _presets() -> dict[str, PeerPreset]:
    folder = files("dkgzsl.benchmark").joinpath("published_results")
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".yaml")]
    presets = [PeerPreset.model_validate(yaml.safe_load(text)) for text in texts]
    return {preset.method: preset for preset in presets}
