"""Maps, thumbnails and colours of a gallery."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from occ_lab.metrics.calibration import Calibration
from occ_lab.reporting.gallery.maps import MAP_SIDE, pooled, stored_map, thumbnail
from occ_lab.reporting.gallery.scale import Scale


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_a_pooled_map_keeps_its_peak_where_it_is(
    height: int, width: int, side: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(height, width))
    small = pooled(values, side)
    block = -(-max(height, width) // side)
    assert max(small.shape) <= side
    assert small.max() == values.max()
    for row in range(small.shape[0]):
        for column in range(small.shape[1]):
            part = values[row * block : (row + 1) * block, column * block : (column + 1) * block]
            assert small[row, column] == part.max()


def test_a_stored_map_is_right_to_half_a_level() -> None:
    values = np.random.default_rng(0).normal(size=(600, 400)).astype(np.float32)
    stored = stored_map(values)
    pixels = np.asarray(Image.open(io.BytesIO(stored.png))).astype(float)
    assert pixels.shape == (150, 100)
    assert max(pixels.shape) <= MAP_SIDE
    back = stored.low + pixels / 255 * (stored.high - stored.low)
    assert np.abs(back - pooled(values, MAP_SIDE)).max() <= (stored.high - stored.low) / 509
    assert stored.high == values.max()


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30])
def test_a_flat_map_can_be_stored(value: float) -> None:
    stored = stored_map(np.full((4, 4), value, np.float32))
    assert (stored.low, stored.high) == (np.float32(value), np.float32(value))


def test_a_good_part_looks_calm_and_a_defect_does_not() -> None:
    peaks = torch.linspace(1, 2, 99)
    scale = Scale.of_calibration(Calibration.of(peaks, peaks), 0.05)
    assert scale.calm == pytest.approx(1.5)
    assert scale.threshold == Calibration.of(peaks, peaks).pixel_threshold(0.05)
    grey = np.full((64, 64, 3), 128, np.uint8)

    def shown(peak: float) -> np.ndarray:
        heat = np.zeros((16, 16), np.float32)
        heat[4:8, 4:8] = peak
        file = io.BytesIO(thumbnail(grey, heat, scale))
        return np.asarray(Image.open(file)).astype(int)

    assert np.abs(shown(1.4) - 128).max() <= 2
    assert np.abs(shown(5.0) - 128).max() > 60
    assert np.abs(shown(5.0)[48:, 48:] - 128).max() <= 4  # where there is no defect


@pytest.mark.parametrize("threshold", [None, float("inf")])
def test_colours_without_a_threshold_begin_at_the_median(threshold: float | None) -> None:
    scale = Scale.of(np.arange(101.0), threshold)
    assert (scale.calm, scale.threshold) == (50.0, 95.0)


def test_equal_peaks_have_a_scale() -> None:
    scale = Scale.of(np.zeros(3))
    assert np.isfinite(scale.strength(np.array([0.0, 1.0]))).all()


def test_a_thumbnail_keeps_the_shape_of_its_image() -> None:
    file = io.BytesIO(thumbnail(np.zeros((300, 600, 3), np.uint8), None, None))
    assert Image.open(file).size == (160, 80)
