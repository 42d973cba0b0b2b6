"""Pillow's Lanczos resize in tensor operations, for use inside exported graphs."""

from __future__ import annotations

import math

import PIL
import torch
import torch.nn.functional as F
from torch import Tensor

LOBES = 3  # of Pillow's Lanczos kernel, on each side
ONE = 2.0**22  # the weight 1 in Pillow's fixed-point numbers
BAND = 32  # rows of the result that are computed from one slice
COLUMNS_FIRST = int(PIL.__version__.split(".")[0]) >= 13  # for images that are very tall


def resized(image: Tensor, side: int, crop: int) -> Tensor:
    """Resize to ``side`` pixels a side by Lanczos, and keep ``crop`` pixels at the centre.

    The result equals that of the installed Pillow for 8-bit images: fixed-point numbers along the
    rows, rounded to whole levels, then along the columns; from version 13 on in the other order if
    that is faster. The sums are of whole numbers, which float64 represents exactly; a runtime that
    has only float32 may be off by one level in one pixel of ten thousand.

    Args:
        image: uint8 ``[N, h, w, 3]``, of any size; may be traced.
        side: height and width after the resize.
        crop: height and width of the central part to keep, at most ``side``.

    Returns:
        Pillow's levels 0..255, float32 ``[N, 3, crop, crop]``.
    """
    rows = torch.arange(crop, device=image.device) + (side - crop) // 2
    whole = torch.full((), side, device=image.device)
    down, across = (bands(size, whole, rows, size // side + 1) for size in image.shape[1:3])
    return two_passes(image, down, across, (whole, whole))[:, :, :crop, :crop]


def two_passes(
    image: Tensor,
    down: tuple[Tensor, Tensor],
    across: tuple[Tensor, Tensor],
    sides: tuple[Tensor, Tensor],
) -> Tensor:
    """Resize along the rows and along the columns, in the same order as Pillow.

    Args:
        image: uint8 ``[N, h, w, 3]``.
        down: the bands of the columns, see `bands`.
        across: the bands of the rows.
        sides: height and width of the whole image after the resize, each ``[]``.

    Returns:
        Whole levels, float32 ``[N, 3, ...]``, with extra rows and columns to fill the last bands.
    """

    def rows_first(pixels: Tensor) -> Tensor:
        return shrunk(shrunk(pixels.mT, *across).mT, *down).float()

    def columns_first(pixels: Tensor) -> Tensor:
        # contiguous, because both orders must have the same memory layout
        return shrunk(shrunk(pixels, *down).mT, *across).mT.float().contiguous()

    pixels = image.permute(0, 3, 1, 2)
    if not COLUMNS_FIRST:
        return rows_first(pixels)
    h, w = (torch.full((), size, device=image.device) for size in image.shape[1:3])
    tall = (h > sides[0]) & (2 * (w - sides[1]) < h - sides[0])
    found: Tensor = torch.cond(tall, columns_first, rows_first, (pixels,))
    return found


def shrunk(pixels: Tensor, weights: Tensor, slices: Tensor) -> Tensor:
    """Resize the columns of images.

    Args:
        pixels: whole levels ``[N, 3, h, w]``.
        weights: ``[G, R, L]``, as returned by `bands`.
        slices: ``[G, L]``, likewise.

    Returns:
        Whole levels, float64 ``[N, 3, G·R, w]``.
    """
    sums = (weights @ pixels[:, :, slices].double()).flatten(2, 3)
    return ((sums + ONE / 2) / ONE).floor().clamp(0, 255)


def bands(size: int, side: Tensor, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The resize along one axis, split into bands of a few rows of the result.

    Each band depends only on a slice of the image. All slices have the same length, so the bands
    can be computed by one product of matrices.

    Args:
        size: the number of pixels along the axis; symbolic while a graph is traced.
        side: the number of pixels along the axis after the resize, ``[]``.
        rows: the rows to compute, int64 ``[n]``, in ascending order.
        most: an upper bound of input pixels per output pixel; symbolic like ``size``.

    Returns:
        The weights of G · R ≥ n rows, float64 ``[G, R, L]``, and the indices of the pixels that
        they belong to, int64 ``[G, L]``.
    """
    count = -(-len(rows) // BAND)
    rows = F.pad(rows[None].double(), (0, count * BAND - len(rows)), "replicate")[0].long()
    rows = rows.view(count, BAND)
    margin = LOBES * most  # at least the reach of the kernel
    first = (2 * rows[:, :1] + 1) * size // (2 * side) - margin
    slices = first + torch.arange(BAND * most + 2 * margin + 3, device=rows.device)
    weights = fixed_point(slices[:, None], rows[:, :, None], size, side)
    return weights, slices.clamp(0, size - 1)


def fixed_point(pixel: Tensor, row: Tensor, size: int, side: Tensor) -> Tensor:
    """The weights of pixels in rows of the result; those of a row sum to about `ONE`.

    Args:
        pixel: indices, int64 ``[..., 1, L]``; those outside of 0..size − 1 have no weight.
        row: indices, int64 ``[..., R, 1]``; a row beyond the image has no weights.
        size: the number of pixels along the axis; symbolic while a graph is traced.
        side: the number of pixels along the axis after the resize, ``[]``.

    Returns:
        Whole numbers, float64 ``[..., R, L]``.
    """
    # The distance between a pixel and the centre of a row, (pixel + ½) − (row + ½) size / side,
    # divided by the kernel's scale, max(size / side, 1): a fraction of whole numbers.
    reach = 2 * torch.maximum(torch.zeros_like(side) + size, side)
    distance = ((2 * pixel + 1) * side - (2 * row + 1) * size).double() / reach
    weights = torch.where((pixel >= 0) & (pixel < size), lanczos(distance), 0.0)
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, weights / total * ONE, 0.0).round()


def lanczos(x: Tensor) -> Tensor:
    """Lanczos' kernel ``sinc(x) sinc(x / 3)``, zero where ``|x| ≥ 3``, float64."""
    inside = (x != 0) & (x.abs() < LOBES)
    pi = torch.tensor(math.pi, dtype=torch.float64, device=x.device)  # ONNX would round a float
    angle = torch.where(inside, pi * x, 1.0)
    kernel = LOBES * angle.sin() * (angle / LOBES).sin() / angle.square()
    return torch.where(inside, kernel, (x == 0).double())
