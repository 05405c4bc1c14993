"""Provenance: data, settings and software behind the numbers of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.headline import test_evaluations
from dkgzsl.report.wording import name, percent, printable, value_text

_PROTOCOLS = {
    "validated": "validated: all choices were made on validation classes, which are part of the training classes",
    "oracle": "oracle: the model with the best figures on the test images was chosen, as in many printed tables",
}


def provenance(content: RunContent) -> list[tuple[str, str]]:
    """Names and values of what the numbers depend on."""
    result, environment = content.result, content.environment
    data: Mapping[str, Any] = environment.get("data", {})
    libraries = environment.get("libraries", {})
    store = data.get("store") or {}
    weights = store.get("weights") or {}
    backbone = result["backbone"] or "not known"
    if weights:
        source = weights.get("file") or weights.get("source")
        backbone += f", weights {source}" + (
            f" (sha256 {weights['sha256'][:12]}…)" if weights.get("sha256") else ""
        )
    rows = [
        ("data set", result["dataset"]),
        ("protocol", _PROTOCOLS.get(content.protocol, content.protocol)),
        ("test images", test_evaluations(content)),
        ("semantics", _semantics(content)),
        ("backbone", backbone),
        ("features", _features(data, content)),
        ("split", f"{_split(data)}sha256 {environment['split_sha256']}"),
        ("method", _method(content)),
        ("seeds", ", ".join(map(str, result["seeds"]))),
        ("date", _date(environment.get("started"))),
        ("versions", f"dkgzsl {environment['dkgzsl']}, Python {environment['python']}, " + _pairs(libraries)),
        ("commit", environment.get("commit") or "unknown (not a checkout)"),
        (
            "machine",
            f"{environment['device']}, {environment.get('threads')} threads, {environment.get('platform')}",
        ),
        ("time", f"{result['seconds']:.0f} s"),
    ]
    return [(key, printable(str(value))) for key, value in rows]


def _method(content: RunContent) -> str:
    """The method and, where it has a choice of classifiers, the classifier."""
    section = content.config.get("closed_form") or {}
    classifier = content.config.get("classifier") or section.get("classifier")
    return f"{content.method}, classifier {classifier}" if classifier else content.method


def _date(started: str | None) -> str:
    return "not recorded (an older run)" if started is None else f"{started[:16].replace('T', ' ')} UTC"


def settings(content: RunContent) -> list[tuple[str, str]]:
    """The setting of the first seed's model."""
    detail = content.detail
    rows = [("representation", detail.get("representation") or "not recorded")]
    rows += [(key.replace("_", " "), value_text(value)) for key, value in detail["setting"].items()]
    if detail.get("constant") is not None:
        rows.append(("calibration constant", _constant(detail)))
    if (detail.get("cuts") or 0) > 1:
        rows.append(("validation", f"{detail['cuts']} divisions of the seen classes; {_validated(detail)}"))
    return [(key, printable(value)) for key, value in rows]


def _constant(detail: Mapping[str, Any]) -> str:
    """The constant and, where it was found on several cuts, how far they agree."""
    used, found, spread = detail["constant"], detail.get("constant_found"), detail.get("constant_spread")
    if found is None or spread is None:
        return f"{used:.4g}"
    return f"{used:.4g} ({found:.4g} ± {spread:.4g} over the validation divisions, shrunk by its spread)"


def _validated(detail: Mapping[str, Any]) -> str:
    """Figures on the cuts with their deviation, in percent."""
    mean, spread = detail.get("validation") or {}, detail.get("validation_spread") or {}
    shown = [
        f"{title} {percent(mean[key])} ± {percent(spread[key])} %"
        for key, title in (("h_calibrated", "H calibrated"), ("ausuc", "AUSUC"))
        if mean.get(key) is not None and spread.get(key) is not None
    ]
    return ", ".join(shown)


def file_hashes(content: RunContent) -> list[tuple[str, str]]:
    """Files from which the data was read, with their hashes."""
    files: Mapping[str, Any] = content.environment.get("data", {}).get("files") or {}
    return [(printable(str(file)), printable(str(digest))) for file, digest in files.items()]


def _semantics(content: RunContent) -> str:
    size = "" if content.first is None else f", {content.first.facts['semantic_size']} numbers for each class"
    return f"{name(content.result['semantics'])}{size}"


def _features(data: Mapping[str, Any], content: RunContent) -> str:
    representation = content.detail.get("representation") or "not recorded"
    return f"{data.get('features', 'given')}, representation {representation}"


def _split(data: Mapping[str, Any]) -> str:
    return f"{data['splits']}; " if isinstance(data.get("splits"), str) else ""


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
