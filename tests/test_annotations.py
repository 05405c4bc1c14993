"""The checks of annotations themselves: each kind of wrong value is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, no_type_check

import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor

from annotations import checked
from dkgzsl.evaluation.metrics import harmonic_mean

if TYPE_CHECKING:
    from nowhere import Unknown


@checked
def scaled(values: Float[Tensor, "rows columns"], by: Float[Tensor, " columns"]) -> Float[Tensor, "rows columns"]:
    return values * by if len(by) > 1 else values[0]


@checked
def counts(numbers: list[int], *, least: int = 0, other: Unknown | None = None) -> Iterator[int]:
    yield from (one for one in numbers if one >= least)


@checked
@dataclass(frozen=True)
class Pair:
    features: Float[Tensor, "images channels"]
    labels: Int[Tensor, " images"]


def test_what_fits_passes() -> None:
    assert scaled(torch.ones(3, 2), torch.ones(2)).shape == (3, 2)
    assert scaled(torch.ones(5, 4), torch.ones(4)).shape == (5, 4)  # an axis has one size a call
    assert list(counts([1, 2], least=2, other=object())) == [2]
    assert Pair(torch.ones(3, 2), torch.arange(3)).labels.shape == (3,)


def test_no_type_check_is_respected() -> None:
    assert no_type_check(checked(lengths))(3) == 3


def lengths(values: str) -> str:
    return values


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (scaled, (torch.ones(3, 2), torch.ones(3))),
        (scaled, (torch.ones(3), torch.ones(3))),
        (scaled, (torch.ones(3, 2, dtype=torch.int64), torch.ones(2))),
        (scaled, (torch.ones(3, 1), torch.ones(1))),  # its result has one axis
        (counts, (["1"],)),
        (Pair, (torch.ones(3, 2), torch.arange(4))),
        (harmonic_mean, ("0.5", 0.5)),  # a function of the package
    ],
)
def test_what_does_not_fit_is_noticed(function, given) -> None:
    with pytest.raises(TypeCheckError):
        function(*given)
