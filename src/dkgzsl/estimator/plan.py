"""From an estimator's parameters to a plan, by the code that `train` decides by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from dkgzsl.config import RefinementConfig, TrainConfig, from_mapping
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.registry import DEFAULT, method_info
from dkgzsl.runs.plan import Plan, plan_of

SEEN_SHRINKAGE = tuple(sorted({0.2, *ClosedFormSettings.shrinkage}))
"""Tried where classes are not described: among seen classes alone less shrinkage is more accurate."""


def plan_for(params: Mapping[str, Any], problem: Problem, *, seed: int, described: bool) -> Plan:
    """Fill what an estimator leaves open.

    Args:
        params: its parameters by name.
        problem: its images, all for training.
        seed: of everything that is drawn.
        described: whether classes are described.

    Raises:
        ConfigError: a value is unknown or out of range, or two clash.
    """
    method = params["method"]
    settings = settings_from(method, params["settings"])
    if not described:
        settings = _without_descriptions(method, settings)
    given = params["representation"]
    chosen = (given,) if isinstance(given, str) else given
    config = TrainConfig(
        method=method,
        settings=settings,
        representation=None if chosen is None else tuple(chosen),
        epochs=params["epochs"],
        batch_size=params["batch_size"],
        first_seed=seed,
        refinement=params["refinement"] or RefinementConfig(),
        device=params["device"],
        baseline="none",
    )
    return plan_of(config, problem)


def settings_from(method: str, given: Any) -> Any:
    """Settings of a method, as an estimator takes them.

    Args:
        method: by name.
        given: of the method's settings class, a mapping {name: value}, or None for the defaults. One value may
            stand where several are tried.

    Raises:
        ConfigError: the method or a setting is unknown, or a value does not fit.
    """
    info = method_info(method)
    if given is None or is_dataclass(given):
        return info.settings() if given is None else given
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"settings cannot be a {type(given).__name__}",
            fix=f"give {{name: value}}, or a {info.settings.__name__}",
        )
    plain = {name: _plain(value) for name, value in given.items()}
    return from_mapping(info.settings, plain, where=f"settings of {method}")


def _plain(value: Any) -> Any:
    """Numbers and sequences as Python's own."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _without_descriptions(method: str, settings: object) -> ClosedFormSettings:
    if not isinstance(settings, ClosedFormSettings) or settings.classifier != "density":
        raise ConfigError(
            f"no class is described, and method={method!r} needs descriptions of the classes",
            fix=f'give semantics to fit, or take method="{DEFAULT}" with the classifier density',
        )
    usual = settings.shrinkage == ClosedFormSettings.shrinkage
    shrinkage = SEEN_SHRINKAGE if usual else settings.shrinkage
    return replace(
        settings,
        shrinkage=shrinkage,
        kernel_width=(0.0,),
        ridge=(0.1,),
        seen_blend=(0.0,),
        balance="off",
        episodes="off",
    )
