from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from occ_lab.data.datasets.defects import DEFECTS, SMALLEST, VISIBLE, changed, draw

KINDS = sorted(DEFECTS)


def texture(seed: int) -> np.ndarray:
    """Smoothed noise: a stand-in for a photograph."""
    noise = np.random.default_rng(seed).normal(size=(96, 128))
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return np.rint(128 + 30 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def draw_on(image: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return draw(kind, image, [texture(1000), texture(1001)], np.random.default_rng(seed))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_mask_is_what_changed(kind: str, seed: int) -> None:
    clean = texture(seed % 7)
    before = clean.copy()
    image, mask = draw_on(clean, kind, seed)
    assert image.dtype == np.uint8
    assert mask.dtype == bool
    assert image.shape == mask.shape == clean.shape
    assert np.array_equal(clean, before)
    assert np.array_equal(image[~mask], clean[~mask])
    assert (image[mask] != clean[mask]).mean() > 0.75
    assert mask.sum() >= SMALLEST


@pytest.mark.parametrize("kind", KINDS)
def test_same_generator_same_defect(kind: str) -> None:
    clean = texture(0)
    first, again, other = (draw_on(clean, kind, seed)[0] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_and_strengths_spread(kind: str) -> None:
    clean = texture(0)
    drawn = [draw_on(clean, kind, seed) for seed in range(40)]
    areas = [mask.sum() for _, mask in drawn]
    strengths = [np.abs(image.astype(float) - clean)[mask].mean() for image, mask in drawn]
    assert max(areas) > 3 * min(areas)
    assert max(strengths) > 1.5 * min(strengths)


def test_defect_that_cannot_show_is_refused() -> None:
    plain = np.full((96, 128), 100, np.uint8)
    with pytest.raises(ValueError, match="^clean is too plain to show a blur"):
        draw_on(plain, "blur", 0)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("kind", ["scratch", "stain"])
def test_both_darker_and_lighter(kind: str, sign: int) -> None:
    clean = texture(0)
    shifts = [
        np.mean(image[mask].astype(float) - clean[mask])
        for image, mask in (draw_on(clean, kind, seed) for seed in range(12))
    ]
    assert max(sign * shift for shift in shifts) > VISIBLE


def test_hole_is_dark() -> None:
    clean = texture(0)
    for seed in range(12):
        image, mask = draw_on(clean, "hole", seed)
        core = ndimage.binary_erosion(mask, iterations=3)
        assert np.median(image[core]) < clean.mean() - clean.std()


def test_blur_takes_detail_away() -> None:
    clean = texture(0)
    for seed in range(12):
        image, mask = draw_on(clean, "blur", seed)
        detail = [np.abs(ndimage.laplace(x.astype(float)))[mask].mean() for x in (clean, image)]
        assert detail[1] < detail[0]


def test_changed_ignores_the_invisible_and_fills_pinholes() -> None:
    clean = np.full((20, 20), 100, np.uint8)
    drawn = clean.copy()
    drawn[5:12, 5:12] += VISIBLE
    drawn[8, 8] = 100
    drawn[15:18, 15:18] += VISIBLE - 1
    expected = np.zeros((20, 20), bool)
    expected[5:12, 5:12] = True
    assert np.array_equal(changed(clean, drawn), expected)
