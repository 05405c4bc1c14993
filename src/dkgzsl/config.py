"""The one vocabulary: the dataclasses behind the command line, the YAML files and the Python functions.

A field left at None is filled from the preset of the data set and backbone, or else from the value that its
docstring names; `config.yaml` in a run folder holds the filled form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from dkgzsl.errors import ConfigError, nearest

C = TypeVar("C")


def read_yaml(config: type[C], path: Path) -> C:
    """Read a YAML file into the dataclass `config`.

    Raises:
        ConfigError: the file cannot be read, or has a key or a value that does not fit.
    """
    import yaml

    try:
        content = _load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a YAML file: {error}", where=str(path)) from error
    return from_mapping(config, {} if content is None else content, where=str(path))


def _load(text: str) -> Any:
    """YAML whose `on` and `off` are the words that settings take; true and false alone are switches, as in 1.2."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, as its base."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in found if first in "tTfF" or not tag.endswith(":bool")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    loader = Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


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
        raise ConfigError(f"{prefix or 'the file'} must hold names and values, not {content!r}", where=where)
    known = {f.name: f for f in fields(config)}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(
                f"unknown setting {prefix}{key}",
                where=where,
                fix=nearest(str(key), known, of="settings here"),
            )
        section = known[key].default_factory
        if is_dataclass(section):
            _check_keys(section, value, where, f"{prefix}{key}.")


Variant = Literal["dkgzsl", "paper"]
Protocol = Literal["validated", "oracle"]
Switch = Literal["auto", "on", "off"]
_SEEDS = 2**63 - 1  # what random streams take, with one to spare for a second stream


