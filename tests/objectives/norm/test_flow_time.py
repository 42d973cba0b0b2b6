"""The choice of t from normal features alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from occ_lab.features.levels import join
from occ_lab.objectives.norm.closed_form import expected_factor
from occ_lab.objectives.norm.flow_time import TIMES, TOLERANCE, FlowTime, pasted_rows, separations
from occ_lab.objectives.norm.moments import HalvedMoments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1

LEVELS = (slice(0, 2), slice(2, 5))


def levels(seed: int, images: int = 12) -> list[torch.Tensor]:
    """Two levels that agree: the second repeats what the first shows, with noise."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(images, 4, 4, 4, generator=generator)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    return [fine, coarse + 0.1 * torch.randn(coarse.shape, generator=generator)]


def test_pasted_rows_take_each_level_from_another_row() -> None:
    f = np.random.default_rng(0).normal(size=(50, 5))
    pasted = pasted_rows(f, [2, 3], np.random.default_rng(1))
    taken = [
        [np.flatnonzero((f[:, at] == row[at]).all(axis=1))[0] for at in LEVELS] for row in pasted
    ]
    assert all(first != second for first, second in taken)
    assert [sorted(rows) for rows in zip(*taken, strict=True)] == [list(range(50))] * 2


def observed(whole: list[torch.Tensor]) -> tuple[FlowTime, HalvedMoments]:
    """The chooser and the moments after batches of odd size."""
    chooser, moments = FlowTime(normalize=False), HalvedMoments(normalize=False)
    for start in range(0, len(whole[0]), 5):
        _, held_out = moments.update([level[start : start + 5] for level in whole])
        chooser.observe(held_out)
    return chooser, moments


def test_separations_are_the_aurocs_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    normal, outliers = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) * 2
    root = rng.normal(size=(4, 4))
    sigma = torch.from_numpy(root @ root.T)
    extended = np.c_[np.concatenate([normal, outliers]), np.ones(50)]
    aurocs = separations(normal, outliers, sigma, outputs=5, norm=2.0)
    for t, auroc in zip(TIMES, aurocs, strict=True):
        factor = expected_factor(sigma, 5, 2.0, t).numpy()
        scores = np.linalg.norm(extended @ factor.T, axis=1)
        assert auroc == pytest.approx(roc_auc_score([0] * 30 + [1] * 20, scores), abs=2e-3)


def test_the_smallest_time_that_is_nearly_best_is_taken() -> None:
    chooser, moments = observed(levels(0))
    time, aurocs = chooser.choose(moments.half_mean(0), [4, 4], outputs=8, norm=1.0)
    best = max(aurocs.values())
    assert list(aurocs) == list(TIMES)
    assert aurocs[time] >= best - TOLERANCE
    assert all(aurocs[t] < best - TOLERANCE for t in TIMES if t < time)
    chooser, moments = observed(levels(0))
    assert chooser.choose(moments.half_mean(0), [4, 4], outputs=8, norm=1.0) == (time, aurocs)


def test_one_half_is_fitted_the_other_held_out() -> None:
    whole = levels(1)
    chooser, moments = observed(whole)
    assert moments.halves[0].total[-1, -1] == 6 * 16
    assert len(chooser.held_out) == 6 * 16
    rows = [level[::2] for level in whole]
    fitted = join(rows).permute(0, 2, 3, 1).reshape(-1, 8).double()
    extended = torch.cat([fitted, torch.ones(len(fitted), 1)], dim=1)
    torch.testing.assert_close(
        moments.half_mean(0), extended.T @ extended / len(fitted), rtol=1e-5, atol=1e-5
    )
    held = chooser.held_out[:, :4]
    assert not set(map(tuple, fitted[:, :4].numpy())) & set(map(tuple, held))


def test_a_single_image_gives_a_default() -> None:
    chooser, moments = observed([level[:1] for level in levels(0)])
    assert chooser.choose(moments.half_mean(0), [4, 4], 8, 1.0) == (10.0, {})


def test_auto_solves_as_the_time_it_picks() -> None:
    whole = levels(2)
    projector = Conv1x1([4, 4])
    auto = Norm(8, solver="closed_form", time="auto")
    auto.observe(whole)
    auto.finish(projector)
    assert auto.time in TIMES
    factor = expected_factor(auto.moments.mean, 8, 1.0, float(auto.time))
    torch.testing.assert_close(projector.conv.weight[:, :, 0, 0], factor[:, :-1].float())


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^time must be"):
        Norm(4, solver="closed_form", time="best")
