"""Gate and experts against a plain loop over images and classes, from raw features, in numpy alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.experts import Placed, axis_variances
from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.closed_form.whitening import SeenStatistics
from dkgzsl.methods.registry import load_model
from worlds import world

WIDTH, RIDGE, BLEND, LEFT_OUT, OFFSET, POWER, SHRINKAGE, FINER = 2.0, 0.03, 0.5, 0.25, 0.2, 0.5, 0.6, 0.1
SETTING = {
    "unit_length": True, "components": 20, "shrinkage": SHRINKAGE, "kernel_width": WIDTH, "ridge": RIDGE,
    "seen_blend": BLEND, "episodes": "off", "balance": True, "description_root": False, "gate": True,
    "left_out": LEFT_OUT, "offset": OFFSET, "seen_expert": True, "described_power": POWER,
}  # fmt: skip
ONE = ClosedFormSettings(components=(20,))
SEEN, UNSEEN = 12, 4


def space_of(features, labels, shrinkage):
    """Coordinates of unscaled features in the span of the seen class means, largest axis first, and s2."""
    rooted = np.sqrt(features)
    mean = rooted.mean(0)
    basis = np.linalg.svd(rooted - mean, full_matrices=False)[2].T
    points = (rooted - mean) @ basis
    deviations = points - np.stack([points[labels == c].mean(0) for c in range(SEEN)])[labels]
    values, vectors = np.linalg.eigh(deviations.T @ deviations / len(points))
    whitener = vectors / np.sqrt((1 - shrinkage) * values + shrinkage * values.mean())

    def whitened(x):
        z = (np.sqrt(x) - mean) @ basis @ whitener
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    z = whitened(features)
    means = np.stack([z[labels == c].mean(0) for c in range(SEEN)])
    origin = means.mean(0)
    axes = np.linalg.svd(means - origin, full_matrices=False)[2][: SEEN - 1].T
    spread = z - means[labels]
    within = ((spread @ axes) ** 2).sum(0)
    return lambda x: (whitened(x) - origin) @ axes, (means - origin) @ axes, (spread**2).mean(), within


def by_loops(task, held):
    """Scores of seen, then unseen classes: RECIPE's steps one by one."""
    features, labels = task.features.double().numpy(), task.labels.numpy()
    described = task.semantics.double().numpy()
    described = described / np.linalg.norm(described, axis=1, keepdims=True)
    described = described - described[:SEEN].mean(0)
    described /= np.linalg.norm(described, axis=1, keepdims=True)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * WIDTH))

    gram = np.array([[kernel(a, b) for b in described] for a in described])
    noise = RIDGE * gram[:SEEN, :SEEN].diagonal().mean()
    inverse = np.linalg.inv(gram[:SEEN, :SEEN] + noise * np.eye(SEEN))
    gate_space, means, variance, within = space_of(features, labels, SHRINKAGE)
    seen_space, finer, finer_variance, _ = space_of(features, labels, FINER)
    predicted = gram[:, :SEEN] @ inverse @ means  # rows: fitted seen classes, then described ones
    left_out = np.empty_like(means)
    for one in range(SEEN):  # the regression without the class, solved anew
        others = [c for c in range(SEEN) if c != one]
        solved = np.linalg.inv(gram[np.ix_(others, others)] + noise * np.eye(SEEN - 1)) @ means[others]
        left_out[one] = gram[one, others] @ solved
    open_ = np.array([1 / inverse[c, c] for c in range(SEEN)])
    error = ((means - left_out) ** 2).sum(1).mean() / open_.mean()
    unknown = [gram[c, c] - gram[c, :SEEN] @ inverse @ gram[:SEEN, c] + noise for c in range(SEEN, SEEN + UNSEEN)]
    offsets = OFFSET * error * np.array(unknown) / 2
    gate = (1 - LEFT_OUT) * predicted[:SEEN] + LEFT_OUT * left_out
    expert_means = (1 - BLEND) * finer + BLEND * gram[:SEEN, :SEEN] @ inverse @ finer
    axes = np.arange(len(within))
    smooth = np.array([np.average(within, weights=np.exp(-((axes - j) ** 2) / 200)) for j in axes])
    omega = (smooth / smooth.mean()) ** POWER
    balance = balance_of(means, gate, left_out, variance) - OFFSET * error * open_.mean() / 2 / variance
    rows = []
    for z, finer_z in zip(gate_space(held), seen_space(held), strict=True):
        g = np.array([z @ m - m @ m / 2 for m in gate])
        e = np.array([finer_z @ m - m @ m / 2 for m in expert_means])
        seen = g.max() / variance + (e - e.max()) / finer_variance
        p = predicted[SEEN:]
        g = np.array([z @ m - m @ m / 2 for m in p]) + offsets
        f = np.array([sum((z[j] * m[j] - m[j] ** 2 / 2) / omega[j] for j in axes) for m in p]) + offsets
        rows.append(np.concatenate([seen, (g.max() + f - f.max()) / variance + balance]))
    return np.array(rows)


def balance_of(means, placed, predicted, variance):
    found_described, found_seen = [], []
    for i in range(SEEN):
        others = [j for j in range(SEEN) if j != i]
        own = ((means[i] - predicted[i]) ** 2).sum()
        found_described.append(own - min(((means[i] - placed[j]) ** 2).sum() for j in others))
        rival = min(((means[i] - predicted[j]) ** 2).sum() for j in others)
        found_seen.append(rival - ((means[i] - placed[i]) ** 2).sum())
    return (np.mean(found_described) + np.mean(found_seen)) / (4 * variance)


