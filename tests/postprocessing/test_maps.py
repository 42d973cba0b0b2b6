"""Upsampling, smoothing and image scores against SciPy, NumPy and the official values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from occ_lab.postprocessing.maps import image_score, upsample_and_smooth

sides = st.integers(1, 40)


@pytest.mark.parametrize(("sigma", "expected"), [(0, "upsampled"), (4, "smoothed")])
def test_equals_the_official_values(shared_data: Path, sigma: float, expected: str) -> None:
    official = np.load(shared_data / "reference" / "postprocessing_official.npz")
    maps = upsample_and_smooth(torch.from_numpy(official["heat"]), (96, 96), sigma)
    np.testing.assert_allclose(maps.numpy(), official[expected], rtol=1e-4)


@settings(deadline=None)
@given(sides, sides, sides, sides, st.sampled_from([0.0, 0.3, 1.0, 4.0]), st.integers(0, 999))
def test_equals_interpolation_then_gaussian_filter(
    H: int, W: int, h: int, w: int, sigma: float, seed: int
) -> None:
    scores = torch.rand(2, H, W, dtype=torch.float64, generator=torch.manual_seed(seed))
    expected = F.interpolate(scores[:, None], (h, w), mode="bilinear", align_corners=False)[:, 0]
    if sigma:
        expected = torch.stack([torch.from_numpy(gaussian_filter(m, sigma)) for m in expected])
    torch.testing.assert_close(upsample_and_smooth(scores, (h, w), sigma), expected)


def test_half_precision_is_not_lost_further() -> None:
    scores = torch.rand(1, 8, 8, generator=torch.manual_seed(0)).bfloat16()
    expected = upsample_and_smooth(scores.double(), (32, 32), 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = upsample_and_smooth(scores, (32, 32), 2.0)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.double(), expected, rtol=1e-5, atol=1e-6)


def test_gradient_flows_after_a_call_in_inference_mode() -> None:
    with torch.inference_mode():
        upsample_and_smooth(torch.rand(1, 3, 3, dtype=torch.float64), (6, 6), 1.0)
    scores = torch.rand(1, 3, 3, dtype=torch.float64, requires_grad=True)
    upsample_and_smooth(scores, (6, 6), 1.0).sum().backward()
    # Each axis hands on all it was given: borders repeat, so the 36 pixels' weights sum to 36.
    assert scores.grad is not None
    assert scores.grad.sum() == pytest.approx(36)


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_refuses_a_negative_sigma(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"^sigma must be >= 0"):
        upsample_and_smooth(torch.rand(1, 2, 2), (4, 4), sigma)


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.001, 1), st.integers(0, 999))
def test_top_is_the_mean_of_the_highest_share(h: int, w: int, top: float, seed: int) -> None:
    maps = torch.randn(3, h, w, generator=torch.manual_seed(seed))
    count = max(1, round(top * h * w))
    expected = np.sort(maps.numpy().reshape(3, -1))[:, -count:].mean(1)
    np.testing.assert_allclose(image_score(maps, "top", top), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(image_score(maps, "max", top), maps.numpy().max((1, 2)))


@pytest.mark.parametrize("top", [0.0, -0.1, 1.1, float("nan")])
def test_refuses_a_share_out_of_range(top: float) -> None:
    with pytest.raises(ValueError, match=r"^top must be in \(0, 1\]"):
        image_score(torch.rand(1, 2, 2), "top", top)


def test_refuses_another_way_to_score() -> None:
    with pytest.raises(ValueError, match=r"^how must be max or top, got mean"):
        image_score(torch.rand(1, 2, 2), "mean", 0.1)  # type: ignore[arg-type]
