"""What each part of the closed form is worth: each option off (or on) in turn, validated, on the same draws.

    python experiments/ablation.py PROBLEM@STORE CUB@vgg_fc7 --data-root DATA --seeds 3 --out FILE.json
    python experiments/ablation.py numbers --semantics strokes names --options "no kernel between images" \\
        --out FILE.json

Two rows are no options of the package, since they do not pay: `learned` trains a network in the form of the
knowledge transfer network to predict the prototypes, instead of solving for them; `adversarial` adds a residual,
zero at first, to the solved density, trained as a WGAN with gradient penalty on seen classes, in the span of the
class means. The number of steps of both is chosen on validation classes, as all else is.
"""

import argparse
import copy
import json
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from dkgzsl import load_dataset
from dkgzsl.evaluation.held_out import final_task, validation_task
from dkgzsl.evaluation.protocols import validated
from dkgzsl.evaluation.selection import ValidationSelector
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.dkgzsl.networks import KnowledgeTransfer
from dkgzsl.methods.shared.training import is_evaluation_epoch

DEFAULT = ClosedFormSettings()
OPTIONS = {
    "full": DEFAULT,
    "descriptions without root": replace(DEFAULT, description_root="off"),
    "features without root": replace(DEFAULT, square_root="off"),
    "without unit length": replace(DEFAULT, unit_length="off"),
    "linear kernel alone": replace(DEFAULT, kernel_width=(0.0,)),
    "no kernel between images": replace(DEFAULT, feature_kernel_width=(0.0,)),
    "a kernel between images": replace(DEFAULT, feature_kernel_width=(1.0,)),
    "without shrinkage": replace(DEFAULT, shrinkage=(0.02,)),
    "seen classes by their own means alone": replace(DEFAULT, seen_blend=(0.0,)),
    "one density a class": replace(DEFAULT, gate="off", offset=0.0, seen_expert="off", described_power=0.0),
    "without gate": replace(DEFAULT, gate="off", offset=0.0),
    "without offsets": replace(DEFAULT, offset=0.0),
    "without seen expert": replace(DEFAULT, seen_expert="off"),
    "without described expert": replace(DEFAULT, described_power=0.0),
    "without balance": replace(DEFAULT, balance="off"),
    "without episodes": replace(DEFAULT, episodes="off"),
}
FIGURES = ("t1", "h", "h_calibrated", "ausuc")


class _Learned:
    """Prototypes predicted by a network, in place of the solved regression."""

    width = noise = 0.0

    def __init__(self, network, solved):
        self.network, self.solved = network, solved

    def __getattr__(self, name):
        return getattr(self.solved, name)

    @torch.no_grad()
    def __call__(self, prepared):
        return self.network(prepared)


