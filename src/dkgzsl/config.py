"""The one vocabulary: the dataclasses behind the command line, the YAML files and the Python functions.

A field left at None is filled from the published settings of the data set, or else from the value that its
docstring names; `config.yaml` in a run folder holds the filled form. A method's own settings lie in the method's
module. In a docstring, help prints the names of the registry's methods for `{methods}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from dkgzsl.cluster.shares import check_place
from dkgzsl.errors import ConfigError, nearest
from dkgzsl.reading import parse_yaml, read_text, reason_of

C = TypeVar("C")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, an empty mapping where it is empty.

    Raises:
        ConfigError: the file cannot be read.
    """
    text = read_text(path, "cannot read the configuration", error=ConfigError, fix="check the path of --config")
    import yaml

    try:
        content = parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"not a YAML file: {error}", where=str(path)) from error
    except Exception as error:  # `!!int x` and the like make the library raise errors of many kinds
        raise ConfigError(f"not a YAML file: {reason_of(error)}", where=str(path)) from error
    return {} if content is None else content


def from_mapping(config: type[C], content: Any, *, where: str) -> C:
    """Build the dataclass `config` from nested mappings, checking every key and value.

    One value may stand where several are taken, as on the command line.

    Raises:
        ConfigError: a key or a value does not fit; the message names the nearest key.
    """
    import pydantic

    _check_keys(config, content, where)
    try:
        return pydantic.TypeAdapter(config).validate_python(_listed(config, content))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), ConfigError):
            raise cause from error
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{key}: {first['msg'].lower()}, not {first['input']!r}", where=where) from error


def _listed(config: Any, content: dict[str, Any]) -> dict[str, Any]:
    """The same with a list of one value for a single value, where the setting is a list."""
    kinds, sections = get_type_hints(config), {f.name: f.default_factory for f in fields(config)}
    listed = dict(content)
    for key, value in content.items():
        if is_dataclass(sections[key]):
            listed[key] = _listed(sections[key], value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool) and _takes_several(kinds[key]):
            listed[key] = [value]
    return listed


