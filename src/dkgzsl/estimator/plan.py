"""From what an estimator is given to a problem and a plan, by the code that `train` decides by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from dkgzsl.config import RefinementConfig, TrainConfig
from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.estimator.descriptions import Descriptions, joined_classes, warn_of_equal
from dkgzsl.estimator.input import Images, positions_of, seen_classes
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.registry import DEFAULT
from dkgzsl.methods.sections import with_schedule
from dkgzsl.runs.model_record import UNDESCRIBED
from dkgzsl.runs.plan import Plan, plan_of

SOURCE: Final = "semantics"
"""Name of the descriptions in the problem."""
SEEN_SHRINKAGE = tuple(sorted({0.2, *ClosedFormSettings.shrinkage}))
"""Tried where classes are not described: among seen classes alone less shrinkage is more accurate."""
_NONE = np.empty(0, np.int64)


def training_problem(
    images: Images,
    labels: np.ndarray,
    described: Descriptions | None,
    *,
    validation_classes: Sequence[Any] | None,
) -> tuple[Problem, np.ndarray]:
    """The problem that `fit` solves: all its images are for training, and none is for testing.

    Args:
        images: of the seen classes.
        labels: class of each image.
        described: the descriptions; None: no class is described, and there are the seen classes alone.
        validation_classes: labels that validation treats as unseen; None: a third of the seen classes.

    Returns:
        The problem, and the labels of all its classes, sorted. The problem numbers seen classes first, so that a
        class that is described later changes no other's number.

    Raises:
        ValueError: the labels are no classes, there is only one class, no class has two different images, or
            (`InputError`) a seen class is not described, or a validation class is none of the seen classes.
    """
    seen, positions = seen_classes(labels, images.features)
    known = set(seen.tolist())
    others = [] if described is None else [c for c in described.classes if c not in known]
    classes = joined_classes(seen, others)
    order = [*seen.tolist(), *np.setdiff1d(classes, seen).tolist()]
    if described is not None:
        warn_of_equal(order, described.rows_of(order), seen.tolist())
    columns = None if described is None else described.columns
    # A representation may attend by attributes alone, and columns without names are none: they count as computed.
    unnamed: dict[str, Any] = {} if columns is not None else {"computed_semantics": {SOURCE: {}}}
    problem = problem_from_arrays(
        images.features,
        positions,
        {UNDESCRIBED: np.eye(len(seen))} if described is None else {SOURCE: described.rows_of(order)},
        class_names=[str(label) for label in order],
        parts={"trainval": np.arange(len(labels)), "test_seen": _NONE, "test_unseen": _NONE},
        validation_classes=positions_of(validation_classes, seen),
        name="fit",
        provenance={**images.record, **unnamed},
        attribute_names={SOURCE: columns} if columns else None,
    )
    return problem, classes


def plan_for(params: Mapping[str, Any], problem: Problem, *, seed: int, described: bool) -> Plan:
    """Fill what the parameters leave open.

    Args:
        params: the estimator's parameters by name.
        problem: its images, all for training.
        seed: of everything that is drawn.
        described: whether classes are described.

    Raises:
        ConfigError: a value is unknown or out of range, or two clash.
    """
    method = params["method"]
    settings = with_schedule(method, params["settings"], params)
    if not described:
        settings = _without_descriptions(method, settings)
    given = params["representation"]
    chosen = (given,) if isinstance(given, str) else given
    config = TrainConfig(
        method=method,
        settings=settings,
        representation=None if chosen is None else tuple(chosen),
        first_seed=seed,
        refinement=params["refinement"] or RefinementConfig(),
        device=params["device"],
        baseline="none",
    )
    return plan_of(config, problem)


def _without_descriptions(method: str, settings: object) -> ClosedFormSettings:
    """Settings where the seen classes stand alone: what concerns descriptions has one value.

    Raises:
        ConfigError: the method does nothing without descriptions.
    """
    if not isinstance(settings, ClosedFormSettings):
        raise _needs_descriptions(f"the method {method!r}")
    if settings.classifier != "density":
        raise _needs_descriptions(f"the classifier {settings.classifier!r}")
    usual = settings.shrinkage == ClosedFormSettings.shrinkage
    return replace(
        settings,
        shrinkage=SEEN_SHRINKAGE if usual else settings.shrinkage,
        kernel_width=(0.0,),
        ridge=(0.1,),
        seen_blend=(0.0,),
        balance="off",
        episodes="off",
    )


def _needs_descriptions(what: str) -> ConfigError:
    return ConfigError(
        f"no class is described, and {what} needs descriptions of the classes",
        fix=f'give semantics to fit, or take method="{DEFAULT}" with the classifier density',
    )
