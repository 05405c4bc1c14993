"""A rough idea of a run's time and memory, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dkgzsl.runs.plan import Plan

_PASSES = 2
"""Trainings a seed: one to choose, one on all training images."""
_EFFICIENCY = 0.5
"""Share of the machine's matrix speed that training reaches, as measured."""


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a whole run, within a factor of two or so."""

    seconds: float
    gigabytes: float


def estimate(plan: Plan) -> Estimate:
    """Count the large matrix products, and time one on this machine."""
    config, problem = plan.config, plan.problem
    images, visual = len(problem.parts.trainval), problem.features.shape[-1]
    semantic, classes = problem.semantics.shape[1], len(problem.class_names)
    held = len(problem.parts.test_seen) + len(problem.parts.test_unseen)
    if plan.variant == "paper":
        hidden, adversarial = config.adversarial.hidden_size or 4096, config.adversarial
        # a critic step: critic and generator forward, critic's gradients; multiply-adds an image
        step = 2 * hidden * (6 * (visual + semantic) + 2 * (visual + 2 * semantic))
        epochs = (config.epochs or 1) * step * images * (2 * adversarial.critic_steps + 2)
        looks = -(-(config.epochs or 1) // (adversarial.evaluate_every or 1))
        synthesized = (config.softmax.per_class or 1) * len(problem.unseen_classes)
        look = 25 * 2 * visual * classes * (3 * (images + synthesized) + held)
        work = epochs + looks * look
    else:
        components = min(max(config.knowledge.components), visual)
        work = 2 * visual * (visual * images + 6 * visual * components + components * (images + held))
    per_seed = _PASSES if config.protocol == "validated" else 1
    seconds = len(plan.seeds) * per_seed * (work / (_EFFICIENCY * _speed(plan.device)) + 3)
    memory = 4 * (2.5 * problem.features.shape[0] * visual + 3 * visual * visual) / 1e9
    return Estimate(seconds, memory + 0.6)


def _speed(device: torch.device) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    matrix = torch.ones(1024, 1024, device=device)
    matrix @ matrix
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = perf_counter()
    for _ in range(4):
        product = matrix @ matrix
    float(product[0, 0])  # waits for the device
    return 4 * 2 * 1024**3 / (perf_counter() - start)
