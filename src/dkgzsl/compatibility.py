"""Saved things of older versions: read as what they were, or refused in one line that names the version.

Format 1 is that of dkgzsl 0.1: `variant` names the method, `dkgzsl` the closed form and `paper` the published
method; the protocol `oracle` is called `paper`; settings lie in the sections `knowledge`, `adversarial` and
`softmax`. Format 2 names methods as the registry does. Everything that is saved says its format; what says none is
of format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dkgzsl.errors import ConfigError, RunError

FORMAT: Final = 2
"""Of what is saved now: configurations, results, models, benchmark cells, estimators."""

_METHODS: Final = {"dkgzsl": "closed-form", "paper": "dkgzsl", "f-vaegan": "f-vaegan-d2"}
_ONLY_NEW: Final = {"closed-form", "f-vaegan-d2"}
"""Methods that have these names in format 2 alone: a file that names one is no file of format 1."""
_KINDS: Final = {**_METHODS, "dkgzsl-softmax": "closed-form-softmax"}
_OLD_KEYS: Final = ("variant", "classifier", "beside", "knowledge", "adversarial", "softmax")
_OLD_BLOCK, _BLOCK = "beside", "extra"
_GONE: Final = {"uncertainty": ("on", "auto", True), "fusion": ("on", "auto", True), "episodes": ("residual",)}
"""Options of the closed form that went with format 1, and their values that changed a model."""


def name_of_method(old: str) -> str:
    """Today's name of a method by its name in format 1."""
    return {"paper": "dkgzsl", "f-vaegan": "f-vaegan-d2"}.get(old, old)


_FLAGS: Final = {
    "variant": "--method (closed-form where it was dkgzsl, dkgzsl where it was paper)",
    "classifier": "--closed-form.classifier",
    "beside": "--extra-features",
}
_SECTIONS: Final = {
    "--knowledge.": ("--closed-form.",),
    "--adversarial.": ("--dkgzsl.",),
    "--softmax.": ("--closed-form.softmax.", "--dkgzsl.softmax."),
}


def flag_of_today(flag: str) -> str | None:
    """What to write instead of a flag of dkgzsl 0.1, as advice; None where it is none of them."""
    section, _, name = flag.rpartition(".")
    if section in ("--knowledge", "--closed-form") and name in _GONE and name != "episodes":
        return "the closed form has this option no more: leave it out (docs/lab-notes.md says what it did)"
    if (old := flag.removeprefix("--")) in _FLAGS:
        return f"it is called {_FLAGS[old]} now"
    names = next((new for prefix, new in _SECTIONS.items() if flag.startswith(prefix)), ())
    today = [f"{new}{flag.partition('.')[2]}" for new in names]
    return f"it is called {' or '.join(today)} now" if today else None


def model_kind(values: Mapping[str, Any], *, where: str) -> str:
    """The kind of model that a model file's values name.

    Raises:
        RunError: the model uses an option that went with format 1, or a later version wrote the file.
    """
    check_format(values, where=where)
    if "kind" in values:
        return str(values["kind"])
    setting = values["values"].get("setting", {})
    gone = [name for name, used in _GONE.items() if setting.get(name) in used]
    if gone:
        raise RunError(
            f"the model was made by dkgzsl 0.1 with the option {gone[0]!r}, which was removed",
            where=where,
            fix="use it with dkgzsl 0.1, or train again",
        )
    return str(_KINDS.get(values["method"], values["method"]))


def check_format(content: Mapping[str, Any], *, where: str) -> int:
    """The format of saved content, 1 where it says none.

    Raises:
        RunError: a later version wrote it.
    """
    found = content.get("format", 1)
    if not isinstance(found, int) or found > FORMAT:
        raise RunError(
            f"a later dkgzsl wrote this (format {found!r}, this version reads up to {FORMAT})",
            where=where,
            fix="update dkgzsl",
        )
    return found


def is_old_config(content: Any) -> bool:
    """Whether a configuration, read from YAML, has the names of format 1."""
    if not isinstance(content, dict) or "format" in content or "method" in content:  # format 1 knew no `method`
        return False
    if _listed(content) & _ONLY_NEW or content.keys() & {name.replace("-", "_") for name in _ONLY_NEW}:
        return False
    old = content.keys() & {*_OLD_KEYS} or content.get("protocol") == "paper" or _listed(content) & _METHODS.keys()
    return bool(old)


def _listed(content: Mapping[str, Any]) -> set[str]:
    """The methods that the configuration of a benchmark lists."""
    methods = content.get("methods") or ()
    return {methods} if isinstance(methods, str) else {*map(str, methods)}


