"""The run's card: what the model is, what its figures are worth, how to use it; Markdown as model hubs take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from dkgzsl.display import figures_line, mean_percent, percent
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.calibration import Calibration
from dkgzsl.features.weights import weights_in_words
from dkgzsl.methods.registry import method_info, method_title
from dkgzsl.report.estimate import Estimate, headline, leaning, what_it_is

_NAMES = {
    "t1": "T1, unseen images among unseen classes",
    "u": "U, unseen images among all classes",
    "s": "S, seen images among all classes",
    "h": "H, raw",
    "h_calibrated": "H, calibrated (constant from validation)",
    "ausuc": "AUSUC",
    "u_calibrated": "U, calibrated",
    "s_calibrated": "S, calibrated",
}
_VERBS = {
    "extendable": "dkgzsl add-class run --help           # a new class from its description",
    "adaptable": "dkgzsl adapt run photos/               # described classes move to photos without labels",
    "exportable": "dkgzsl export run --out model.onnx    # one file from pixels to probabilities, for ONNX",
}
_ONNX = (
    "",
    "```python",
    "import onnxruntime",
    "",
    'session = onnxruntime.InferenceSession("model.onnx")  # classes and preprocessing are in its metadata',
    'outputs = ["probabilities", "in_distribution"]',
    'probabilities, score = session.run(outputs, {"pixels": pixels})  # uint8, resized',
    "```",
)
_TASK = "zero-shot-image-classification"
_TAGS = ("zero-shot-learning", "generalized-zero-shot-learning", "generative", "image-classification")


def model_card(
    result: Mapping[str, Any],
    details: Mapping[str, Any],
    environment: Mapping[str, Any],
    *,
    license_id: str = "other",
    added: Sequence[tuple[str, str]] = (),
) -> str:
    """The card of a finished run: front matter that model hubs index, then what people read.

    Args:
        result: what `--json` prints.
        details: the further content of `result.json`.
        environment: of the run.
        license_id: a model hub's name of a licence; `other` says that it depends on data and backbone.
        added: name and kind (`unseen`, `described + 3 photos`) of classes that were added after the training.
    """
    import yaml

    front = yaml.safe_dump(
        _front_matter(result, details, environment, license_id), sort_keys=False, allow_unicode=True
    )
    able = _capabilities(result["method"])
    parts = [
        _introduction(result, details, extendable="extendable" in able),
        _added(added),
        _figures(result, details, environment),
        _intended_use(result, _kept(result, details)),
        _how_to_use(able, ((environment.get("data") or {}).get("store") or {}).get("weights") or {}),
        _made_with(result, environment),
    ]
    body = "\n".join(line for part in parts if part for line in (*part, ""))
    return f"---\n{front}---\n\n{body}"


def _front_matter(
    result: Mapping[str, Any], details: Mapping[str, Any], environment: Mapping[str, Any], license_id: str
) -> dict[str, Any]:
    """Tags, licence and the figures as a model index, each with what it depends on."""
    front: dict[str, Any] = {"license": license_id}
    if license_id == "other":
        front["license_name"] = "depends-on-data-and-backbone"
    provenance = {
        "protocol": result["protocol"],
        "semantics": result["semantics"],
        "backbone": result["backbone"],
        "seeds": list(result["seeds"]),
        "test_evaluations": _evaluations(details),
        "split_sha256": environment["split_sha256"],
    }
    metrics = [
        {
            "type": key,
            "name": f"{name} (fraction of 1)",
            "value": result["metrics"][key]["mean"],
            "args": {"deviation_over_seeds": result["metrics"][key]["std"]},
        }
        for key, name in _NAMES.items()
        if result["metrics"].get(key) is not None
    ]
    entry = {
        "task": {"type": _TASK, "name": "generalized zero-shot image classification"},
        "dataset": {
            "name": result["dataset"],
            "type": result["dataset"],
            "config": result["semantics"],
            "split": "test",
            "args": provenance,
        },
        "metrics": metrics,
    }
    estimate = headline(result["metrics"], details["seeds_detail"])
    estimated = [] if estimate is None else [_estimated_entry(entry, estimate)]
    return {
        "library_name": "dkgzsl",
        **front,
        "pipeline_tag": _TASK,
        "tags": [*_TAGS, f"method:{result['method']}", f"protocol:{result['protocol']}"],
        "model-index": [{"name": f"{result['dataset']}-{result['method']}", "results": [*estimated, entry]}],
    }


def _estimated_entry(entry: Mapping[str, Any], estimate: Estimate) -> dict[str, Any]:
    """The entry of a model index for figures on held-out seen classes, next to that of the test images."""
    metrics = [
        {
            "type": key,
            "name": f"{_of_held(name)} (fraction of 1)",
            "value": estimate.figures[key],
            "args": {"deviation_over_cuts": None if estimate.spread is None else estimate.spread.get(key)},
        }
        for key, name in _NAMES.items()
        if estimate.figures.get(key) is not None
    ]
    split = {"split": "validation", "args": {**entry["dataset"]["args"], "figures": estimate.named()}}
    return {**entry, "dataset": {**entry["dataset"], **split}, "metrics": metrics}


def _capabilities(method: str) -> tuple[str, ...]:
    """What the method's models can do; nothing is promised of a method that is not installed here."""
    try:
        return method_info(method).capabilities
    except ConfigError:
        return ()


