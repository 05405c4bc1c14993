"""The classifier against automatic differentiation and against what it must be able to tell apart."""

import torch
from torch.nn import functional
from toys import Toy

from dkgzsl.methods.shared.softmax import train_softmax


def test_one_epoch_equals_automatic_differentiation(toy: Toy) -> None:
    features, labels = toy.features.double(), toy.labels * 2  # class numbers with gaps
    classes = torch.arange(5) * 2
    options = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05}
    *_, fast = train_softmax(features, labels, classes, **options, generator=torch.Generator().manual_seed(4))

    random = torch.Generator().manual_seed(4)
    weight = (0.02 * torch.randn(5, 12, generator=random, dtype=torch.float64)).requires_grad_(True)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight, bias], lr=0.05, betas=(0.5, 0.999))
    for _ in range(2):
        order = torch.randperm(40, generator=random)
        for start in (0, 16, 32):  # the last batch has 8
            here = order[start : start + 16]
            adam.zero_grad()
            functional.cross_entropy(features[here] @ weight.T + bias, labels[here] // 2).backward()
            adam.step()
    torch.testing.assert_close(fast.weight, weight.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fast.bias, bias.detach(), rtol=1e-9, atol=1e-12)


def test_each_epoch_is_yielded_and_stays_as_it_was(toy: Toy) -> None:
    classifiers = list(
        train_softmax(
            toy.features,
            toy.labels,
            torch.arange(5),
            epochs=3,
            batch_size=8,
            learning_rate=0.1,
            generator=torch.Generator().manual_seed(0),
        )
    )
    assert len(classifiers) == 3
    assert not torch.equal(classifiers[0].weight, classifiers[1].weight)


def test_clusters_are_told_apart_in_both_precisions(toy: Toy) -> None:
    for features in (toy.features, toy.features.bfloat16()):
        *_, last = train_softmax(
            features,
            toy.labels,
            torch.arange(5),
            epochs=30,
            batch_size=8,
            learning_rate=0.1,
            generator=torch.Generator().manual_seed(0),
        )
        assert last.weight.dtype == torch.float32
        log_probabilities = last.log_probabilities(toy.features)
        assert (log_probabilities.argmax(dim=1) == toy.labels).float().mean() > 0.95
        torch.testing.assert_close(log_probabilities.exp().sum(dim=1), torch.ones(40))