class _Trained:
    """Trains the prototypes by steps, with the constants that were chosen for the closed form.

    Args:
        setting: the setting chosen for the closed form.
        form: `learned` or `adversarial`.
        seed: of weights and noise.
    """

    def __init__(self, setting, form, seed):
        self.setting, self.form, self.seed = {**setting, "episodes": "off"}, form, seed

    def explore(self, task, selector):
        for step, model in self._steps(task, 1024 if self.form == "learned" else 384):
            selector({"steps": step}, model)

    def fit(self, task, setting):
        for step, model in self._steps(task, setting["steps"]):
            if step == setting["steps"]:
                return model
        raise AssertionError(setting)

    def _steps(self, task, most):
        solved = ClosedForm(DEFAULT, Setup(seed=self.seed)).fit(task, self.setting)
        torch.manual_seed(self.seed)
        steps = self._regressed if self.form == "learned" else self._adversarial
        for step, prototypes in steps(task, solved):
            if (is_evaluation_epoch(step) and step >= 16) or step == most:
                parts = solved._parts()
                parts["regression"] = _Learned(copy.deepcopy(prototypes).eval(), solved.regression)
                yield step, ClosedFormModel(**parts)
            if step == most:
                return

    def _regressed(self, task, solved):
        means = solved.statistics.means
        prepared = solved.descriptions(task.semantics[task.seen])
        network = KnowledgeTransfer(prepared.shape[1], 1024, means.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for step in range(1, 1 << 20):
            loss = (network(prepared).visual - means).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield step, _Visual(network)

    def _adversarial(self, task, solved):
        """WGAN-GP: x' = m_c + s z + r(z, a), with r zero at first; five critic steps for one of the generator."""
        points = solved.space(task.features)
        rows = torch.searchsorted(task.seen, task.labels)
        prepared = solved.descriptions(task.semantics[task.seen])
        residual = _Residual(
            solved.regression, prepared.shape[1], points.shape[1], solved.statistics.variance**0.5
        )
        critic = torch.nn.Sequential(
            torch.nn.Linear(points.shape[1] + prepared.shape[1], 512),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Linear(512, 1),
        )
        rates = {"lr": 2e-4, "betas": (0.5, 0.9)}
        of_critic = torch.optim.Adam(critic.parameters(), **rates)
        of_residual = torch.optim.Adam(residual.parameters(), **rates)
        for step in range(1, 1 << 20):
            for _ in range(5):
                drawn = torch.randint(len(points), (256,))
                real, described = points[drawn], prepared[rows[drawn]]
                made = residual.draw(described).detach()
                mixed = torch.lerp(real, made, torch.rand(256, 1)).requires_grad_()
                given = critic(torch.cat([mixed, described], 1)).sum()
                (slopes,) = torch.autograd.grad(given, mixed, create_graph=True)
                loss = (
                    critic(torch.cat([made, described], 1)).mean()
                    - critic(torch.cat([real, described], 1)).mean()
                    + 10 * (slopes.norm(dim=1) - 1).square().mean()
                )
                of_critic.zero_grad()
                loss.backward()
                of_critic.step()
            described = prepared[torch.randint(len(prepared), (256,))]
            loss = -critic(torch.cat([residual.draw(described), described], 1)).mean()
            of_residual.zero_grad()
            loss.backward()
            of_residual.step()
            yield step, residual


class _Visual(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, prepared):
        return self.network(prepared).visual


class _Residual(torch.nn.Module):
    """Prototypes are the means of 64 draws."""

    def __init__(self, regression, semantic, dim, spread):
        super().__init__()
        self.regression, self.dim, self.spread = regression, dim, spread
        self.net = torch.nn.Sequential(
            torch.nn.Linear(semantic + dim, 512), torch.nn.LeakyReLU(0.2), torch.nn.Linear(512, dim)
        )
        torch.nn.init.zeros_(self.net[2].weight)
        torch.nn.init.zeros_(self.net[2].bias)

    def draw(self, prepared):
        noise = torch.randn(len(prepared), self.dim)
        return self.regression(prepared) + self.spread * noise + self.net(torch.cat([prepared, noise], 1))

    def forward(self, prepared):
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(64, self.dim, generator=random)
        added = [self.net(torch.cat([one.expand(64, -1), noise], 1)).mean(0) for one in prepared]
        return self.regression(prepared) + torch.stack(added)


def trained(problem, setting, form, seed):
    """Figures of a trained form, its number of steps chosen on validation classes."""
    method = _Trained(setting, form, seed)
    task, held_out = validation_task(problem, seed)
    selector = ValidationSelector(held_out, None, None, "pooled")
    method.explore(task, selector)
    task, held_out = final_task(problem)
    scored = held_out.score(method.fit(task, selector.best.setting))
    return scored.figures(selector.best.constant), selector.best.setting


def main() -> None:
    """Measure, print a line for each result, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--semantics", nargs="+", default=["sentences", "attributes", "sent", "att"])
    parser.add_argument("--data-root")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--options", nargs="+", default=[*OPTIONS, "learned", "adversarial"], metavar="ROW")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = defaultdict(list)
    for dataset in arguments.datasets:
        name, _, features = dataset.partition("@")
        for seed in range(arguments.seeds):
            problem = load_dataset(name, data_root=arguments.data_root, features=features or None, test_seed=seed)
            for semantics in [word for word in arguments.semantics if word in problem.semantic_sources]:
                described = problem.with_semantics(semantics)
                chosen = None
                for option in [name for name in OPTIONS if name in ("full", *arguments.options)]:
                    config = OPTIONS[option]
                    start = time.perf_counter()
                    outcome = validated(ClosedForm(config, Setup(seed=seed)), described, seed=seed)
                    chosen = chosen or outcome.setting
                    keep(
                        found, (Path(name).name, semantics), option, seed, outcome.figures, start, outcome.setting
                    )
                for form in [name for name in ("learned", "adversarial") if name in arguments.options]:
                    start = time.perf_counter()
                    figures, setting = trained(described, chosen, form, seed)
                    keep(found, (Path(name).name, semantics), form, seed, figures, start, setting)
                arguments.out.write_text(json.dumps([row for rows in found.values() for row in rows], indent=1))
    columns = sorted({key[:2] for key in found})
    print("| | " + " | ".join(" ".join(column) for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for option in dict.fromkeys(["full", *arguments.options]):
        cells = []
        for column in columns:
            full = np.array([[row["figures"][f] for f in FIGURES] for row in found[*column, "full"]])
            rows = np.array([[row["figures"][f] for f in FIGURES] for row in found[*column, option]])
            shown = rows.mean(0) if option == "full" else (rows - full).mean(0)
            cells.append(" ".join(f"{100 * value:{'' if option == 'full' else '+'}.1f}" for value in shown))
        print(f"| {option} | " + " | ".join(cells) + " |")


def keep(found, column, option, seed, figures, start, setting) -> None:
    """Add a row to the results and print it."""
    row = {
        "column": column, "option": option, "seed": seed, "figures": asdict(figures), "setting": dict(setting),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    found[*column, option].append(row)
    shown = " ".join(f"{name} {row['figures'][name]:.3f}" for name in FIGURES)
    print(f"{' '.join(column)} seed {seed} {option}: {shown} ({row['seconds']} s)", flush=True)


if __name__ == "__main__":
    main()