def _introduction(result: Mapping[str, Any], details: Mapping[str, Any], *, extendable: bool) -> list[str]:
    unseen, classes = (round(1 / details["chance"][key]) for key in ("t1", "u"))
    calibrated = details["seeds_detail"][0].get("calibration") is not None
    added = " Classes can be added from a description." if extendable else ""
    return [
        f"# {result['dataset']}, method `{result['method']}`",
        "",
        f"A zero-shot classifier of {classes} classes: {classes - unseen} had training images, {unseen} are known",
        f"by their description (`{result['semantics']}`) alone.{added}",
        "Probabilities are calibrated on validation images, and an image may be none of the classes."
        if calibrated
        else "Probabilities are not calibrated: there were no validation images to do it by.",
    ]


def _added(classes: Sequence[tuple[str, str]]) -> list[str]:
    if not classes:
        return []
    named = ", ".join(f"{name} ({'described' if kind == 'unseen' else kind})" for name, kind in classes)
    return [f"Added after the training, and not in the figures below: {named}."]


def _figures(result: Mapping[str, Any], details: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Figures",
        "",
        f"- protocol: {result['protocol']}{_warning(result, details)}",
        f"- semantics: {result['semantics']}; backbone: {result['backbone'] or 'not known'}",
        f"- seeds: {', '.join(map(str, result['seeds']))}; deviation over seeds, 0 for a single one",
        f"- split: sha256 {environment['split_sha256'][:16]}",
        "",
        *_table(result, details),
        "",
    ]
    baseline = details.get("baseline")
    if baseline:
        estimate = headline(result["metrics"], details["seeds_detail"]) and Estimate.of([baseline])
        name, figures = method_title(baseline["method"]), figures_line(baseline["figures"])
        if estimate:
            figures = f"{figures_line(estimate.figures)}; {estimate.named()}"
        lines += [f"{name} on the same split and semantics, with the same validation: {figures}.", ""]
    why = leaning(result["method"], result["metrics"], baseline, details["seeds_detail"])
    lines += [f"{why}.", ""] if why else []
    chance = details["chance"]
    lines.append(f"Chance: {percent(chance['t1'])} among unseen classes, {percent(chance['u'])} among all.")
    reliability = details["seeds_detail"][0].get("reliability")
    if reliability:
        kept = ""
        if reliability["kept_unseen"] is not None and reliability["kept_seen"] is not None:
            kept = (
                f"; of the test images of known classes, {percent(reliability['kept_seen'], 0)} % of seen and "
                f"{percent(reliability['kept_unseen'], 0)} % of unseen ones are not taken for none of the classes"
            )
        lines += ["", f"Expected calibration error on test images: {percent(reliability['ece'])} %{kept}."]
    calibration = details["seeds_detail"][0].get("calibration")
    sure = None if calibration is None else Calibration.of_record(calibration).in_words
    if sure is not None:
        lines += ["", f"Calibration constant: {sure}."]
    return lines


