"""Whole images in tensor operations: the resize into a frame, and the maps.

For an image of any size, the graph computes its position in the frame and everything that depends
on it. It does the same as `WholeImage` and `PostProcess.framed` for a single image.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from occ_lab.data.transforms import ALIGNED
from occ_lab.deploy.resize import bands, two_passes


def fitted(image: Tensor, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize images to fit into a frame, as `WholeImage` does.

    Args:
        image: uint8 ``[N, h, w, 3]``, of any size; may be traced.
        frame: height and width of the result.

    Returns:
        Levels 0..255, float32 ``[N, 3, *frame]``, and the box of the images in the frame, int64
        ``[4]``: top, left, height and width.
    """
    sizes = image.shape[1:3]
    full = [torch.full((), size, device=image.device) for size in sizes]
    scale = torch.minimum(*(side / size.double() for side, size in zip(frame, full, strict=True)))
    inside = [
        (size.double() * scale).round().clamp(1, side).long()
        for side, size in zip(frame, full, strict=True)
    ]
    starts = [
        (side - own) // 2 // ALIGNED * ALIGNED for side, own in zip(frame, inside, strict=True)
    ]
    # The largest number of pixels that become one; rounding may add half as much again.
    least = sizes[0] // frame[0] + sizes[1] // frame[1] + 2
    least = least + least // 2
    axes, reflected = [], []
    for size, side, own, start in zip(sizes, frame, inside, starts, strict=True):
        rows = torch.arange(side, device=image.device)
        axes.append(bands(size, own, torch.minimum(rows, own - 1), least))
        rows = (rows - start).remainder(2 * own)
        reflected.append(torch.minimum(rows, 2 * own - 1 - rows))
    pixels = two_passes(image, axes[0], axes[1], (inside[0], inside[1]))
    box = torch.stack([*starts, *inside])
    return pixels.index_select(2, reflected[0]).index_select(3, reflected[1]), box


def axis(count: int, side: int, sigma: float, start: Tensor, length: Tensor) -> Tensor:
    """Upsampling and smoothing along an axis, for an image that fills a part of it.

    It is the matrix `occ_lab.postprocessing.maps.axis_matrix` of that part, with zeros around it.

    Args:
        count: the number of positions of the scores along the axis.
        side: the number of pixels of the frame along it.
        sigma: the standard deviation of the Gaussian in pixels.
        start: the first pixel of the image, an integer ``[]``.
        length: its number of pixels, an integer ``[]``.

    Returns:
        float32 ``[side, count]``.
    """
    first = -((side - 2 * start * count) // (2 * side))
    behind = -((side - 2 * (start + length) * count) // (2 * side))
    first = first.clamp(0, count - 1)
    last = torch.maximum(behind.clamp_max(count), first + 1) - 1
    pixels = torch.arange(side, device=start.device)
    at = ((pixels + 0.5) * count / side - 0.5).clamp(min=0)
    at = torch.minimum(torch.maximum(at, first.to(at)), last.to(at))
    positions = torch.arange(count, device=start.device)
    matrix = (1 - (at[:, None] - positions).abs()).clamp_min(0)
    inside = ((pixels >= start) & (pixels < start + length)).to(matrix)[:, None]
    if sigma > 0:
        kernel = torch.from_numpy(gaussian(sigma)).to(matrix)  # by distance
        # The image is mirrored as often as the Gaussian reaches, even an image of length 1.
        turns = torch.arange(-(len(kernel) // 2), len(kernel) // 2 + 1, device=start.device)
        copies = torch.stack([pixels, 2 * start - 1 - pixels])[:, None]
        mirrored = copies + 2 * length * turns[:, None]  # [2, turns, side]
        distance = (pixels[:, None, None, None] - mirrored).abs().clamp_max(len(kernel) - 1)
        smoothing = kernel[distance].sum(dim=(1, 2))
        matrix = (smoothing * inside.T) @ matrix
    return matrix * inside


def gaussian(sigma: float) -> np.ndarray:
    """SciPy's Gaussian by distance from the centre, float32, followed by a zero."""
    radius = int(4 * sigma + 0.5)
    unit = np.zeros(2 * radius + 3)
    unit[radius + 1] = 1
    kernel: np.ndarray = gaussian_filter1d(unit, sigma, truncate=4.0, mode="constant")
    return kernel[radius + 1 :].astype(np.float32)


def inside_scores(maps: Tensor, box: Tensor, how: str, top: float) -> Tensor:
    """Image scores ``[N]`` of maps ``[N, h, w]``, from the pixels inside a box only."""
    rows, columns = (
        (torch.arange(side, device=box.device) >= box[axis])
        & (torch.arange(side, device=box.device) < box[axis] + box[axis + 2])
        for axis, side in enumerate(maps.shape[1:])
    )
    lowest = torch.finfo(maps.dtype).min
    pixels = torch.where(rows[:, None] & columns, maps, lowest).flatten(1)
    if how == "max":
        return pixels.amax(dim=1)
    count = (top * (box[2] * box[3]).double()).round().clamp_min(1)
    best = pixels.sort(dim=1, descending=True).values
    taken = torch.arange(pixels.shape[1], device=box.device) < count
    return torch.where(taken, best, 0.0).sum(dim=1) / count.to(best)
