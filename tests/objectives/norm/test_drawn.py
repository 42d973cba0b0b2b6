"""One random projector compared with its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from occ_lab.features.levels import join
from occ_lab.objectives.norm.drawn import DrawnMaps, length_and_cosine
from occ_lab.objectives.norm.local_form import shrunk_moments
from tests.objectives.norm.test_norm_maps import CHANNELS, toy


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("norm", [0.5, 64.0])
def test_one_draw_has_the_length_and_angle_of_its_own_features(
    normalize: bool, norm: float
) -> None:
    levels, f, moments = toy(2, normalize)
    time, seed = 3.0, 5
    maps = DrawnMaps(moments, CHANNELS, time, seed).double()
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / np.sqrt(9)
    drawn = torch.rand(9, 10, generator=generator, dtype=torch.float64).numpy() * 2 * bound - bound
    target = torch.randn(9, generator=generator).double().numpy()
    target *= norm / np.linalg.norm(target)
    delta = drawn.copy()
    delta[:, -1] -= target
    sigma = f.T @ f / len(f)
    delta = delta @ expm(-time * sigma / np.diag(sigma).mean())
    phi = f @ delta.T + target
    length, cosine = length_and_cosine(maps(levels), norm)
    np.testing.assert_allclose(length.flatten(), np.linalg.norm(phi, axis=1), rtol=1e-4)
    plain = phi @ target / (norm * np.linalg.norm(phi, axis=1))
    np.testing.assert_allclose(cosine.flatten(), plain, atol=1e-4)


def test_the_initial_weights_are_the_same_in_every_cell() -> None:
    levels, _, moments = toy(3, False, cell=4)
    starts = [
        DrawnMaps(each, CHANNELS, 0.0, 0).double()(levels) for each in (moments, toy(3, False)[2])
    ]
    torch.testing.assert_close(*starts, rtol=1e-4, atol=1e-5)
    moved = DrawnMaps(moments, CHANNELS, 3.0, 0).double()(levels)
    # Of a cell by itself, whose moments are shrunk to those of all cells.
    sigma = shrunk_moments(moments)
    whole = np.trace(sigma.mean(dim=0).numpy()) / 10
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.rand(9, 10, generator=generator, dtype=torch.float64).numpy() * 2 - 1) / 3
    f = np.append(join(levels)[0, :, 5, 1].numpy(), 1.0)  # of the third cell
    p = drawn @ expm(-3.0 * sigma[2].numpy() / whole) @ f
    assert float(moved[0, 0, 5, 1]) == pytest.approx(p @ p, rel=1e-4)


def test_a_feature_of_length_zero_has_an_angle_too() -> None:
    length, cosine = length_and_cosine(torch.tensor([[0.0], [0.0], [1.0]]), norm=2.0)
    assert length.item() == 0
    assert -1 <= cosine.item() <= 1