@pytest.fixture(scope="module")
def fitted():
    task, held_out = final_task(world())
    return task, held_out.features, ClosedForm(ONE).fit(task, SETTING)


def test_scores_are_those_of_a_plain_loop(fitted) -> None:
    task, held, model = fitted
    expected = by_loops(task, held.double().numpy())
    found = model.scores(held)[:, torch.cat([model.seen, model.unseen])].double().numpy()
    scale = np.abs(expected - expected.mean(1, keepdims=True)).max()
    np.testing.assert_allclose(found, expected, atol=2e-3 * scale)


def test_the_gate_decides_the_side_and_the_experts_the_class(fitted) -> None:
    _, held, model = fitted
    scores = model.scores(held)
    points, experts = model.space(held), model.experts
    gate = points @ experts.gate.T - experts.gate.square().sum(1) / 2
    torch.testing.assert_close(scores[:, model.seen].amax(1), gate.amax(1) / model.variance)
    best = experts.seen.scores(held).argmax(1)
    assert torch.equal(scores[:, model.seen].argmax(1), best)
    among_unseen = experts.described(points, model.means[SEEN:]) / model.variance + model.offsets()
    assert torch.equal(model.conventional_scores(held)[:, model.unseen].argmax(1), among_unseen.argmax(1))


def test_a_saved_model_has_its_gate_and_experts(fitted) -> None:
    _, held, model = fitted
    again = load_model(model.save())
    torch.testing.assert_close(again.scores(held), model.scores(held))
    assert again.experts.offset == model.experts.offset > 0


def test_without_any_part_every_class_is_scored_by_its_density(fitted) -> None:
    task, held, _ = fitted
    off = {"gate": False, "left_out": 0.0, "offset": 0.0, "seen_expert": False, "described_power": 0.0}
    plain = ClosedForm(ONE).fit(task, {**SETTING, **off})
    assert plain.experts is None
    densities = plain.densities.scores(plain.space(held))
    torch.testing.assert_close(plain.scores(held)[:, plain.seen], densities[:, :SEEN])


def test_uncertain_classes_gain_most_and_photos_take_the_gain_away(fitted) -> None:
    task, held, model = fitted
    labels = final_task(world())[1].labels
    number = int(task.unseen[0])
    before = model.offsets()
    assert (before > 0).all()
    few, many = (model.with_photos(number, held[labels == number].repeat(n, 1)) for n in (1, 50))
    assert before[0] > few.offsets()[0] > many.offsets()[0] > 0
    torch.testing.assert_close(few.offsets()[1:], before[1:])


def test_shares_of_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    described = torch.nn.functional.normalize(torch.randn(12, 40, generator=generator), dim=1)
    told = described @ torch.randn(40, 8, generator=generator)
    told = told - told.mean(0)
    chance = torch.randn(12, 8, generator=generator)
    chance = chance - chance.mean(0)

    def share(means):
        return Placed.of(KernelRidge.fit(described, means, width=0.0, ridge=0.01), means).share

    assert share(chance) > 0.8
    copied = torch.cat([described, described])  # each class has a twin of the same description and mean
    means = torch.cat([told, told])
    assert Placed.of(KernelRidge.fit(copied, means, width=0.0, ridge=0.01), means).share < 0.05


def test_axis_variances_have_no_scale() -> None:
    within = torch.diag(torch.linspace(1.0, 3.0, 60))
    statistics = SeenStatistics(torch.zeros(61, 60), torch.ones(61, dtype=torch.int64), 1.0, 1.0, within)
    scaled = SeenStatistics(statistics.means, statistics.counts, 1.0, 1.0, 7 * within)
    torch.testing.assert_close(axis_variances(statistics, 0.5), axis_variances(scaled, 0.5))
    assert (axis_variances(statistics, 0.5).diff() > 0).all()
    assert float(axis_variances(statistics, 1.0).mean()) == pytest.approx(1.0)
    assert torch.equal(axis_variances(statistics, 0.0), torch.ones(60))


def test_few_classes_that_predictions_miss_get_no_left_out_gate() -> None:
    """Descriptions that say nothing of the classes: leave-one-out errors exceed the spread of the means."""
    task, _ = final_task(world())
    noise = torch.rand(task.semantics.shape, generator=torch.Generator().manual_seed(3))
    shown = []

    def selector(setting, model, *, candidate=True):
        shown.append(setting)
        return 0.0

    blind = type(task)(task.features, task.labels, noise, task.seen, task.unseen, task.class_names)
    for one, expected in ((task, 0.25), (blind, 0.0)):
        shown.clear()
        ClosedForm(ONE, Setup()).explore(one, selector)
        assert shown[0]["left_out"] == expected
        assert shown[0]["gate"]


def test_a_file_from_before_there_were_scales_loads() -> None:
    """Such files hold the axes times their scales, of the model's space and of the expert's."""
    task, held = final_task(world())
    model = ClosedForm(ONE).fit(task, SETTING)
    saved = model.save()
    tensors = dict(saved.tensors)
    axes = tensors.pop("whitener.axes")
    tensors["whitener"] = axes * tensors.pop("whitener.scales")
    tensors["experts.seen.whitener"] = axes * tensors.pop("experts.seen.whitener.scales")
    before = ClosedFormModel.load(replace(saved, tensors=tensors))
    torch.testing.assert_close(before.scores(held.features), model.scores(held.features), rtol=1e-4, atol=1e-3)
    again = ClosedFormModel.load(before.save())  # the expert's axes are no longer shared, and are kept
    assert torch.equal(again.scores(held.features), before.scores(held.features))
