"""Choice over several validation cuts: what takes the lead, how constants shrink, what a resumed run repeats."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.evaluation.cuts import BEHIND, CutsSelector, constant_of, mean_figures
from dkgzsl.evaluation.held_out import validation_task
from dkgzsl.evaluation.metrics import Scored
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm
from worlds import FEW, world

QUICK = replace(FEW, episodes="off", unit_length="on", kernel_width=(2.0,))


def selector(memory=None, cuts=4, watch=None):
    held_out = [validation_task(world(), 0, cut=cut)[1] for cut in range(cuts)]
    return CutsSelector(held_out, watch, memory, "pooled", raw_share=0.0)


@pytest.mark.parametrize(
    ("gains", "leads"),
    [
        ([0.01, 0.01, 0.01, 0.01], True),
        ([0.02, -0.02, 0.02, -0.02], False),
        ([0.02, 0.0205, 0.021, 0.0205], True),
        ([0.0, 0.0, 0.0, 0.0], False),
        ([-0.01, -0.01, -0.01, -0.01], False),
        ([0.05, 0.0, 0.0, 0.0], False),
        ([0.05, 0.05, 0.05, -np.inf], False),
    ],
)
def test_a_gain_leads_where_it_exceeds_its_margin(gains, leads) -> None:
    lead = np.array([0.5, 0.6, 0.4, 0.7])
    assert selector().is_better(lead + np.array(gains), lead) == leads


def test_the_margin_is_in_standard_errors_of_overlapping_cuts() -> None:
    lead, gains = np.zeros(4), np.array([0.01, 0.03, 0.02, 0.04])
    needed = 48 / 12 * np.sqrt(np.var(gains, ddof=1) * (1 / 4 + 1 / 2))
    shift = needed - gains.mean()
    assert selector().is_better(gains + shift + 1e-9, lead)
    assert not selector().is_better(gains + shift - 1e-9, lead)
    assert selector(cuts=1).is_better(np.array([0.1]), np.array([0.05]))


def test_the_first_setting_leads_and_one_far_behind_is_fitted_once() -> None:
    task = [validation_task(world(), 0, cut=cut)[0] for cut in range(4)]
    method, chosen, asked = ClosedForm(QUICK), selector(), []

    def models(setting):
        for one in task:
            asked.append(setting["ridge"])
            yield method.fit(one, setting)

    good = {
        "unit_length": True, "components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1,
        "seen_blend": 0.0, "episodes": "off",
    }  # fmt: skip
    first = chosen(good, models(good))
    assert chosen.setting == good
    assert len(asked) == 4
    bad = {**good, "ridge": 1e4}
    scores = chosen(bad, models(bad))
    assert scores[0] < first[0] - BEHIND * (1.1 - first[0])
    assert asked.count(1e4) == 1
    assert np.isneginf(scores[1:]).all()
    assert chosen.setting == good


@pytest.mark.standard
def test_a_resumed_exploration_fits_nothing_that_it_knows(tmp_path) -> None:
    problem = world()

    class Counting(ClosedForm):
        fitted = 0

        def fitter(self, task, *, unit_length):
            Counting.fitted += 1
            return super().fitter(task, unit_length=unit_length)

    shown = []
    whole = validated(ClosedForm(QUICK), problem, seed=0, memory=tmp_path, watch=lambda *one: shown.append(one))
    file = tmp_path / "pooled" / "evaluations.jsonl"
    lines = file.read_text().splitlines()
    assert len(lines) == len(shown) == whole.evaluations
    file.write_text("\n".join(lines[:5]) + "\n" + lines[5][:20])  # killed as it wrote the sixth
    shown.clear()
    resumed = validated(ClosedForm(QUICK), problem, seed=0, memory=tmp_path, watch=lambda *one: shown.append(one))
    assert len(shown) == whole.evaluations - 5
    assert resumed.setting == whole.setting
    assert resumed.constant == whole.constant
    np.testing.assert_array_equal(resumed.scored.margins.lead, whole.scored.margins.lead)


def scored(shift, noise=1.0, seed=0):
    """Two seen and two unseen classes; unseen scores lack `shift`."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), 50)
    scores = noise * rng.normal(size=(200, 4))
    scores[np.arange(200), labels] += 3.0
    is_unseen = np.array([False, False, True, True])
    scores -= shift * is_unseen
    return Scored(scores, scores, labels, is_unseen)


def test_a_constant_that_all_cuts_share_stays_and_one_that_varies_shrinks() -> None:
    alike = constant_of([scored(4.0, seed=seed) for seed in range(4)])
    assert alike.value == pytest.approx(4.0, abs=0.7)
    assert alike.spread < 1.0
    varied = constant_of([scored(shift, seed=seed) for seed, shift in enumerate((-4.0, 8.0, 0.0, 4.0))])
    assert varied.spread > 3.0
    assert 0 < abs(varied.value) < 0.7 * abs(varied.found)
    c, d = varied.found, varied.spread
    assert varied.value == pytest.approx(c**3 / (c**2 + d**2) if c else 0.0)


def test_the_constant_found_has_the_best_mean_h() -> None:
    cuts = [scored(shift, seed=seed) for seed, shift in enumerate((1.0, 2.0, 4.0))]
    found = constant_of(cuts).found

    def mean(constant):
        return np.mean([one.figures(constant).h_calibrated for one in cuts])

    assert mean(found) >= max(mean(constant) for constant in np.linspace(-2, 8, 301)) - 1e-9


def test_one_cut_needs_a_spread_from_elsewhere_to_shrink() -> None:
    one = scored(4.0)
    free = constant_of([one])
    assert free.value == free.found
    assert free.spread is None
    assert constant_of([one], spread=free.found).value == pytest.approx(free.found / 2)
    assert constant_of([one], spread=free.found, share=0.5).value == pytest.approx(free.found / 4)


def test_figures_of_cuts_are_means_with_their_deviation() -> None:
    figures = [scored(shift, seed=shift).figures(1.0) for shift in (1, 2, 3)]
    mean, deviation = mean_figures(figures)
    assert mean.h == pytest.approx(np.mean([one.h for one in figures]))
    assert deviation.h == pytest.approx(np.std([one.h for one in figures], ddof=1))
    assert mean_figures(figures[:1]) == (figures[0], None)
    lacking = replace(figures[0], ausuc=None)
    assert mean_figures([*figures, lacking])[0].ausuc is None


def test_the_closed_form_is_validated_on_several_cuts() -> None:
    outcome = validated(ClosedForm(QUICK, Setup()), world(), seed=0)
    assert outcome.cuts == 8
    assert outcome.validation_spread.ausuc > 0
    assert outcome.constant_spread is not None
    assert torch.isfinite(outcome.model.scores(torch.rand(3, 20))).any()


@pytest.mark.standard
def test_a_method_that_balances_by_itself_uses_a_third_of_the_constant() -> None:
    for balance, share in (("on", 1 / 3), ("off", 1.0)):
        outcome = validated(ClosedForm(replace(QUICK, balance=balance)), world(), seed=0)
        found, spread = outcome.constant_found, outcome.constant_spread
        assert found != 0
        assert outcome.constant == pytest.approx(share * found**3 / (found**2 + spread**2))
