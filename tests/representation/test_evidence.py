"""Attention, its scores and what is usual of them agree, whoever asks: evidence, predictions, the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl.config import RefinementConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import DataError
from dkgzsl.report.record.attention import attention_maps
from dkgzsl.representation.blocks import VisualFeatures
from dkgzsl.representation.evidence import AttributeEvidence, strengths, usual_scores
from dkgzsl.representation.representation import FittedBlocks, Pooled, representations
from worlds import world

CONFIG = RefinementConfig(steps=5, batch_size=12)


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Images of nine regions, each a share of the image's features; the global token is their mean."""
    made = world()
    rng = np.random.default_rng(5)
    spread = made.features[:, None] * (0.5 + rng.random((len(made.labels), 9, 1)))
    return replace(made, features=np.concatenate([spread.mean(1, keepdims=True), spread], 1).astype(np.float32))


@pytest.fixture(scope="module")
def fitted(problem: Problem) -> FittedBlocks:
    found = representations(["pooled+scores"], CONFIG, seed=0)[0].fit(problem, problem.parts.trainval)
    assert isinstance(found, FittedBlocks)
    return found


def test_usual_scores_are_those_of_training_images(problem: Problem, fitted: FittedBlocks) -> None:
    known, read = usual_scores(problem, fitted), usual_scores(problem, FittedBlocks(fitted.visual))
    assert known is not None
    assert read is not None
    torch.testing.assert_close(known, read)
    assert fitted.visual.refiner is not None
    tokens = torch.from_numpy(problem.features[problem.parts.trainval])
    scores = fitted.visual.refiner.read(tokens, ["scores"])["scores"]
    torch.testing.assert_close(known, torch.stack([scores.mean(0), scores.std(0, correction=0)]))
    assert usual_scores(problem, Pooled()) is None


def test_a_pass_with_attention_gives_the_same_vectors(problem: Problem, fitted: FittedBlocks) -> None:
    tokens = torch.from_numpy(problem.features[:5])
    vectors, maps = fitted.visual.with_attention(tokens)
    torch.testing.assert_close(vectors, fitted.visual(tokens))
    assert maps is not None
    assert maps.attention.shape == (5, problem.semantics.shape[1], 9)
    several = VisualFeatures(("scores", "extra"), fitted.visual.scaling, fitted.visual.refiner)
    with pytest.raises(DataError, match="several backbones"):
        several.with_attention(tokens)


def test_the_report_shows_the_strengths_of_the_evidence(problem: Problem, fitted: FittedBlocks) -> None:
    evidence, images = AttributeEvidence.of(problem, fitted), [3, 50]
    assert evidence is not None
    assert evidence.usual is not None
    shown = attention_maps(problem, fitted, images)
    assert shown is not None
    _, maps = fitted.visual.with_attention(torch.from_numpy(problem.features[images]))
    assert maps is not None
    expected = strengths(maps.scores.numpy(), evidence.usual)
    for row, best in enumerate(np.argsort(-expected, axis=1)[:, :3]):
        assert shown.attributes[row].tolist() == best.tolist()
        np.testing.assert_allclose(shown.strengths[row], expected[row, best], rtol=1e-5)
        np.testing.assert_allclose(shown.maps[row], maps.attention[row, best], rtol=1e-5)
        assert shown.names[row] == tuple(evidence.names[k] for k in best)


def test_both_are_read_as_they_were_written(problem: Problem, fitted: FittedBlocks, tmp_path: Path) -> None:
    evidence = AttributeEvidence.of(problem, fitted)
    assert evidence is not None
    evidence.write(tmp_path / "evidence.safetensors")
    again = AttributeEvidence.read(tmp_path / "evidence.safetensors")
    assert again is not None
    assert (again.names, again.source) == (evidence.names, evidence.source)
    torch.testing.assert_close((again.table, again.usual), (evidence.table, evidence.usual))
    fitted.visual.write(tmp_path / "representation.safetensors")
    visual = VisualFeatures.read(tmp_path / "representation.safetensors")
    assert visual is not None
    tokens = torch.from_numpy(problem.features[:5])
    assert torch.equal(visual(tokens), fitted.visual(tokens))
    assert VisualFeatures.read(tmp_path / "nothing") is None
    assert AttributeEvidence.read(tmp_path / "nothing") is None
