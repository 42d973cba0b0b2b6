"""Full-size anomaly maps and image scores from score maps on the grid of a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor

from occ_lab.features.regions import span, spans
from occ_lab.utils.interpolation import upsampling_matrix


def upsample_and_smooth(
    scores: Tensor, size: tuple[int, int], sigma: float, box: Sequence[int] | None = None
) -> Tensor:
    """Upsample score maps bilinearly, then smooth them with a Gaussian.

    The result equals ``F.interpolate(mode="bilinear", align_corners=False)`` followed by SciPy's
    ``gaussian_filter`` (truncated at 4 sigma, reflected borders). Both are linear and separable, so
    each axis needs only one small matrix, and no full-size map is filtered.

    Args:
        scores: score maps, float ``[B, H, W]``.
        size: height h and width w of the anomaly maps in pixels.
        sigma: the standard deviation of the Gaussian in pixels of the anomaly map; 0 turns
            smoothing off.
        box: top, left, height and width of the requested part of the maps, in pixels. Its
            surroundings have no effect, as if the maps ended there; None returns the whole maps.

    Returns:
        Anomaly maps ``[B, h, w]``, or of the size of the box, on the device of ``scores``, float32
        or wider.

    Raises:
        ValueError: ``sigma`` is negative.

    Example:
        >>> upsample_and_smooth(torch.rand(2, 56, 56), (224, 224), sigma=4.0).shape
        torch.Size([2, 224, 224])
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be >= 0, got {sigma}")
    # In half precision, from the input or an autocast region around this call, neighbouring pixels
    # that should differ after smoothing would get equal values.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    grid = scores.shape[-2:]
    if box is not None:
        (top, bottom), (left, right) = spans(box, size, grid)
        scores = scores[:, top:bottom, left:right]
    rows, columns = (matrix.to(scores) for matrix in axis_matrices(grid, size, sigma, box))
    with torch.autocast(scores.device.type, enabled=False):
        return rows @ scores @ columns.T


def smoothed(scores: Tensor, sigma: float) -> Tensor:
    """Smooth a map ``[H, W]`` like `upsample_and_smooth`, with little additional memory.

    Args:
        scores: float ``[H, W]``, of any size.
        sigma: the standard deviation of the Gaussian in positions, at least 0.

    Returns:
        float32 ``[H, W]`` on the CPU.

    Example:
        >>> float(smoothed(torch.eye(9), sigma=1.0).sum().round())
        9.0
    """
    values = scores.float().cpu()
    if sigma == 0:
        return values
    return torch.from_numpy(gaussian_filter(values.numpy(), sigma, mode="reflect", truncate=4.0))


def on_grid(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reduce masks to a grid: a position is marked if at least half of it is.

    Args:
        masks: bool ``[B, h, w]``.
        grid: H and W. If no position of a mask is marked by half, all positions that it touches
            are marked.

    Returns:
        bool ``[B, H, W]``.

    Example:
        >>> on_grid(torch.eye(4, dtype=torch.bool)[None], (2, 2))
        tensor([[[ True, False],
                 [False,  True]]])
    """
    values = masks[:, None].float()
    half = F.adaptive_avg_pool2d(values, grid)[:, 0] >= 0.5
    lost = ~half.flatten(1).any(dim=1)
    touched = F.adaptive_max_pool2d(values, grid)[:, 0] > 0
    return torch.where(lost[:, None, None], touched, half)


def axis_matrices(
    grid: Sequence[int], size: Sequence[int], sigma: float, box: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """The matrices R and C of `upsample_and_smooth`: ``R s Cᵀ`` is the map of scores s ``[H, W]``.

    Args:
        grid: H and W.
        size: h and w.
        sigma: see `upsample_and_smooth`.
        box: likewise.

    Returns:
        R ``[h, H]`` and C ``[w, W]``, float64; with a box, only for it and the positions in it.
    """
    top, left, height, width = box or (0, 0, *size)
    parts = ((top, height), (left, width))
    rows, columns = (
        axis_matrix(n, m, sigma, *part) for n, m, part in zip(grid, size, parts, strict=True)
    )
    return torch.from_numpy(rows), torch.from_numpy(columns)


@lru_cache(maxsize=32)
def axis_matrix(
    source: int, target: int, sigma: float, start: int = 0, length: int | None = None
) -> np.ndarray:
    """Upsampling and smoothing along one axis, as a matrix ``[length, positions]`` in float64.

    Its columns are the results for unit vectors at those of ``source`` positions that lie on
    ``length`` of ``target`` pixels, beginning at ``start``; by default at all of them.
    """
    if length in (None, target):
        columns = upsampling_matrix(source, target).T
    else:
        first, behind = span(start, length, target, source)
        cells = (start + np.arange(length) + 0.5) * source / target - 0.5 - first
        count = behind - first
        columns = np.stack([np.interp(cells, np.arange(count), unit) for unit in np.eye(count)])
    if sigma > 0:
        columns = gaussian_filter1d(columns, sigma, axis=1, mode="reflect", truncate=4.0)
    return columns.T


def image_score(maps: Tensor, how: Literal["max", "top"], top: float) -> Tensor:
    """Score each image by its anomaly map.

    Args:
        maps: anomaly maps, float ``[B, h, w]``.
        how: ``max`` for the maximum of the map, ``top`` for the mean of its highest pixels.
        top: the fraction of pixels to average, in (0, 1]; at least one pixel is used.

    Returns:
        Image scores ``[B]``, with the dtype and device of ``maps``.

    Raises:
        ValueError: ``how`` is neither of the two, or ``top`` is out of range.

    Example:
        >>> image_score(torch.arange(8.0).view(2, 2, 2), "top", 0.5)
        tensor([2.5000, 6.5000])
    """
    if how not in ("max", "top"):
        raise ValueError(f"how must be max or top, got {how}")
    if not 0 < top <= 1:
        raise ValueError(f"top must be in (0, 1], got {top}")
    pixels = maps.flatten(1)
    count = 1 if how == "max" else max(1, round(top * pixels.shape[1]))
    return pixels.topk(count, dim=1).values.mean(dim=1)
