import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler

from dkgzsl.methods.shared.scaling import MinMax


def test_scale_equals_scikit_learn_and_does_not_cut() -> None:
    random = np.random.default_rng(0)
    train, other = random.normal(size=(20, 5)), 3 * random.normal(size=(7, 5))
    train[:, 2] = 4.0  # constant in training
    ours = MinMax.fit(torch.from_numpy(train))
    theirs = MinMaxScaler().fit(train)
    scaled = ours.scale(torch.from_numpy(other))
    np.testing.assert_allclose(scaled.numpy(), theirs.transform(other), rtol=1e-10)
    assert (scaled < 0).any()
    assert (scaled > 1).any()
    np.testing.assert_allclose(ours.unscale(scaled).numpy(), other, rtol=1e-10)
