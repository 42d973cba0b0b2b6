"""F1 at a threshold from normal images, compared with NumPy over all pixels at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from occ_lab.metrics import PixelSegF1
from occ_lab.metrics.segmentation import pixel_moments, segmentation_threshold
from tests.metrics.plain import CLOSE, measure, some_maps


@given(seed=st.integers(0, 99), shift=st.sampled_from([0.0, 1000.0]))
@settings(deadline=None)
def test_the_threshold_is_that_of_all_pixels_at_once(seed: int, shift: float) -> None:
    """Of maps of several sizes, some of which do not fill their frame."""
    rng = np.random.default_rng(seed)
    pixels, moments = [], []
    for _ in range(4):
        maps = (shift + rng.gamma(2, size=rng.integers(1, 7, 3))).astype(np.float32)
        box = [0, 0, *(int(side) for side in rng.integers(1, 1 + np.array(maps.shape[1:])))]
        moments.append(pixel_moments(torch.from_numpy(maps), torch.tensor([box] * len(maps))))
        pixels.append(maps[:, : box[2], : box[3]].ravel())
    every = np.concatenate(pixels).astype(np.float64)
    found = segmentation_threshold(torch.cat(moments))
    assert found == pytest.approx(every.mean() + 3 * every.std(), rel=1e-9)


@given(sample=some_maps, seed=st.integers(0, 99), cut=st.integers(0, 13))
@settings(deadline=None, max_examples=40)
def test_f1_is_that_of_scikit_learn(
    sample: tuple[np.ndarray, np.ndarray], seed: int, cut: int
) -> None:
    """Of all images, and of the images of a group with the normal pixels of all."""
    maps, masks = sample
    threshold = float(np.random.default_rng(seed).choice(maps.ravel()))
    metric = PixelSegF1(threshold, groups=2)
    groups = torch.arange(len(maps)) % 3 - 1
    for part in (slice(cut), slice(cut, None)):
        metric.update(*(torch.from_numpy(each[part]) for each in (maps, masks)), groups[part])
    above = maps > threshold
    expected = f1_score(masks.ravel(), above.ravel(), zero_division=0)
    assert float(metric.compute()) == pytest.approx(expected, abs=CLOSE)
    for group in (0, 1):
        own = ~masks | (groups.numpy() == group)[:, None, None]
        expected = f1_score(masks[own], above[own], zero_division=0) if masks[own].any() else np.nan
        assert metric.of(group) == pytest.approx(expected, abs=CLOSE, nan_ok=True)


def test_without_anomalous_pixels_it_is_nan() -> None:
    maps = np.ones((2, 3, 3), np.float32)
    assert np.isnan(measure(PixelSegF1(0.5), (maps, np.zeros(maps.shape, dtype=bool))))
