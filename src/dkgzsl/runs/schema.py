"""What the JSON files of a run folder must hold; more may stand there, since newer versions add to them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

Number = InstanceOf[float]
"""A figure is written with its decimal point: `1` in its place is damage."""


class _Open(BaseModel):
    """Values of exactly these types; other names may stand next to them."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class FigureValues(_Open):
    """The figures of one model (`dkgzsl.evaluation.metrics.Figures`)."""

    t1: Number | None
    u: Number | None
    s: Number | None
    h: Number | None
    h_calibrated: Number | None
    u_calibrated: Number | None
    s_calibrated: Number | None
    ausuc: Number | None


class _Exact(BaseModel):
    """Values of exactly these types, and no other names: a misspelt one is damage."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class ReliabilityValues(_Exact):
    """How reliable the probabilities are (`dkgzsl.evaluation.calibration.Reliability`)."""

    ece: float = Field(ge=0, le=1)
    confidence: list[float]
    accuracy: list[float]
    weight: list[float]
    kept_seen: float | None
    kept_unseen: float | None


class CalibrationValues(_Exact):
    """How scores become decisions and probabilities (`dkgzsl.evaluation.calibration.Calibration`)."""

    constant: float = 0.0
    temperature: float = Field(default=1.0, gt=0)
    threshold: float | None = None
    validation: ReliabilityValues | None
    found: float | None = None
    spread: float | None = None


class SeedRecord(_Open):
    """What a seed, or a method that was run for comparison, has left."""

    figures: FigureValues
    spread_over_classes: dict[str, float | None] = Field(default_factory=dict)
    representation: str = ""
    setting: dict[str, Any]
    constant: float | None = None
    calibration: CalibrationValues | None = None
    reliability: ReliabilityValues | None = None
    validation: FigureValues | None = None
    validation_spread: FigureValues | None = None
    cuts: int | None = None
    constant_found: float | None = None
    constant_spread: float | None = None
    adaptation: dict[str, Any] | None = None
    evaluations: int = 0
    test_evaluations: int
    held_out_classes: int | None = None
    method: str = ""
    seed: int = 0


class MeanAndDeviation(_Open):
    """A figure over the seeds."""

    mean: float
    std: float


class Result(_Open):
    """`result.json`, in today's names."""

    run: str
    dataset: str
    method: str
    protocol: str
    semantics: str
    backbone: str | None
    seeds: list[int] = Field(min_length=1)
    metrics: dict[str, MeanAndDeviation | None]
    seconds: float
    seeds_detail: list[SeedRecord] = Field(min_length=1)
    baseline: SeedRecord | None = None
    default: SeedRecord | None = None
    chance: dict[str, float] = Field(default_factory=dict)


class StoreValues(_Open):
    """What is known of the feature store of a run."""

    weights: dict[str, Any] | None = None


class DataValues(_Open):
    """Where the data of a run came from."""

    store: StoreValues | None = None
    files: dict[str, str] | None = None


class Environment(_Open):
    """`environment.json`."""

    python: str
    dkgzsl: str
    libraries: dict[str, str | None]
    split_sha256: str
    device: str
    data: DataValues
    commit: str | None = None
    started: str = ""
    platform: str = ""
    processor: str = ""
    threads: int | None = None
    places: dict[str, str | list[str | None] | dict[str, str | None] | None] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    semantics: str = ""


class Event(_Open):
    """A line of `metrics.jsonl`."""

    event: str


class SemanticsValues(_Open):
    """How the classes of a recognizer are described."""

    name: str
    size: int = Field(ge=1)
    columns: list[str] | None
    lowest: float
    highest: float
    encoder: str | None = None
    library: str | None = None


class RecognizerValues(_Open):
    """`recognizer.json`."""

    class_names: list[str] = Field(min_length=1)
    semantics: SemanticsValues
    calibration: CalibrationValues
    removed: list[int]
    features: list[int]
    images: dict[str, Any]
    dataset: str
    adaptation: dict[str, Any] | None = None
    pools: list[str] = Field(default_factory=list)
    photos: dict[str, int] = Field(default_factory=dict)
    sparse: list[int] = Field(default_factory=list)


class History(_Open):
    """`history.json`: how a version was made, and what that changed."""

    version: int = Field(ge=1)
    parent: int = Field(ge=0)
    made: str
    action: str = ""
    classes: list[str] = Field(default_factory=list)
    described_by: str = ""
    photos: int | dict[str, int] = 0
    pool_sha256: str = ""
    trained_on: int = 0
    repeated: int = 0
    forced: bool = False
