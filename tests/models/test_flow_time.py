"""The choice of t from normal features alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from occ_lab.models.closed_form import expected_factor
from occ_lab.models.flow_time import TIMES, TOLERANCE, FlowTime, cut_and_paste, separation
from occ_lab.models.norm import Norm
from occ_lab.models.projector import Conv1x1


def levels(seed: int, images: int = 12) -> list[torch.Tensor]:
    """Two levels that agree: the second repeats what the first shows, with noise."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.randn(images, 4, 4, 4, generator=generator)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    return [fine, coarse + 0.1 * torch.randn(coarse.shape, generator=generator)]


def test_pasted_levels_are_normal_by_themselves() -> None:
    f = np.random.default_rng(0).normal(size=(50, 5))
    pasted = cut_and_paste(f, [2, 3], np.random.default_rng(1))
    for columns in (slice(0, 2), slice(2, 5)):
        assert sorted(map(tuple, pasted[:, columns])) == sorted(map(tuple, f[:, columns]))
    kept = [(row == f).all(axis=1).any() for row in pasted]
    assert np.mean(kept) < 0.2
    single = cut_and_paste(f, [5], np.random.default_rng(1))
    assert (np.sort(single, axis=0) == np.sort(f, axis=0)).all()
    assert not (single == f).all()


def test_separation_is_the_auroc_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    normal, outliers, factor = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) * 2, np.eye(4)
    extended = [np.c_[f, np.ones(len(f))] for f in (normal, outliers)]
    scores = np.concatenate([np.linalg.norm(f @ factor.T, axis=1) for f in extended])
    expected = roc_auc_score([0] * 30 + [1] * 20, scores)
    assert separation(normal, outliers, torch.from_numpy(factor)) == pytest.approx(expected)


def test_the_smallest_time_that_is_nearly_best_is_taken() -> None:
    chooser = FlowTime([4, 4], normalize=False)
    for start in range(0, 12, 5):  # batches of odd size
        chooser.observe([level[start : start + 5] for level in levels(0)])
    time, told = chooser.choose(outputs=8, norm=1.0)
    best = max(told.values())
    assert list(told) == list(TIMES)
    assert told[time] >= best - TOLERANCE
    assert all(told[t] < best - TOLERANCE for t in TIMES if t < time)
    again = FlowTime([4, 4], normalize=False)
    for start in range(0, 12, 5):
        again.observe([level[start : start + 5] for level in levels(0)])
    assert again.choose(outputs=8, norm=1.0) == (time, told)


def test_one_half_is_fitted_the_other_held_out() -> None:
    chooser = FlowTime([4, 4], normalize=False)
    whole = levels(1)
    for start in range(0, 12, 5):
        chooser.observe([level[start : start + 5] for level in whole])
    assert chooser.fitted.total[-1, -1] == 6 * 16
    assert sum(map(len, chooser.held_out)) == 6 * 16
    fitted = whole[0][::2].permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    held = np.concatenate(chooser.held_out)[:, :4]
    assert not set(map(tuple, fitted)) & set(map(tuple, held))


def test_a_single_image_gives_a_default() -> None:
    chooser = FlowTime([4, 4], normalize=False)
    chooser.observe([level[:1] for level in levels(0)])
    assert chooser.choose(8, 1.0) == (10.0, {})


def test_auto_solves_as_the_time_it_picks() -> None:
    whole = levels(2)
    projector = Conv1x1([4, 4])
    auto = Norm(8, [4, 4], solver="closed_form", time="auto")
    auto.observe(whole)
    auto.finish(projector)
    assert auto.time in TIMES
    factor = expected_factor(auto.moments.mean, 8, 1.0, float(auto.time))
    torch.testing.assert_close(projector.conv.weight[:, :, 0, 0], factor[:, :-1].float())


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^time must be"):
        Norm(4, [4], solver="closed_form", time="best")
