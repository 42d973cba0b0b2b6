"""Score maps of several views of the same pictures, averaged on one frame: CFA++.

Lee et al. 2022 (arXiv 2206.04325) join an input that is resized and cropped with one that is only
resized. Here each view's scores are standardised by those of its own training set, which makes
them comparable without a look at the test set; laid onto a common frame; and averaged over the
views that see a position. With the resized view as frame nothing of a picture is left out, and its
rim, which the cropped view does not show, has the resized view's scores alone.
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
    """What an input shows of a picture: the centre, ``crop`` of ``resize`` pixels a side.

    Args:
        resize: pixels a side that the whole picture is resized to.
        crop: pixels a side that are kept, at least 1 and at most ``resize``.
    """

    resize: int
    crop: int

    def __post_init__(self) -> None:
        check_number("crop", self.crop, at_least=1, at_most=self.resize, integer=True)

    @property
    def start(self) -> int:
        """Pixels cut off before the view begins, along either axis."""
        return (self.resize - self.crop) // 2

    def to_picture(self, place: np.ndarray) -> np.ndarray:
        """Places along a side of the view, 0..1, as places along that side of the picture."""
        return (self.start + place * self.crop) / self.resize

    def from_picture(self, place: np.ndarray) -> np.ndarray:
        """The inverse of `to_picture`; outside of 0..1 the view shows nothing."""
        return (place * self.resize - self.start) / self.crop


def ensemble(
    maps: Sequence[Tensor], training: Sequence[Tensor], views: Sequence[View], frame: View
) -> Tensor:
    """The mean of the views' standardised score maps.

    Args:
        maps: the test pictures' scores by each view, ``[N, H, W]``, in the same order.
        training: each view's scores of its own training set, of any shape.
        views: what each view shows.
        frame: what the result shows; one of the views that shows all the others do.

    Returns:
        ``[N, H, W]``, on a grid of as many positions as the first view's. It is NaN where no view
        sees the frame.
    """
    size = (maps[0].shape[-2], maps[0].shape[-1])
    placed = [
        laid_out(standardized(scores, own), view, frame, size)
        for scores, own, view in zip(maps, training, views, strict=True)
    ]
    return torch.stack(placed).nanmean(dim=0)


def standardized(scores: Tensor, training: Tensor) -> Tensor:
    """Scores in standard deviations above the mean of the training set's.

    Both are needed: views differ in the level that a perfectly normal position scores, and in how
    far normal positions stray from it.
    """
    return (scores - training.mean()) / training.std()


def laid_out(maps: Tensor, view: View, frame: View, size: tuple[int, int]) -> Tensor:
    """Maps ``[N, H, W]`` of one view on the grid of another, by bilinear interpolation.

    Returns:
        ``[N, *size]``; NaN where ``view`` does not see the position.
    """
    rows, columns = (
        torch.as_tensor(axis_matrix(source, target, view, frame)).to(maps)
        for source, target in zip(maps.shape[-2:], size, strict=True)
    )
    return rows @ maps @ columns.T


def axis_matrix(source: int, target: int, view: View, frame: View) -> np.ndarray:
    """`laid_out` along one axis, as a matrix ``[target, source]``; unseen rows are NaN."""
    centres = (np.arange(target) + 0.5) / target
    place = view.from_picture(frame.to_picture(centres))
    cells = place * source - 0.5  # beyond the first and last cell's centre: that cell's value
    matrix = np.stack(
        [np.interp(cells, np.arange(source), unit) for unit in np.eye(source)], axis=1
    )
    matrix[(place < 0) | (place > 1)] = np.nan
    return matrix