def _check(
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
class ClosedFormSettings:
    """The default form: knowledge in closed form. Lists are tried on validation classes, one value is taken."""

    components: tuple[int, ...] = (512, 1024)
    """Principal components kept before whitening, never above what the features have."""
    shrinkage: tuple[float, ...] = (0.1, 0.4, 0.6, 0.8)
    """Share of the within-class covariance that is replaced by its mean variance, 0 to 1."""
    kernel_width: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Variance of the Gaussian kernel between class descriptions; 0 stands for the linear kernel."""
    feature_kernel_width: tuple[float, ...] = (0.0, 1.0)
    """Variance of a Gaussian kernel between images, in median squared distances; 0: the features themselves."""
    ridge: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Ridge of the kernel regression, as a share of the kernel's mean diagonal."""
    seen_blend: tuple[float, ...] = (0.0, 0.5, 1.0)
    """How far seen prototypes move from their own means to what the other classes predict, 0 to 1."""
    square_root: Switch = "auto"
    """Square root of the features first; auto: where none is negative."""
    description_root: Switch = "auto"
    """Square root of the class descriptions; auto: where none is negative and it predicts seen classes better."""
    unit_length: Switch = "on"
    """Scale whitened features to unit length; auto: where validation prefers it."""
    uncertainty: Switch = "off"
    """Let unseen classes spread by what their prototypes do not know; auto: where validation prefers it."""
    balance: Literal["on", "off"] = "on"
    """Even out seen and unseen classes by what leave-one-class-out predictions err; no held-out image is used."""
    episodes: Literal["auto", "off", "weights", "residual"] = "auto"
    """Learn on class descriptions by episodes: weights or a residual; auto: weights if validation prefers them."""
    fusion: Switch = "off"
    """Learn a residual of the prototypes through meta-fusion units; auto: where validation prefers it."""

    def __post_init__(self) -> None:
        _check(
            self,
            "knowledge.",
            at_least={"components": 1, "kernel_width": 0, "feature_kernel_width": 0},
            above_zero=("ridge",),
            shares=("shrinkage", "seen_blend"),
        )


@dataclass(frozen=True)
class AdversarialConfig:
    """The published form: the adversarially trained generator (variant `paper`)."""

    hidden_size: int | None = None
    """Width of the hidden layers (published: 4096)."""
    learning_rate: float | None = None
    """Adam's learning rate of generator, critic and knowledge transfer network."""
    fusion_learning_rate: float | None = None
    """Adam's learning rate of the meta-fusion units."""
    gamma: float | None = None
    """Weight of the adversarial objective."""
    penalty_weight: float = 10.0
    """Initial weight of the gradient penalty; it adapts from there."""
    critic_steps: int = 5
    """Critic steps a generator step."""
    knowledge_weight: float = 0.1
    """Weight of the knowledge transfer network's reconstruction loss."""
    fusion_weight: float = 0.1
    """Length of the guidance that is added at each generator layer."""
    evaluate_every: int | None = None
    """Epochs between evaluations on held-out images (default: 10 in all, and always at the end)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the matrix products; bfloat16 is about three times as fast on recent processors."""

    def __post_init__(self) -> None:
        _check(
            self,
            "adversarial.",
            at_least={
                "hidden_size": 2,
                "critic_steps": 1,
                "evaluate_every": 1,
                "knowledge_weight": 0,
                "fusion_weight": 0,
            },
            above_zero=("learning_rate", "fusion_learning_rate", "gamma", "penalty_weight"),
        )


@dataclass(frozen=True)
class ClassifierConfig:
    """The softmax classifier on real seen and synthesized unseen features."""

    per_class: int | None = None
    """Features synthesized for each unseen class."""
    learning_rate: float | None = None
    """Adam's learning rate."""
    epochs: int = 25
    """Passes over real and synthesized features."""

    def __post_init__(self) -> None:
        _check(self, "softmax.", at_least={"per_class": 1, "epochs": 1}, above_zero=("learning_rate",))


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
    """Training steps (default: 600, or as published for the variant paper: 1101, SUN 1501)."""
    batch_size: int = 50
    """Images a step, drawn so that every class comes equally often."""
    learning_rate: float = 1e-4
    """RMSprop's learning rate."""
    weight_decay: float = 1e-4
    """RMSprop's weight decay."""
    momentum: float = 0.9
    """RMSprop's momentum."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products; auto: bfloat16 where the device has it (variant paper: float32)."""

    def __post_init__(self) -> None:
        _check(
            self,
            "refinement.",
            at_least={"steps": 0, "batch_size": 1, "weight_decay": 0, "momentum": 0},
            above_zero=("learning_rate",),
        )


@dataclass(frozen=True)
class DataConfig:
    """Which data is learned from, and what of it: the settings that `train` and `tune` share."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME_OR_FOLDER")] = None
    """Data set by name (numbers, AWA2, CUB, SUN, ...), a folder in the xlsa17 layout, or an imported problem."""
    dataset: str | None = None
    """The same as NAME_OR_FOLDER, as the published command line has it."""
    data_root: str | None = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    features: str | None = None
    """Feature file by name (res101, vgg_fc7, ...), a path, or a feature store (default: from the backbone)."""
    extra_features: tuple[str, ...] = ()
    """Further feature files or stores of the same images, by other backbones: global vectors side by side."""
    semantics: str | None = None
    """Class descriptions by name (default: from the preset)."""
    backbone: str | None = None
    """Backbone of the features (resnet101, vit-b/16, ...): chooses feature file and preset."""
    representation: tuple[str, ...] | None = None
    """How region features become a vector; several are tried on validation classes. Blocks joined by +: pooled,
    mean, maximum, generalised, refined, scores, extra (default: pooled, and pooled+scores; paper: refined)."""


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Train on a data set, score it, leave a run folder."""

    variant: Variant | None = None
    """dkgzsl: knowledge in closed form (default); paper: the published, adversarial form."""
    protocol: Protocol = "validated"
    """validated: choices on validation classes, test scored once; oracle: choices on the test set."""
    config: str | None = None
    """YAML file with any of these settings, under every flag."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    batch_size: int | None = None
    """Images a training step; without --variant this selects paper."""
    epochs: int | None = None
    """Passes over the training images; without --variant this selects paper."""
    seeds: int = 1
    """How many seeds to run; figures come with mean and deviation over them."""
    first_seed: int | None = None
    """The first of the consecutive seeds (default: from the preset, or 0)."""
    classifier: Literal["density", "softmax"] | None = None
    """Score by class densities (default of dkgzsl) or by a softmax on synthesized features (paper)."""
    baseline: Literal["eszsl", "none"] = "eszsl"
    """Method to print beside ours, chosen alike; beside the published form stands the default, too."""
    report: Literal["on", "without-images", "off"] = "on"
    """Make report.html at the end, with test images where they are known, without them, or not at all."""
    out: str | None = None
    """Run folder (default: a fresh one under runs/)."""
    resume: bool = False
    """Continue the interrupted run in --out."""
    overwrite: bool = False
    """Replace the run in --out."""
    json: bool = False
    """Print one JSON object on standard output."""
    dry_run: bool = False
    """Print the plan, with sizes and times, and stop."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    knowledge: ClosedFormSettings = field(default_factory=ClosedFormSettings)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    softmax: ClassifierConfig = field(default_factory=ClassifierConfig)

    def __post_init__(self) -> None:
        _check(self, "", at_least={"batch_size": 1, "epochs": 1, "seeds": 1, "first_seed": 0})
        if (self.first_seed or 0) + self.seeds > _SEEDS:
            raise ConfigError(f"first_seed must be below {_SEEDS - self.seeds + 1}, not {self.first_seed}")
        if self.representation == ():
            raise ConfigError("representation must name at least one")


@dataclass(frozen=True)
class ReproduceConfig:
    """Published settings run under both protocols, beside the published figures."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET_OR_METHOD")]
    """A data set of the method's own table (AWA2, CUB, SUN), or a peer (eszsl, class-norm, ...)."""
    backbone: str | None = None
    """One backbone of the table (default: all)."""
    data_root: str | None = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    epochs: int | None = None
    """Fewer epochs than published; the table says so."""
    minutes: float | None = None
    """Cap of one exploration of a peer that is trained by epochs (default: none)."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    out: str | None = None
    """Folder of the runs, continued where they stopped (default: runs/reproduce-NAME)."""
    json: bool = False
    """Print one JSON object on standard output."""
    dry_run: bool = False
    """Print published settings, figures and notes, and stop."""

    def __post_init__(self) -> None:
        _check(self, "", at_least={"epochs": 1}, above_zero=("minutes",))


@dataclass(frozen=True)
class BenchmarkConfig:
    """Methods x data sets x semantics x seeds in one table; what is done in --out is not done again."""

    datasets: tuple[str, ...] = ("numbers",)
    """Data sets by name or folder; NAME@FEATURES names a feature file or store of it."""
    methods: tuple[str, ...] | None = None
    """Methods by name (default: all that are installed)."""
    semantics: tuple[str, ...] | None = None
    """Class descriptions by name; a data set takes those that it has (default: its own default)."""
    representations: tuple[str, ...] = ("pooled",)
    """How region features become a vector, a column of the table each: pooled, pooled+scores, ..."""
    data_root: str | None = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    protocol: Protocol = "validated"
    """validated: choices on validation classes, test scored once; oracle: choices on the test set."""
    seeds: int = 3
    """Seeds of every method; they redraw the held-out images, too."""
    iterative_seeds: int | None = None
    """Seeds of methods that are trained by epochs (default: as many as all others)."""
    first_seed: int = 0
    """The first of the consecutive seeds."""
    minutes: float = 1.0
    """Cap of one exploration of a method that is trained by epochs; its epoch is chosen on validation."""
    jobs: int = 1
    """Processes side by side; they share the processor's cores."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    out: str | None = None
    """Folder of the cells and the table (default: a fresh one under runs/)."""
    config: str | None = None
    """YAML file with any of these settings, under every flag."""
    json: bool = False
    """Print one JSON object on standard output."""
    dry_run: bool = False
    """Print the cells, and stop."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)

    def __post_init__(self) -> None:
        _check(
            self,
            "",
            at_least={"seeds": 1, "iterative_seeds": 1, "first_seed": 0, "jobs": 1},
            above_zero=("minutes",),
        )
        for name in ("datasets", "methods", "semantics", "representations"):
            if getattr(self, name) == ():
                raise ConfigError(f"{name} must name at least one")


@dataclass(frozen=True)
class TuneConfig(DataConfig):
    """Search for settings on your own data, scored on validation classes; test images are not looked at.

    What the search leaves in --out: best.yaml for `dkgzsl train`, trials.csv, and the journal it continues from.
    """

    variant: Variant | None = None
    """dkgzsl: knowledge in closed form (default); paper: the published, adversarial form."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    batch_size: int | None = None
    """Images a training step; without --variant this selects paper."""
    epochs: int | None = None
    """Passes over the training images, the same in every trial; without --variant this selects paper."""
    trials: int = 60
    """Trials in all; those that --out holds count."""
    minutes: float | None = None
    """No trial begins after so many minutes (default: no limit)."""
    seed: int = 0
    """Draws the trials, the held-out images and what is learned."""
    out: str | None = None
    """Folder of the search (needed); one that was begun with the same settings goes on."""
    config: str | None = None
    """YAML file with any of these settings, under every flag."""
    json: bool = False
    """Print one JSON object on standard output."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)

    def __post_init__(self) -> None:
        _check(
            self,
            "",
            at_least={"batch_size": 1, "epochs": 1, "trials": 1, "seed": 0},
            above_zero=("minutes",),
        )
        if self.seed >= _SEEDS:
            raise ConfigError(f"seed must be below {_SEEDS}, not {self.seed}")
