"""Scalings of features, compared with scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, StandardScaler

from dkgzsl.errors import ConfigError
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings

THEIRS = {
    "none": FunctionTransformer(),
    "min-max": MinMaxScaler(),
    "unit": Normalizer(),
    "square-root": FunctionTransformer(np.sqrt),
    "standard": StandardScaler(),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_each_scale_is_sklearns_fitted_on_training_images_alone(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    training = 5 * torch.rand(30, 6, generator=random)
    training[:, 2] = 1.5  # constant in training
    held = 9 * torch.rand(10, 6, generator=random)
    scaling = Scaling.fit(name, training)
    theirs = THEIRS[name].fit(training.numpy())
    np.testing.assert_allclose(scaling(held).numpy(), theirs.transform(held.numpy()), rtol=1e-4, atol=1e-5)
    again = Scaling.load(name, scaling.tensors())
    assert torch.equal(again(held), scaling(held))


def test_negative_features_take_no_square_root() -> None:
    signed = torch.tensor([[1.0, -0.1], [2.0, 3.0]])
    assert fitting_scalings(SCALINGS, signed) == tuple(n for n in SCALINGS if n != "square-root")
    assert fitting_scalings(SCALINGS, signed.abs()) == SCALINGS
    with pytest.raises(ConfigError, match="no square root"):
        Scaling.fit("square-root", signed)
    rooted = Scaling.fit("square-root", signed.abs())
    assert rooted(signed)[0, 1] == 0  # held out, and below what training had


def test_an_unknown_scaling_is_an_error() -> None:
    with pytest.raises(ConfigError, match="min-max"):
        Scaling.fit("minmax", torch.ones(2, 2))
