"""Two maps for each time compared with the score of each norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from occ_lab.features.levels import join, unit_scale
from occ_lab.objectives.norm.local_form import INTEGRATED
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.norm_maps import NormMaps, integrated
from occ_lab.objectives.norm.objective import Norm
from tests.objectives.norm.plain_local import plain_scores

CHANNELS = [3, 2, 4]
TIMES = [0.0, 1.0, 10.0]


def toy(
    seed: int, normalize: bool, cell: int | None = None
) -> tuple[list[torch.Tensor], np.ndarray, LocalMoments]:
    """Levels, their extended joined features f̃ ``[N, C + 1]``, and moments."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.rand(4, count, side, side, generator=generator, dtype=torch.float64) + 0.2 * place
        for place, (count, side) in enumerate(zip(CHANNELS, (8, 4, 2), strict=True))
    ]
    f = join(levels) * (unit_scale(levels) if normalize else 1)
    f = f.permute(0, 2, 3, 1).reshape(-1, sum(CHANNELS)).numpy()
    moments = LocalMoments(cell, normalize)
    moments.update(levels)
    return levels, np.concatenate([f, np.ones((len(f), 1))], axis=1), moments


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.booleans(), st.floats(0.01, 30))
def test_two_maps_give_the_score_of_every_norm(seed: int, normalize: bool, norm: float) -> None:
    levels, f, moments = toy(seed, normalize)
    spread, constant = NormMaps(moments, CHANNELS, TIMES).double()(levels)
    assert spread.shape == constant.shape == (3, 4, 8, 8)
    sigma = f.T @ f / len(f)
    for place, time in enumerate(TIMES):
        ours = (spread[place] + norm**2 * constant[place].square()).flatten().numpy()
        flow = expm(-time * sigma / np.diag(sigma).mean())
        a = np.diag([1 / 3] * 9 + [1 / 3 + norm**2])  # variance 1/(3·9) of 9 outputs
        plain = np.einsum("ni,ij,nj->n", f, flow @ a @ flow, f)
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("cell", [3, 4, None])
@pytest.mark.parametrize("norm", [0.5, 8.0])
@pytest.mark.parametrize("time", [0.1, "integrated"])
def test_a_projector_of_one_norm_gives_the_same_score(
    cell: int | None, norm: float, time: float | str
) -> None:
    levels, f, moments = toy(1, False, cell)
    times = INTEGRATED if time == "integrated" else (float(time),)
    maps = NormMaps(moments, CHANNELS, times)
    floats = [level.float() for level in levels]
    spread, constant = integrated(*maps(floats), maps.means, norm)
    ours = (spread + norm**2 * constant).sqrt()
    objective = Norm(solver="closed_form", bias="flow", cell=cell, time=time, norm=norm)  # type: ignore[arg-type]
    projector = objective.default_projector(CHANNELS)
    objective.observe(levels)
    objective.finish(projector)
    torch.testing.assert_close(ours, objective(projector(floats)), rtol=1e-3, atol=1e-4)
    features = f[:, :-1].reshape(4, 8, 8, -1)
    plain = plain_scores(features, features, cell, "flow", times, 1 / 3, norm)
    np.testing.assert_allclose(ours**2, plain, rtol=2e-3, atol=1e-4 * plain.max())
