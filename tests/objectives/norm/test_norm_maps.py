"""Two maps a time against the score of each norm."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from occ_lab.features.levels import join, unit_scale
from occ_lab.objectives.norm.closed_form import expected_factor
from occ_lab.objectives.norm.moments import Moments
from occ_lab.objectives.norm.norm_maps import NormMaps

CHANNELS = [3, 2, 4]
TIMES = [0.0, 1.0, 10.0]


def toy(seed: int, normalize: bool) -> tuple[list[torch.Tensor], np.ndarray, torch.Tensor]:
    """Levels, their extended joined features f̃ ``[N, C + 1]``, and Σ, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.rand(4, count, side, side, generator=generator, dtype=torch.float64) + 0.2 * place
        for place, (count, side) in enumerate(zip(CHANNELS, (8, 4, 2), strict=True))
    ]
    f = join(levels) * (unit_scale(levels) if normalize else 1)
    f = f.permute(0, 2, 3, 1).reshape(-1, sum(CHANNELS)).numpy()
    moments = Moments(normalize)
    moments.update(levels)
    return levels, np.concatenate([f, np.ones((len(f), 1))], axis=1), moments.mean


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.booleans(), st.floats(0.01, 30))
def test_two_maps_give_the_score_of_every_norm(seed: int, normalize: bool, norm: float) -> None:
    levels, f, sigma = toy(seed, normalize)
    spread, constant = NormMaps(sigma, CHANNELS, TIMES, normalize).double()(levels)
    assert spread.shape == constant.shape == (3, 4, 8, 8)
    for place, time in enumerate(TIMES):
        ours = (spread[place] + norm**2 * constant[place].square()).flatten().numpy()
        flow = expm(-time * sigma.numpy() / np.diag(sigma).mean())
        a = np.diag([1 / 3] * 9 + [1 / 3 + norm**2])  # variance 1/(3·9) of 9 outputs
        plain = np.einsum("ni,ij,nj->n", f, flow @ a @ flow, f)
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-9)


def test_the_factor_of_one_norm_gives_the_same_score() -> None:
    # Small times and norms: the factor leaves out directions that have all but vanished.
    levels, f, sigma = toy(1, False)
    spread, constant = NormMaps(sigma, CHANNELS, [0.0, 0.1], False).double()(levels)
    for place, time in enumerate([0.0, 0.1]):
        for norm in (0.125, 1.0, 4.0):
            ours = (spread[place] + norm**2 * constant[place].square()).sqrt().flatten()
            factor = expected_factor(sigma, 9, norm, time).numpy()
            np.testing.assert_allclose(
                ours.numpy(), np.linalg.norm(f @ factor.T, axis=1), rtol=1e-5
            )