def _table(result: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Figures on test images; where no described class has any, those on held-out seen classes first."""
    estimate = headline(result["metrics"], details["seeds_detail"])
    if estimate is None:
        rows = [
            f"| {name} | {mean_percent(result['metrics'].get(key), several=True)} |"
            for key, name in _NAMES.items()
        ]
        return ["| figure (%) | this model |", "|---|---|", *rows]
    first, *others = what_it_is(estimate, "the model")
    rows = [f"| {_of_held(name)} | {estimate.text(key)} |" for key, name in _NAMES.items()]
    tested = [
        f"{name}: {mean_percent(result['metrics'][key], several=True)}"
        for key, name in _NAMES.items()
        if result["metrics"].get(key) is not None
    ]
    return [
        f"The figures are {first}.",
        *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in others),
        "",
        "| figure (%) | this model, estimated |",
        "|---|---|",
        *rows,
        "",
        f"On test photos of seen classes: {'; '.join(tested)}.",
    ]


def _of_held(name: str) -> str:
    return name.replace("unseen images", "images of held-out classes").replace(
        "unseen classes", "held-out classes"
    )


def _kept(result: Mapping[str, Any], details: Mapping[str, Any]) -> str | None:
    """What of the training images' features lies in the model file, and what for."""
    try:
        keeps = method_info(result["method"]).keeps_features
    except ConfigError:  # a method of a package that is not installed here
        return None
    found = [keeps(one["setting"]) for one in details["seeds_detail"]] if keeps else []
    return next((one for one in found if one), None)


def _intended_use(result: Mapping[str, Any], kept: str | None) -> list[str]:
    return [
        "## Intended use and limits",
        "",
        "For research, and for sorting images of the kind it was trained on into its classes. Not for decisions",
        "about people, and not where an error is costly and nobody looks.",
        "",
        "- Images must go through the same backbone with the same weights; other features give nonsense quietly.",
        f"- An unseen class is known as well as `{result['semantics']}` describes it; classes that the table",
        "  hardly distinguishes are confused.",
        '- "None of these" finds images of other things well, and a missing class among its kin badly.',
        "- A figure holds for its protocol, semantics, backbone and split, and compares with no other. Whether",
        "  the backbone's training has seen the unseen classes or their kin is not known from here.",
        *([f"- The model file holds {kept}."] if kept else []),
    ]


def _how_to_use(able: Sequence[str], weights: Mapping[str, Any]) -> list[str]:
    words = weights_in_words(weights)
    verbs = [line for capability, line in _VERBS.items() if capability in able]
    return [
        "## How to use",
        "",
        "```console",
        'pip install -e ".[images,hub]"        # in a clone of the repository of dkgzsl',
        "dkgzsl pull OWNER/NAME --out run      # this model, or a folder it was pushed to",
        "dkgzsl predict run photo.jpg",
        *verbs,
        "```",
        *(["", f"Weights of the backbone: {words}."] if words else []),
        "",
        "```python",
        "from pathlib import Path",
        "from dkgzsl.inference.recognizer import Recognizer",
        "",
        'recognizer = Recognizer.from_run(Path("run"))',
        "predictions = recognizer.predict(features)  # features of the backbone named above, unscaled",
        "```",
        *(_ONNX if "exportable" in able else ()),
    ]


def _made_with(result: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    commit = environment.get("commit")
    return [
        "## Made with",
        "",
        f"dkgzsl {environment['dkgzsl']}{f' (commit {commit[:12]})' if commit else ''}, torch "
        f"{environment['libraries'].get('torch')}, on {environment['device']}, in {result['seconds']:.0f} s; run "
        f"`{PurePath(result['run']).name}`. Everything else stands in `config.yaml`, `environment.json` and "
        "`result.json`.",
    ]


def _evaluations(details: Mapping[str, Any]) -> int:
    seeds: Sequence[Mapping[str, Any]] = details["seeds_detail"]
    return sum(seed["test_evaluations"] for seed in seeds)


def _warning(result: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    if result["protocol"] != "oracle":
        return ", test images scored once"
    evaluations = _evaluations(details)
    return (
        f" — chosen on the test images, which were scored {evaluations} times; only to compare with printed tables"
    )
