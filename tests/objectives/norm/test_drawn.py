"""One draw of the projector against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from occ_lab.objectives.norm.drawn import DrawnMaps, length_and_cosine
from tests.objectives.norm.test_norm_maps import CHANNELS, toy


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("norm", [0.5, 64.0])
def test_one_draw_has_the_length_and_angle_of_its_own_features(
    normalize: bool, norm: float
) -> None:
    levels, f, sigma = toy(2, normalize)
    time, seed = 3.0, 5
    maps = DrawnMaps(sigma, CHANNELS, time, normalize, seed).double()
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / np.sqrt(9)
    drawn = torch.rand(9, 10, generator=generator, dtype=torch.float64).numpy() * 2 * bound - bound
    target = torch.randn(9, generator=generator).double().numpy()
    target *= norm / np.linalg.norm(target)
    delta = drawn.copy()
    delta[:, -1] -= target
    delta = delta @ expm(-time * sigma.numpy() / np.diag(sigma).mean())
    phi = f @ delta.T + target
    length, cosine = length_and_cosine(maps(levels), norm)
    np.testing.assert_allclose(length.flatten(), np.linalg.norm(phi, axis=1), rtol=1e-4)
    plain = phi @ target / (norm * np.linalg.norm(phi, axis=1))
    np.testing.assert_allclose(cosine.flatten(), plain, atol=1e-4)


def test_a_feature_of_length_zero_has_an_angle_too() -> None:
    length, cosine = length_and_cosine(torch.tensor([[0.0], [0.0], [1.0]]), norm=2.0)
    assert length.item() == 0
    assert -1 <= cosine.item() <= 1
