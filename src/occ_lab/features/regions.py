"""The positions of feature maps that belong to the image, if it does not fill its frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from occ_lab.features.levels import join

Span = tuple[int, int]  # the first position along an axis, and the one after the last


def span(start: int, length: int, side: int, count: int) -> Span:
    """The positions along an axis whose centres lie on the image; at least one.

    Args:
        start: the first pixel of the image along the axis.
        length: the number of pixels of the image along the axis.
        side: the number of pixels of the frame along the axis.
        count: the number of positions of the map along the axis.

    Example:
        >>> span(32, 100, side=256, count=64)
        (8, 33)
    """
    first = max(0, min(count - 1, -(-(2 * start * count - side) // (2 * side))))
    behind = -(-(2 * (start + length) * count - side) // (2 * side))
    return first, max(first + 1, min(count, behind))


def spans(box: Sequence[int], frame: tuple[int, int], grid: Sequence[int]) -> tuple[Span, Span]:
    """The rows and columns of a map whose centres lie on the image.

    Args:
        box: top, left, height and width of the image in pixels of the frame.
        frame: height and width of the frame in pixels.
        grid: H and W of the map.
    """
    top, left, height, width = (int(each) for each in box)
    return span(top, height, frame[0], grid[0]), span(left, width, frame[1], grid[1])


def alike(boxes: Tensor) -> Iterator[tuple[list[int], Tensor]]:
    """The distinct boxes in int64 ``[B, 4]``, each with the indices of its images, int64 ``[n]``.

    Example:
        >>> [(box, of.tolist()) for box, of in alike(torch.tensor([[0, 0, 4, 4]] * 2))]
        [([0, 0, 4, 4], [0, 1])]
    """
    kinds, which = torch.unique(boxes.cpu(), dim=0, return_inverse=True)
    for number, box in enumerate(kinds.tolist()):
        yield box, (which == number).nonzero()[:, 0]


def inside(boxes: Tensor | None, *maps: Tensor) -> Iterator[list[Tensor]]:
    """The parts of maps that belong to the images, for images of one shape at a time.

    Args:
        boxes: the boxes of the images, int64 ``[B, 4]``; None if the images fill the maps.
        maps: each ``[B, h, w]``, in the pixels of the boxes.

    Yields:
        For each map, ``[n, height, width]``.
    """
    if boxes is None:
        yield list(maps)
        return
    for (top, left, height, width), images in alike(boxes):
        rows, columns = slice(top, top + height), slice(left, left + width)
        yield [each[images.to(each.device)][:, rows, columns] for each in maps]


def valid_positions(
    boxes: Tensor, frame: tuple[int, int], grid: Sequence[int], device: torch.device | None = None
) -> Tensor:
    """The positions of maps that belong to the image, as bool ``[B, H, W]``.

    Args:
        boxes: the boxes of the images, int64 ``[B, 4]``.
        frame: height and width of the frame in pixels.
        grid: H and W.
        device: the device of the result.

    Example:
        >>> valid_positions(torch.tensor([[0, 4, 8, 4]]), (8, 8), (2, 2))
        tensor([[[False,  True],
                 [False,  True]]])
    """
    valid = torch.zeros(len(boxes), *grid, dtype=torch.bool)
    for box, images in alike(boxes):
        (top, bottom), (left, right) = spans(box, frame, grid)
        valid[images, top:bottom, left:right] = True
    return valid.to(device)


def contents(levels: Sequence[Tensor], valid: Tensor) -> Iterator[Tensor]:
    """The concatenated levels at valid positions only, for images with the same valid positions.

    Args:
        levels: ``[B, C_l, H_l, W_l]``, finest first.
        valid: bool ``[B, H, W]``, a rectangle in each image.

    Yields:
        ``[n, ΣC_l, h, w]``.

    Example:
        >>> valid = valid_positions(torch.tensor([[0, 4, 8, 4]] * 2), (8, 8), (4, 4))
        >>> [each.shape for each in contents([torch.rand(2, 3, 4, 4)], valid)]
        [torch.Size([2, 3, 4, 2])]
    """
    for (top, left, height, width), images in alike(rectangles(valid)):
        of_images = [level[images.to(level.device)] for level in levels]
        yield join(of_images)[:, :, top : top + height, left : left + width]


def level_contents(levels: Sequence[Tensor], valid: Tensor) -> Iterator[list[Tensor]]:
    """As `contents`, but each level separately: the positions whose centres lie on the image.

    Yields:
        Levels ``[n, C_l, h_l, w_l]``.
    """
    grid = (valid.shape[1], valid.shape[2])
    for box, images in alike(rectangles(valid)):
        parts = []
        for level in levels:
            (top, bottom), (left, right) = spans(box, grid, level.shape[-2:])
            parts.append(level[images.to(level.device)][:, :, top:bottom, left:right])
        yield parts


def rectangles(valid: Tensor) -> Tensor:
    """The boxes, int64 ``[B, 4]``, of the rectangles that masks bool ``[B, H, W]`` mark."""
    rows, columns = valid.any(dim=2), valid.any(dim=1)
    corners = [rows.int().argmax(dim=1), columns.int().argmax(dim=1)]
    return torch.stack([*corners, rows.sum(dim=1), columns.sum(dim=1)], dim=1)


def listed(z: Tensor, valid: Tensor) -> Tensor:
    """All valid positions of maps ``[B, C, H, W]`` as one map ``[1, C, 1, N]``.

    An objective scores positions, so it does not matter which image they belong to.

    Example:
        >>> listed(torch.rand(2, 3, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool)).shape
        torch.Size([1, 3, 1, 8])
    """
    return z.permute(0, 2, 3, 1)[valid].T[None, :, None]


def framed_levels(
    backbone: Callable[[Tensor], list[Tensor]], image: Tensor, boxes: Tensor | None
) -> list[Tensor]:
    """The levels of images that may not fill their frame.

    An embedding of a whole image is computed from the image alone, without its surroundings; the
    patches of a transformer allow this only approximately.

    Args:
        backbone: the network.
        image: ``[B, 3, h, w]``.
        boxes: the parts that the images fill, ``[B, 4]``; None if they fill the frame.

    Returns:
        ``[B, C_l, H_l, W_l]``, finest first.
    """
    levels = backbone(image)
    if boxes is None or levels[0].shape[-2:] != (1, 1):
        return levels
    step = getattr(backbone, "patch", None) or 1
    found = [torch.empty_like(level) for level in levels]
    for (top, left, height, width), images in alike(boxes):
        bottom, right = (-(-side // step) * step for side in (top + height, left + width))
        rows = slice(top // step * step, bottom)
        columns = slice(left // step * step, right)
        own = images.to(image.device)
        for level, part in zip(found, backbone(image[own][:, :, rows, columns]), strict=True):
            level[own] = part
    return found
