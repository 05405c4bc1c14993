"""The run's card: what the model is, what its figures are worth, in one page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "t1": "T1, unseen images among unseen classes",
    "u": "U, unseen images among all classes",
    "s": "S, seen images among all classes",
    "h": "H, raw",
    "h_calibrated": "H, calibrated (constant from validation)",
    "ausuc": "AUSUC",
}


def percent(value: Mapping[str, float] | None) -> str:
    """`mean ± deviation` in percent, or a dash where undefined."""
    if value is None:
        return "–"
    return f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}"


def figures_line(figures: Mapping[str, float | None]) -> str:
    """One method's figures in percent, on one line."""
    shown = {"t1": "T1", "u": "U", "s": "S", "h": "H", "h_calibrated": "H calibrated", "ausuc": "AUSUC"}
    parts = []
    for key, name in shown.items():
        value = figures.get(key)
        parts.append(f"{name} –" if value is None else f"{name} {100 * value:.1f}")
    return ", ".join(parts)


def model_card(result: Mapping[str, Any], details: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """The card of a finished run."""
    lines = [
        f"# {result['dataset']}, variant `{result['variant']}`",
        "",
        "A zero-shot classifier: it recognises classes that had no training image, from their descriptions.",
        "",
        f"- protocol: {result['protocol']}{_warning(result, details)}",
        f"- semantics: {result['semantics']}; backbone: {result['backbone'] or 'not known'}",
        f"- seeds: {', '.join(map(str, result['seeds']))}; deviation over seeds, 0 for a single one",
        f"- split: sha256 {environment['split_sha256'][:16]}",
        f"- made with dkgzsl {environment['dkgzsl']}, torch {environment['libraries'].get('torch')}, on "
        f"{environment['device']}, in {result['seconds']:.0f} s",
        "",
        "| figure (%) | this model |",
        "|---|---|",
        *(f"| {name} | {percent(result['metrics'][key])} |" for key, name in _NAMES.items()),
        "",
    ]
    baseline = details.get("baseline")
    if baseline:
        lines += [
            f"ESZSL on the same split and semantics, validated alike: {figures_line(baseline['figures'])}.",
            "",
        ]
    chance = details["chance"]
    lines += [f"Chance: {100 * chance['t1']:.1f} among unseen classes, {100 * chance['u']:.1f} among all.", ""]
    return "\n".join(lines)


def _warning(result: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    if result["protocol"] != "paper":
        return ", test images scored once"
    looks = sum(seed["looks_at_test"] for seed in details["seeds_detail"])
    return f" — chosen on the test images, which were looked at {looks} times; only to compare with printed tables"