def _takes_several(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(get_origin(one) is tuple for one in get_args(kind))


def _check_keys(config: Any, content: Any, where: str, prefix: str = "") -> None:
    if not isinstance(content, dict):
        raise ConfigError(
            f"{prefix.rstrip('.') or 'the file'} must hold names and values, not {content!r}", where=where
        )
    known = {f.name: f for f in fields(config) if not f.metadata.get("hidden")}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(
                f"unknown setting {prefix}{key}",
                where=where,
                fix=nearest(str(key), known, of="settings here"),
            )
        section = known[key].default_factory
        if is_dataclass(section):
            _check_keys(section, value, where, f"{prefix}{key.replace('_', '-')}.")


Protocol = Literal["validated", "oracle"]
Switch = Literal["auto", "on", "off"]
Hidden = Annotated[Any, tyro.conf.Suppress, tyro.conf.Fixed]
"""A field that neither the command line nor YAML sets; sections of methods take its place there."""
HIDDEN: Mapping[str, Any] = {"hidden": True}
_SEEDS = 2**63 - 1  # what random streams take, with one to spare for a second stream


def check_ranges(
    config: object,
    section: str,
    *,
    at_least: Mapping[str, int] | None = None,
    above_zero: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Check choices among names, and the ranges of numbers, of each where a field holds several; None passes."""
    for name, hint in get_type_hints(type(config)).items():
        for choice in (hint, *get_args(hint)):
            value = getattr(config, name)
            if get_origin(choice) is Literal and value is not None and value not in get_args(choice):
                fix = nearest(str(value), get_args(choice), of="choices")
                raise ConfigError(f"{section}{name} cannot be {value!r}", fix=fix)
    for name in (*(at_least or {}), *above_zero, *shares):
        value = getattr(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if one is None:
                continue
            lowest = (at_least or {}).get(name, 0)
            if one == float("inf"):
                raise ConfigError(f"{section}{name} must be a finite number")
            if not (one > 0 if name in above_zero else one >= lowest):
                bound = "above 0" if name in above_zero else f"at least {lowest}"
                raise ConfigError(f"{section}{name} must be {bound}, not {one}")
            if name in shares and one > 1:
                raise ConfigError(f"{section}{name} must be at most 1, not {one}")
        if value == ():
            raise ConfigError(f"{section}{name} must name at least one value to try")


@dataclass(frozen=True)
class SoftmaxConfig:
    """The softmax classifier on real seen and synthesized unseen features."""

    per_class: int | None = None
    """Features synthesized for each unseen class (default: 100; method dkgzsl: as published)."""
    learning_rate: float | None = None
    """Adam's learning rate (default: 0.001; method dkgzsl: as published)."""
    epochs: int | None = None
    """Passes over real and synthesized features (default: 25)."""

    def __post_init__(self) -> None:
        check_ranges(self, "softmax.", at_least={"per_class": 1, "epochs": 1}, above_zero=("learning_rate",))


@dataclass(frozen=True)
class RefinementConfig:
    """Semantic-oriented visual refinement (SOVR) of region features, trained before everything else."""

    denoising: Literal["trained", "untrained", "off"] = "off"
    """Suppress background regions by the denoising encoder (FDE): trained, left at random weights, or left out."""
    attention: Literal["on", "off"] = "on"
    """Attend to regions attribute by attribute (ARA)."""
    vectors: str | None = None
    """Vectors of attribute names: a .npy file, encoder:NAME, or random (default: the data set's, or random)."""
    steps: int | None = None
    """Training steps (default: 600; method dkgzsl: as published, 1101, and 1501 for SUN)."""
    batch_size: int = 50
    """Images per step, drawn so that every class comes equally often."""
    learning_rate: float = 1e-4
    """RMSprop's learning rate."""
    weight_decay: float = 1e-4
    """RMSprop's weight decay."""
    momentum: float = 0.9
    """RMSprop's momentum."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products; auto: bfloat16 where the device has it (method dkgzsl: float32)."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "refinement.",
            at_least={"steps": 0, "batch_size": 1, "weight_decay": 0, "momentum": 0},
            above_zero=("learning_rate",),
        )


@dataclass(frozen=True)
class DataConfig:
    """Which data is learned from, and what of it: the settings that `train` and `tune` share."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME_OR_FOLDER")] = None
    """Data set by name (numbers, AWA2, CUB, SUN, ...), an imported problem, or a folder of the archive xlsa17."""
    dataset: str | None = None
    """The same as NAME_OR_FOLDER, as the published command line has it."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    features: str | None = None
    """A store that dkgzsl extract wrote, or a file by name (res101, vgg_fc7) (default: those of the backbone)."""
    extra_features: tuple[str, ...] = ()
    """Feature files or stores of the same images by other backbones; their global vectors are concatenated."""
    semantics: str | None = None
    """Class descriptions by name (default: the data set's)."""
    backbone: str | None = None
    """Backbone of the features (resnet101, vit-b/16, ...): chooses feature file and preset."""
    representation: tuple[str, ...] | None = None
    """How region features become a vector; several are tried on validation classes. Blocks joined by +: pooled,
    mean, maximum, generalised, refined, scores, extra (default: pooled; where there are regions and attributes,
    pooled+scores, too, and for the method dkgzsl refined alone)."""


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Train on a data set, score its test images, and write a run folder."""

    method: str | None = None
    """One of {methods} (default: closed-form, or dkgzsl, as published, where --epochs or --batch-size is set)."""
    protocol: Protocol = "validated"
    """validated: settings are chosen on validation classes, test scored once; oracle: chosen on the test set."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file with any of these settings and with sections of methods; flags override it."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    on: str | None = None
    """ray: all cores of this machine, or the cluster at RAY_ADDRESS; ray://HOST:PORT: that cluster."""
    batch_size: int | None = None
    """Images per training step."""
    epochs: int | None = None
    """Passes over the training images, of a method that trains by epochs."""
    seeds: int = 1
    """Number of seeds; figures come with mean and deviation over them."""
    first_seed: int | None = None
    """The first of the consecutive seeds (default: the published one, or 0)."""
    baseline: str = "eszsl"
    """Method to compare with, under the same protocol, or none; dkgzsl is compared with closed-form, too."""
    report: Literal["on", "without-images", "off"] = "on"
    """Make report.html at the end, with test images where they are known, without them, or not at all."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Run folder (default: a fresh one under runs/)."""
    resume: bool = False
    """Continue the interrupted run in --out."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object on standard output."""
    log: tuple[str, ...] = ()
    """Loggers that get what metrics.jsonl gets: tensorboard, wandb (each a package to install)."""
    dry_run: bool = False
    """Print the plan, with sizes and times, and stop."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    settings: Hidden = field(default=None, metadata=HIDDEN)
    """Settings of the method: a mapping, or its settings class (default: the class's defaults)."""

    def __post_init__(self) -> None:
        check_ranges(self, "", at_least={"batch_size": 1, "epochs": 1, "seeds": 1, "first_seed": 0})
        check_place(self.on)
        if (self.first_seed or 0) + self.seeds > _SEEDS:
            raise ConfigError(f"first_seed must be below {_SEEDS - self.seeds + 1}, not {self.first_seed}")
        if self.representation == ():
            raise ConfigError("representation must name at least one")


@dataclass(frozen=True)
class ReproduceConfig:
    """Run published settings under both protocols, and show the figures next to the published ones."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")] = None
    """Data set of the published table, AWA2, CUB, SUN, ... (default: all), or a method by name."""
    method: str | None = None
    """Method by name (default: dkgzsl)."""
    backbone: str | None = None
    """One backbone of the table (default: all)."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    epochs: int | None = None
    """Number of epochs, to train for a shorter time than published; the table says so."""
    minutes: float | None = None
    """Processor time of one exploration of a peer that trains by epochs, at most (default: no limit)."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the runs, continued where they stopped (default: runs/reproduce-NAME)."""
    json: bool = False
    """Print one JSON object on standard output."""
    latex: bool = False
    """Print the table for LaTeX (booktabs) on standard output."""
    dry_run: bool = False
    """Print published settings, figures and notes, and stop."""

    def __post_init__(self) -> None:
        check_ranges(self, "", at_least={"epochs": 1}, above_zero=("minutes",))


@dataclass(frozen=True)
class BenchmarkConfig:
    """Compare methods over data sets, semantics and seeds in one table; the same command with --out goes on."""

    datasets: tuple[str, ...] = ("numbers",)
    """Data sets by name or folder; NAME@FEATURES names a feature file or store of it."""
    methods: tuple[str, ...] | None = None
    """Methods by name (default: all that are installed)."""
    semantics: tuple[str, ...] | None = None
    """Class descriptions by name; a data set takes those that it has (default: its own default)."""
    representations: tuple[str, ...] = ("pooled",)
    """How region features become a vector: pooled, pooled+scores, ...; each has its own rows in the table."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    protocol: Protocol = "validated"
    """validated: settings are chosen on validation classes, test scored once; oracle: chosen on the test set."""
    seeds: int = 3
    """Number of seeds of each method; each seed draws other held-out images."""
    iterative_seeds: int | None = None
    """Number of seeds of methods that train by epochs (default: the same number)."""
    first_seed: int = 0
    """The first of the consecutive seeds."""
    adapt: Literal["half", "same"] | None = None
    """Add transductive rows. half: adapt to half of the test images, score the others; same: score the same."""
    minutes: float | None = 1.0
    """Time limit of one exploration of a method that trains by epochs; validation classes choose its epoch. None
    (null in YAML): no limit."""
    clock: Literal["processor", "wall"] = "processor"
    """What minutes count: processor time of all threads together, or wall time, as always on a GPU."""
    epochs: int | None = None
    """Epochs of methods that train by epochs (default: each one's own); with --minutes None the only limit."""
    jobs: int = 1
    """Processes that run at once; they share the processor's cores."""
    on: str | None = None
    """ray: all cores of this machine, or the cluster at RAY_ADDRESS; ray://HOST:PORT: that cluster."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the cells and the table (default: a fresh one under runs/)."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file with any of these settings and with sections of methods; flags override it."""
    json: bool = False
    """Print one JSON object on standard output."""
    latex: bool = False
    """Print the table for LaTeX (booktabs) on standard output."""
    dry_run: bool = False
    """Print the cells, and stop."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    settings: Hidden = field(default=None, metadata=HIDDEN)
    """{method: its settings}, of the methods that shall not run with their defaults, as TrainConfig takes them."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "",
            at_least={"seeds": 1, "iterative_seeds": 1, "first_seed": 0, "jobs": 1, "epochs": 1},
            above_zero=("minutes",),
        )
        check_place(self.on)
        if self.on is not None and self.jobs != 1:
            raise ConfigError("--on and --jobs are both given", fix="name one: a cluster has as many as its cores")
        for name in ("datasets", "methods", "semantics", "representations"):
            if getattr(self, name) == ():
                raise ConfigError(f"{name} must name at least one")


@dataclass(frozen=True)
class TuneConfig(DataConfig):
    """Search for settings on your own data, scored on validation classes; test images are never scored.

    The search writes best.yaml (for `dkgzsl train --config`), trials.csv, and a journal from which it continues.
    """

    method: str | None = None
    """One of {methods} (default: closed-form, or dkgzsl, as published, where --epochs or --batch-size is set)."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    batch_size: int | None = None
    """Images per training step."""
    epochs: int | None = None
    """Passes over the training images, the same in every trial."""
    on: str | None = None
    """ray: all cores of this machine, or the cluster at RAY_ADDRESS; ray://HOST:PORT: that cluster."""
    trials: int = 60
    """Number of trials; those that are in --out already count."""
    at_once: int | None = None
    """Trials that are chosen together, so that a cluster can run them at once (default: as --out began, or 4)."""
    minutes: float | None = None
    """Begin no trial after this many minutes (default: no limit)."""
    seed: int = 0
    """Seed of the trials, of the held-out images and of training."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the search (required); the same command continues a search that is there."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file with any of these settings and with sections of methods; flags override it."""
    json: bool = False
    """Print one JSON object on standard output."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    settings: Hidden = field(default=None, metadata=HIDDEN)
    """Settings of the method: a mapping, or its settings class; those that are searched are replaced."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "",
            at_least={"batch_size": 1, "epochs": 1, "trials": 1, "at_once": 1, "seed": 0},
            above_zero=("minutes",),
        )
        check_place(self.on)
        if self.seed >= _SEEDS:
            raise ConfigError(f"seed must be below {_SEEDS}, not {self.seed}")