def upgraded_config(content: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """A configuration of format 1 in the names of format 2.

    Args:
        content: what a YAML file, or the `config.yaml` of a run, holds.
        where: the file, for the message.

    Raises:
        ConfigError: it sets an option that was removed, or may be of either format.
    """
    if content.keys() & {"datasets", "methods"}:
        return _upgraded_benchmark(content, where)
    new = {key: value for key, value in content.items() if key not in _OLD_KEYS}
    variant, classifier = content.get("variant"), content.get("classifier")
    epochs = any(content.get(name) is not None for name in ("epochs", "batch_size"))
    if variant is not None or not epochs:
        new["method"] = _METHODS.get(variant or "dkgzsl", variant)
    published = new.get("method", "dkgzsl") == "dkgzsl"
    closed_form = dict(content.get("knowledge") or {})
    adversarial = dict(content.get("adversarial") or {})
    softmax = dict(content.get("softmax") or {})
    if published:
        new |= {"dkgzsl": {**adversarial, **({"softmax": softmax} if softmax else {})}}
    else:
        closed_form = _without_gone(closed_form, where)
        for name in ("epochs", "batch_size"):
            new.pop(name, None)
        if classifier:
            closed_form["classifier"] = classifier
        new |= {"closed_form": {**closed_form, **({"softmax": softmax} if softmax else {})}}
    if content.get("protocol") == "paper":
        new["protocol"] = "oracle"
    if content.get("beside"):
        new["extra_features"] = content["beside"]
    if content.get("representation"):
        given = content["representation"]
        new["representation"] = (
            upgraded_blocks(given) if isinstance(given, str) else [*map(upgraded_blocks, given)]
        )
    return new


def _upgraded_benchmark(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    listed, new = _listed(content), dict(content)
    if content.get("protocol") == "paper":
        new["protocol"] = "oracle"
    elif "dkgzsl" in listed and not listed & {"paper", "f-vaegan"}:  # a new file, or one that means another method
        raise ConfigError(
            "the method 'dkgzsl' is the closed form in a file of dkgzsl 0.1 (format 1), and not in one of today",
            where=where,
            fix="write closed-form, or add the line 'format: 2' if you mean the published method",
        )
    if listed:
        given = content["methods"]
        new["methods"] = [_METHODS.get(name, name) for name in ([given] if isinstance(given, str) else given)]
    return new


def upgraded_blocks(name: str) -> str:
    """The name of a representation, its blocks as they are called now."""
    return "+".join(_BLOCK if part.strip() == _OLD_BLOCK else part for part in name.split("+"))


def upgraded_result(content: Mapping[str, Any]) -> dict[str, Any]:
    """A `result.json` of format 1 in the names of format 2."""
    new = {key: value for key, value in content.items() if key != "variant"}
    if "variant" in content:
        new["method"] = _METHODS.get(content["variant"], content["variant"])
    if content.get("protocol") == "paper":
        new["protocol"] = "oracle"
    for name in ("baseline", "default"):
        if content.get(name):
            new[name] = upgraded_seed(content[name])
    if "seeds_detail" in content:
        new["seeds_detail"] = [upgraded_seed(one) for one in content["seeds_detail"]]
    return new


def upgraded_seed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a seed, or a method that was run for comparison, has left."""
    renamed = {"looks": "evaluations", "looks_at_test": "test_evaluations"}
    new = {renamed.get(key, key): value for key, value in content.items()}
    if "method" in new:
        new["method"] = _METHODS.get(new["method"], new["method"])
    if "representation" in new:
        new["representation"] = upgraded_blocks(new["representation"])
    return new


def upgraded_estimator(params: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Parameters of an estimator of format 1, where every setting of the closed form was one of its own.

    Raises:
        ConfigError: it sets an option that was removed.
    """
    kept = ("representation", "refinement", "validation_classes", "backbone", "weights", "image_size", "device")
    new: dict[str, Any] = {name: params[name] for name in (*kept, "random_state")}
    new["method"] = _METHODS.get(params["variant"], params["variant"])
    softmax = {"softmax": params["softmax"]} if params.get("softmax") else {}
    if new["method"] == "dkgzsl":
        schedule = {name: params[name] for name in ("epochs", "batch_size") if params.get(name) is not None}
        return {**new, "settings": {**(params.get("adversarial") or {}), **schedule, **softmax}}
    own = {name: params[name] for name in _CLOSED_FORM if params.get(name) is not None}
    if params.get("classifier"):
        own["classifier"] = params["classifier"]
    return {**new, "settings": _without_gone({**own, **softmax}, where)}


_CLOSED_FORM: Final = (
    *("components", "shrinkage", "kernel_width", "feature_kernel_width", "ridge", "seen_blend", "square_root"),
    *("description_root", "unit_length", "balance", "episodes", *_GONE),
)


def upgraded_event(content: Mapping[str, Any]) -> dict[str, Any]:
    """A line of `metrics.jsonl`."""
    return {**content, "event": "evaluation"} if content.get("event") == "look" else dict(content)


def _without_gone(section: dict[str, Any], where: str) -> dict[str, Any]:
    for name, used in _GONE.items():
        value = section.get(name)
        if value in used:
            raise ConfigError(
                f"knowledge.{name}: {value} is an option of dkgzsl 0.1 that was removed",
                where=where,
                fix="leave it out; docs/lab-notes.md says what it did",
            )
        if name != "episodes":
            section.pop(name, None)
    return section
