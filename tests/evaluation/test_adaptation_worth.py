"""What adaptation is worth: which images are a pool, which are scored, and what a refused pool changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.evaluation.adaptation import (
    AdaptationWorth,
    adaptation_worth,
    adapted_scores,
    is_worthless,
    mean_worth,
)
from dkgzsl.evaluation.held_out import final_task, validation_task
from dkgzsl.methods.adaptation import Adaptation
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.peers.sae import SAE, SAESettings
from worlds import FEW, world

SETTING = {
    "components": 20, "shrinkage": 0.5, "kernel_width": 0.0, "feature_kernel_width": 0.0, "ridge": 0.1,
    "seen_blend": 0.0, "unit_length": False, "balance": True, "episodes": "off",
}  # fmt: skip


class Spy:
    """A model whose score of an image says whether the image was in its pool."""

    def __init__(self, pool: torch.Tensor | None = None, share: float = 1.0) -> None:
        self.pool, self.share = pool, share
        self.seen, self.unseen, self.semantics = torch.tensor([0]), torch.tensor([1]), torch.zeros(2, 1)

    @property
    def adaptation(self) -> Adaptation | None:
        return (
            None
            if self.pool is None
            else Adaptation(len(self.pool), (1,), (1.0,), (1.0,), (True,), self.share, ())
        )

    def adapted(self, features):
        return Spy(features, self.share)

    def scores(self, features):
        known = features.new_zeros(0, 1) if self.pool is None else self.pool
        in_pool = (features[:, None, 0] == known[None, :, 0]).any(1).float()
        return torch.stack([in_pool, features.new_full((len(features),), 0.0 if self.pool is None else 2.0)], 1)

    conventional_scores = scores

    def save(self):
        raise NotImplementedError

    load = save


def held_out():
    _, held = final_task(world())
    features = torch.arange(len(held.labels), dtype=torch.float32)[:, None]
    return replace(held, features=features, labels=held.labels % 2, is_unseen=np.array([False, True]))


def test_each_image_is_scored_by_a_model_whose_pool_it_was_not_in() -> None:
    held = held_out()
    found = adapted_scores(held, Spy(), "half", seed=0)
    assert (found.scored.scores[:, 0] == 0).all()
    assert (found.scored.scores[:, 1] == 2).all(), "each was scored by an adapted model"
    assert (found.pools, found.refused) == (2, 0)


def test_with_the_same_pool_each_image_is_in_it() -> None:
    found = adapted_scores(held_out(), Spy(), "same", seed=0)
    assert (found.scored.scores[:, 0] == 1).all()
    assert found.pools == 1


def test_the_halves_are_drawn_by_the_seed_and_not_by_labels() -> None:
    held, sizes, drawn = held_out(), [], {}

    class Noted(Spy):
        def adapted(self, features):
            sizes.append(len(features))
            drawn.setdefault(seed, features[:, 0].tolist())
            return Spy(features)

    for seed in (0, 1):
        adapted_scores(held, Noted(), "half", seed=seed)
    assert sizes == [len(held.labels) // 2] * 4
    assert drawn[0] != drawn[1]
    seed = 2
    adapted_scores(replace(held, labels=held.labels[::-1].copy()), Noted(), "half", seed=0)
    assert drawn[2] == drawn[0]


def test_a_pool_without_described_classes_leaves_the_scores_as_they_were() -> None:
    held = held_out()
    found = adapted_scores(held, Spy(share=0.0), "half", seed=0)
    np.testing.assert_array_equal(found.scored.scores, held.score(Spy()).scores)
    assert found.refused == found.pools == 2


def test_where_adaptation_is_worth_nothing_no_pool_changes_anything() -> None:
    held = held_out()
    found = adapted_scores(held, Spy(), "half", seed=0, refuse=True)
    np.testing.assert_array_equal(found.scored.scores, held.score(Spy()).scores)
    assert found.refused == 2
    worth = {"gain": 0.0, "refused": 1, "pools": 2}
    assert is_worthless(worth)
    assert not is_worthless({**worth, "gain": 0.01})
    assert not is_worthless({**worth, "refused": 2}), "validation could not tell"
    assert not is_worthless(None)


def test_the_worth_of_the_closed_form_is_that_of_adapting_by_hand() -> None:
    task, held = validation_task(world(), 0)
    model = ClosedForm(FEW).fit(task, SETTING)
    worth = adaptation_worth(held, model, seed=0)
    assert isinstance(worth, AdaptationWorth)
    half = np.random.default_rng([0, len(held.labels)]).permutation(len(held.labels)) < len(held.labels) // 2
    scores = held.score(model).scores.copy()
    for pool, rest in ((half, ~half), (~half, half)):
        adapted = model.adapted(held.features[torch.from_numpy(np.flatnonzero(pool))])
        if adapted.adaptation.evident_share >= 0.2:
            scores[rest] = adapted.scores(held.features)[torch.from_numpy(np.flatnonzero(rest))].numpy()
    after = replace(held.score(model), scores=scores)
    assert worth.after.ausuc == pytest.approx(after.figures().ausuc)
    assert worth.before == held.score(model).figures()
    assert worth.gain == pytest.approx(worth.after.ausuc - worth.before.ausuc)


def test_a_model_that_cannot_adapt_has_no_worth_and_means_are_over_the_cuts_that_know() -> None:
    task, held = validation_task(world(), 0)
    sae = SAE(SAESettings(powers=(0,), scalings=("none",), descriptions=("unit",)))
    shown = []
    sae.explore(task, lambda setting, model, candidate=True: shown.append(model) or 0.0)
    assert adaptation_worth(held, shown[0]) is None
    figures = held.score(shown[0]).figures()
    worths = [
        AdaptationWorth(replace(figures, ausuc=0.5), replace(figures, ausuc=0.5 + gain), refused, 2)
        for gain, refused in ((0.1, 0), (0.2, 1))
    ]
    mean = mean_worth([*worths, None])
    assert mean["gain"] == pytest.approx(0.15)
    assert mean["gain_error"] == pytest.approx(np.std([0.1, 0.2], ddof=1) / 2**0.5)
    assert (mean["cuts"], mean["pools"], mean["refused"]) == (2, 4, 1)
    assert mean_worth([worths[0]])["gain_error"] is None
    assert mean_worth([None]) is None
