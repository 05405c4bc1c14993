"""From an estimator's parameters to a plan: the one vocabulary of `TrainConfig`, in scikit-learn's flat form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from dkgzsl.config import AdversarialConfig, ClassifierConfig, ClosedFormSettings, RefinementConfig, TrainConfig
from dkgzsl.data.problem import Problem
from dkgzsl.device import device_of
from dkgzsl.errors import ConfigError
from dkgzsl.methods.dkgzsl.presets import resolve_paper
from dkgzsl.runs.plan import DEFAULT_REPRESENTATIONS, Plan

SEEN_SHRINKAGE = tuple(sorted({0.2, *ClosedFormSettings.shrinkage}))
"""Tried where classes are not described: seen classes alone are told apart better with less."""


def plan_for(
    params: Mapping[str, Any], problem: Problem, *, seed: int, described: bool, attributes_known: bool
) -> Plan:
    """Fill what an estimator leaves open.

    Args:
        params: its parameters by name.
        problem: its images, all for training.
        seed: of everything that is drawn.
        described: whether classes are described.
        attributes_known: whether descriptions are attributes that SOVR can attend by.

    Raises:
        ConfigError: a value is unknown or out of range, or two clash.
    """
    variant = params["variant"]
    knowledge = {field.name: params[field.name] for field in fields(ClosedFormSettings)}
    if knowledge["shrinkage"] is None:
        knowledge["shrinkage"] = ClosedFormSettings.shrinkage if described else SEEN_SHRINKAGE
    for name in ("components", "shrinkage", "kernel_width", "feature_kernel_width", "ridge", "seen_blend"):
        knowledge[name] = _several(knowledge[name], int if name == "components" else float)
    config = TrainConfig(
        variant=variant,
        classifier=params["classifier"] or ("softmax" if variant == "paper" else "density"),
        representation=_representation(params["representation"], problem, variant, attributes_known),
        epochs=params["epochs"],
        batch_size=params["batch_size"],
        first_seed=seed,
        knowledge=ClosedFormSettings(**knowledge),
        refinement=params["refinement"] or RefinementConfig(),
        adversarial=params["adversarial"] or AdversarialConfig(),
        softmax=params["softmax"] or ClassifierConfig(),
    )
    if variant == "paper" and config.classifier == "density":
        raise ConfigError("the published form has no class densities", fix='leave classifier out, or "softmax"')
    if not described and (variant == "paper" or config.classifier == "softmax"):
        raise ConfigError(
            "features are synthesized from descriptions, and no class is described",
            fix='give semantics to fit, or take variant="dkgzsl" with classifier="density"',
        )
    if variant == "paper":
        config = resolve_paper(config, None)
    device = device_of(params["device"])
    return Plan(replace(config, device=str(device)), problem, config.variant or "dkgzsl", (seed,), device, ())


def _several(value: Any, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """One number, or several, as a tuple of Python's own."""
    values = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    for one in values:
        if isinstance(one, str) or kind(one) != one:
            raise ConfigError(f"{one!r} is no number" if kind is float else f"{one!r} is no whole number")
    return tuple(kind(one) for one in values)


def _representation(given: Any, problem: Problem, variant: str, attributes_known: bool) -> tuple[str, ...]:
    if given is not None:
        chosen = (given,) if isinstance(given, str) else tuple(given)
        learned = [name for name in chosen if name != "pooled"]
        if learned and not problem.has_regions:
            raise ConfigError(
                f"the features are vectors: there are no regions for the representation {learned[0]!r}",
                fix='give region tokens [N, 1 + R, C], or leave representation at "pooled"',
            )
        return chosen
    if not problem.has_regions or not attributes_known:
        return ("pooled",)
    return ("refined",) if variant == "paper" else DEFAULT_REPRESENTATIONS
