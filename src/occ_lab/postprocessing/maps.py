"""From the score map of a network's grid to a full-size anomaly map and one score an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from occ_lab.utils.interpolation import upsampling_matrix


def upsample_and_smooth(scores: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Upsamples score maps bilinearly, then smooths them with a Gaussian.

    Equals ``F.interpolate(mode="bilinear", align_corners=False)`` followed by SciPy's
    ``gaussian_filter`` (truncated at 4 sigma, reflected borders). Both are linear and separable,
    so each axis is one small matrix and no full-size map is ever filtered.

    Args:
        scores: Score maps, float ``[B, H, W]``.
        size: Height and width of the anomaly maps, in pixels.
        sigma: Standard deviation of the Gaussian in pixels of the anomaly map; 0 smooths nothing.

    Returns:
        Anomaly maps ``[B, h, w]`` on the device of ``scores``, float32 or wider.

    Raises:
        ValueError: ``sigma`` is negative.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be >= 0, got {sigma}")
    # Half precision, of the input or of an autocast region around this call, would tie
    # neighbouring pixels that the smoothing has just told apart.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    grid = scores.shape[-2:]
    rows, columns = (matrix.to(scores) for matrix in axis_matrices(grid, size, sigma))
    with torch.autocast(scores.device.type, enabled=False):
        return rows @ scores @ columns.T


def axis_matrices(grid: Sequence[int], size: Sequence[int], sigma: float) -> tuple[Tensor, Tensor]:
    """R ``[h, H]`` and C ``[w, W]``, float64: ``R s Cᵀ`` is the anomaly map of scores s ``[H, W]``.

    Args:
        grid: H and W.
        size: h and w.
        sigma: as of `upsample_and_smooth`.
    """
    rows, columns = (axis_matrix(n, m, sigma) for n, m in zip(grid, size, strict=True))
    return torch.from_numpy(rows), torch.from_numpy(columns)


@lru_cache(maxsize=32)
def axis_matrix(source: int, target: int, sigma: float) -> np.ndarray:
    """Upsampling and smoothing along one axis, as a matrix ``[target, source]`` in float64.

    Its columns are what becomes of the unit vectors.
    """
    columns = upsampling_matrix(source, target).T
    if sigma > 0:
        columns = gaussian_filter1d(columns, sigma, axis=1, mode="reflect", truncate=4.0)
    return columns.T


def image_score(maps: Tensor, how: Literal["max", "top"], top: float) -> Tensor:
    """Scores each image by its anomaly map.

    Args:
        maps: Anomaly maps, float ``[B, h, w]``.
        how: ``max`` for the map's maximum, ``top`` for the mean of its highest share.
        top: That share of the map's pixels, in (0, 1]; at least one pixel is taken.

    Returns:
        Image scores ``[B]``, of the dtype and on the device of ``maps``.

    Raises:
        ValueError: ``how`` is none of the two, or ``top`` is out of range.
    """
    if how not in ("max", "top"):
        raise ValueError(f"how must be max or top, got {how}")
    if not 0 < top <= 1:
        raise ValueError(f"top must be in (0, 1], got {top}")
    pixels = maps.flatten(1)
    count = 1 if how == "max" else max(1, round(top * pixels.shape[1]))
    return pixels.topk(count, dim=1).values.mean(dim=1)
