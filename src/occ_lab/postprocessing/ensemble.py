"""Average of the score maps of several views of the same images, on one frame: CFA++.

Lee et al. 2022 (arXiv 2206.04325) combine an input that is resized and cropped with one that is
only resized. Here the scores of each view are standardised by the scores of its own training set,
which makes them comparable without any test image. They are then interpolated to a common frame and
averaged over the views that show a position. With the resized view as the frame, the whole image is
covered; at its border, which the cropped view does not show, only the resized view counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from occ_lab.utils.errors import check_number


@dataclass(frozen=True)
class View:
    """The part of an image that an input shows: the central ``crop`` of ``resize`` pixels.

    Args:
        resize: the height and width in pixels that the whole image is resized to.
        crop: the height and width of the central part, at least 1 and at most ``resize``.

    Raises:
        ValueError: ``crop`` is out of range.
    """

    resize: int
    crop: int

    def __post_init__(self) -> None:
        check_number("crop", self.crop, at_least=1, at_most=self.resize, integer=True)

    @property
    def start(self) -> int:
        """The number of pixels cut off before the view begins, along either axis."""
        return (self.resize - self.crop) // 2

    def to_image(self, position: np.ndarray) -> np.ndarray:
        """Convert positions along a side of the view, 0..1, to positions along the image's side."""
        return (self.start + position * self.crop) / self.resize

    def from_image(self, position: np.ndarray) -> np.ndarray:
        """The inverse of `to_image`; the view does not show positions outside of 0..1."""
        return (position * self.resize - self.start) / self.crop


def ensemble(
    maps: Sequence[Tensor], training: Sequence[Tensor], views: Sequence[View], frame: View
) -> Tensor:
    """The mean of the views' standardised score maps.

    Args:
        maps: the score maps of the test images from each view, ``[N, H, W]``, in the same order.
        training: the scores of each view's own training set, of any shape.
        views: the views.
        frame: the part of the image that the result shows: the view that contains all others.

    Returns:
        ``[N, H, W]``, on a grid with as many positions as that of the first view. It is NaN where
        no view shows the position.

    Example:
        >>> views = [View(256, 224), View(224, 224)]
        >>> maps = [torch.rand(2, 56, 56), torch.rand(2, 56, 56)]
        >>> ensemble(maps, maps, views, frame=views[1]).shape
        torch.Size([2, 56, 56])
    """
    size = (maps[0].shape[-2], maps[0].shape[-1])
    on_frame = [
        interpolated(standardized(scores, own), view, frame, size)
        for scores, own, view in zip(maps, training, views, strict=True)
    ]
    return torch.stack(on_frame).nanmean(dim=0)


def standardized(scores: Tensor, training: Tensor) -> Tensor:
    """Scores in standard deviations above the mean of the training scores.

    Both statistics are needed, because views differ in the mean and spread of normal scores.
    """
    return (scores - training.mean()) / training.std()


def interpolated(maps: Tensor, view: View, frame: View, size: tuple[int, int]) -> Tensor:
    """Interpolate maps of one view bilinearly on the grid of another.

    Args:
        maps: ``[N, H, W]``.
        view: the view of ``maps``.
        frame: the view of the result.
        size: the grid of the result.

    Returns:
        ``[N, *size]``; NaN where ``view`` does not show the position.
    """
    rows, columns = (
        torch.as_tensor(axis_matrix(source, target, view, frame)).to(maps)
        for source, target in zip(maps.shape[-2:], size, strict=True)
    )
    return rows @ maps @ columns.T


def axis_matrix(source: int, target: int, view: View, frame: View) -> np.ndarray:
    """The interpolation of `interpolated` along one axis, as a matrix ``[target, source]``.

    Rows are NaN for positions that ``view`` does not show.
    """
    centres = (np.arange(target) + 0.5) / target
    position = view.from_image(frame.to_image(centres))
    cells = position * source - 0.5  # beyond the outermost centres, their values are repeated
    matrix = np.stack(
        [np.interp(cells, np.arange(source), unit) for unit in np.eye(source)], axis=1
    )
    matrix[(position < 0) | (position > 1)] = np.nan
    return matrix
