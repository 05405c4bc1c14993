"""Predictions, their shares, differences and the map of the features, each against something independent."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dkgzsl.evaluation.metrics import Scored
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.report.paired import paired_differences
from dkgzsl.report.record.attention import AttentionMaps
from dkgzsl.report.record.class_neighbours import ClassNeighbours
from dkgzsl.report.record.feature_map import FeatureMap, VisualSpace, balanced_sample, draw_map
from dkgzsl.report.record.predictions import Predictions, confusions, prediction_shares
from dkgzsl.report.record.record import Record

K, UNSEEN = 7, 3


def scored(seed: int, images: int = 60, *, ties: bool = False) -> Scored:
    rng = np.random.default_rng(seed)
    is_unseen = rng.permutation(np.arange(K) >= K - UNSEEN)
    scores = rng.integers(0, 4, (images, K)).astype(np.float32) if ties else rng.normal(size=(images, K))
    labels = rng.integers(0, K, images)
    if not ties:
        scores[np.arange(images), labels] += 1.5
    conventional = np.where(is_unseen, scores, -np.inf)
    return Scored(scores.astype(np.float32), conventional.astype(np.float32), labels, is_unseen)


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([None, 0.0, 0.7, -1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_predictions_keep_every_figure_and_prediction(seed, ties, constant) -> None:
    whole = scored(seed, ties=ties)
    predictions = Predictions.of(whole.decisions, np.arange(60))
    expected = (whole.scores + (constant or 0.0) * whole.is_unseen).argmax(1)
    np.testing.assert_array_equal(predictions.predicted(constant), expected)
    again = Predictions.from_tensors(predictions.tensors())
    for name, value in asdict(whole.figures(constant)).items():
        assert asdict(again.decisions().figures(constant))[name] == pytest.approx(value, abs=1e-12), name


def test_predictions_are_correct_or_of_the_same_kind_or_of_the_other() -> None:
    predictions = Predictions.of(scored(1).decisions, np.arange(60))
    for unseen in (True, False):
        for constant in (None, 0.4):
            found = prediction_shares(predictions, constant, unseen=unseen)
            predicted = predictions.predicted(constant)
            shares = []
            for c in np.flatnonzero(predictions.is_unseen == unseen):
                of_class = predicted[predictions.labels == c]
                if len(of_class):
                    crossed = predictions.is_unseen[of_class] != unseen
                    shares.append([(of_class == c).mean(), ((of_class != c) & ~crossed).mean(), crossed.mean()])
            assert (found.correct, found.same_kind, found.other_kind) == pytest.approx(np.mean(shares, 0))


def test_confusions_count_every_wrong_prediction_once_the_largest_share_first() -> None:
    predictions = Predictions.of(scored(2).decisions, np.arange(100, 160))
    found = confusions(predictions, None)
    predicted = predictions.predicted(None)
    assert sum(len(c.images) for c in found) == (predicted != predictions.labels).sum()
    shares = [len(c.images) / c.of for c in found]
    assert shares == sorted(shares, reverse=True)
    for c in found:
        rows = np.array(c.images) - 100
        assert (predictions.labels[rows] == c.true).all()
        assert (predicted[rows] == c.predicted).all()


def test_a_model_is_no_better_than_itself_and_worse_than_a_perfect_one() -> None:
    whole = scored(3, images=400)
    ours = Predictions.of(whole.decisions, np.arange(400))
    nothing = paired_differences([((ours, 0.2), (ours, 0.2))])
    assert set(nothing) == {"t1", "u", "s", "h", "h_calibrated", "ausuc"}
    assert all((d.value, d.low, d.high) == (0, 0, 0) and not d.clear for d in nothing.values())
    perfect_scores = whole.scores.copy()
    perfect_scores[np.arange(400), whole.labels] += 5
    perfect = Predictions.of(
        Scored(perfect_scores, whole.conventional, whole.labels, whole.is_unseen).decisions, np.arange(400)
    )
    found = paired_differences([((perfect, None), (ours, None))])
    assert "h_calibrated" not in found
    expected = 1 - whole.figures().u
    assert found["u"].value == pytest.approx(expected)
    assert found["u"].low <= expected <= found["u"].high
    assert found["u"].clear
    assert not found["t1"].clear


def test_the_space_is_of_the_training_images_and_orders_its_axes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 80)
    means = rng.normal(size=(5, 12)) * np.array([9, 5] + [0.3] * 10)
    features = torch.from_numpy((means[labels] + rng.normal(size=(400, 12))).astype(np.float32))
    space = VisualSpace.fit(features, torch.from_numpy(labels))
    placed = space(features).numpy()
    within = np.concatenate([placed[labels == c] - placed[labels == c].mean(0) for c in range(5)])
    assert within.var(0).mean() == pytest.approx(1, rel=0.1)
    between = np.stack([placed[labels == c].mean(0) for c in range(5)]).var(0)
    assert (np.diff(between) <= 1e-4).all()
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    theirs = LinearDiscriminantAnalysis(n_components=2).fit(features.numpy(), labels).transform(features.numpy())
    for axis in range(2):
        assert abs(np.corrcoef(theirs[:, axis], placed[:, axis])[0, 1]) > 0.97


def test_the_map_shows_classes_chosen_without_their_test_images() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(20)
    training = 4 * torch.nn.functional.one_hot(labels, 8).float() + torch.randn(120, 8, generator=rng)
    synthesized = torch.randn(9, 15, 8, generator=rng) + 3 * torch.randn(9, 1, 8, generator=rng)
    unseen = torch.arange(6, 15)
    test_labels = unseen.repeat_interleave(10)
    space = VisualSpace.fit(training, labels)

    def drawn(test: torch.Tensor) -> FeatureMap:
        return draw_map(
            space, training=training, training_labels=labels, test=test, test_labels=test_labels,
            synthesized=synthesized, unseen=unseen,
        )  # fmt: skip

    first, second = drawn(torch.zeros(90, 8)), drawn(torch.randn(90, 8, generator=rng))
    assert first.synthesized_labels.unique().tolist() == first.real_labels.unique().tolist()
    assert torch.equal(first.synthesized_labels, second.synthesized_labels)
    assert len(first.synthesized_labels.unique()) == 6
    assert len(first.real) == 60
    assert set(first.seen_labels.tolist()) <= set(range(6))
    place = int(first.synthesized_labels[0]) - 6
    torch.testing.assert_close(first.synthesized[:15], space(synthesized[place])[:, :2])


def test_a_balanced_sample_has_at_least_two_images_of_each_class() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20 + [3])
    images = np.flatnonzero(labels >= 0)
    sample = balanced_sample(labels, images, per_class=10, at_most=1000)
    assert np.bincount(labels[sample]).tolist() == [10, 3, 10, 1]
    few = balanced_sample(labels, images, per_class=10, at_most=1)
    assert np.bincount(labels[few]).tolist() == [2, 2, 2, 1]
    assert (np.diff(few) > 0).all()


def test_a_record_of_another_format_is_no_record(tmp_path) -> None:
    write_checkpoint(tmp_path / "r.safetensors", {"x": torch.zeros(1)}, {"format": "dkgzsl report 99"})
    assert Record.read(tmp_path / "r.safetensors") is None
    assert Record.read(tmp_path / "none.safetensors") is None


def old_record(path) -> Record:
    """A file of format 1, with its old names; returns what it holds."""
    predictions = Predictions.of(scored(4).decisions, np.arange(60))
    points = torch.rand(3, 2)
    labels = torch.tensor([4, 5, 6], dtype=torch.int32)
    near = {"by_description": torch.zeros(K, 2, dtype=torch.int32), "similarities": torch.ones(K, 2)}
    maps = {"images": labels[:1], "attributes": labels[:1, None], "strengths": torch.ones(1, 1)}
    tensors = {f"answers.{name}": tensor for name, tensor in predictions.tensors().items()}
    tensors |= {f"map.{name}": points + place for place, name in enumerate(("real", "made", "seen"))}
    tensors |= {f"map.{name}_labels": labels + place for place, name in enumerate(("real", "made", "seen"))}
    tensors |= {f"acquaintance.{name}": tensor for name, tensor in near.items()}
    tensors |= {f"attended.{name}": tensor for name, tensor in {**maps, "maps": torch.rand(1, 1, 9)}.items()}
    values = {
        "format": "dkgzsl report 1",
        "class_names": [f"class {number}" for number in range(K)],
        "constant": 0.5,
        "facts": {"training_images": 10},
        "pictures": {},
        "acquaintance": {"names": ["beak"], "source": "att"},
        "attended": {"grid": [3, 3], "names": [["beak"]], "preprocessing": None},
    }
    write_checkpoint(path, {**tensors, "map.fitted_on": torch.tensor(7)}, values)
    return Record(
        class_names=tuple(values["class_names"]),
        predictions=predictions,
        constant=0.5,
        facts=values["facts"],
        feature_map=FeatureMap(
            points, labels.long(), points + 1, labels.long() + 1, points + 2, labels.long() + 2, fitted_on=7
        ),
        class_neighbours=ClassNeighbours(
            near["by_description"].long(), near["similarities"], None, None, None, None, None, ("beak",), "att"
        ),
        attention_maps=AttentionMaps(
            labels[:1].long(), labels[:1, None].long(), torch.ones(1, 1), tensors["attended.maps"], (3, 3),
            (("beak",),), None,
        ),
    )  # fmt: skip


def test_a_record_of_format_1_is_read_and_saved_under_the_names_of_today(tmp_path) -> None:
    path, again = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    expected = old_record(path)
    read = Record.read(path)
    assert read is not None
    expected.write(again)
    read.write(path)
    (tensors, values), (tensors_2, values_2) = read_checkpoint(path), read_checkpoint(again)
    assert values == values_2
    assert values["format"] == "dkgzsl report 2"
    assert {name.partition(".")[0] for name in tensors} == {
        "predictions", "feature_map", "class_neighbours", "attention_maps",
    }  # fmt: skip
    assert tensors.keys() == tensors_2.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, tensors_2[name]), name
