"""Anomalous pixels in the order of their scores, and what each of them weighs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Positives:
    """Some anomalous pixels in the order of their scores; one entry may stand for several pixels.

    All counts are of pixels; those of groups are of the pixel's own group.

    Attributes:
        pixels: the number of pixels of each entry, float64 ``[n]``; likewise `regions`, `images`
            and `defects`, the parts of a connected region, of the anomalous pixels of an image and
            of the saturation of a defect that the pixels make up.
        owners: the group of each entry, int ``[n]``; -1 where it has none.
        above: normal pixels of all images with a higher score, int ``[n]``.
        reached: normal pixels of all images with a higher score or the same one.
        above_of_normal: as ``above``, of normal images only; likewise ``reached_of_normal``.
        found: anomalous pixels with a higher score or the same one.
        total: anomalous pixels of all scores.
        found_in_group: as ``found``, of the group; likewise ``total_in_group``.
    """

    pixels: np.ndarray
    regions: np.ndarray
    images: np.ndarray
    defects: np.ndarray
    owners: np.ndarray
    above: np.ndarray
    reached: np.ndarray
    above_of_normal: np.ndarray
    reached_of_normal: np.ndarray
    found: np.ndarray
    total: np.ndarray
    found_in_group: np.ndarray
    total_in_group: np.ndarray

    def in_groups(self) -> Positives:
        """The entries that have a group, each counted among the anomalous pixels of its group."""
        known = self.owners >= 0
        own = {name: value[known] for name, value in vars(self).items()}
        return replace(Positives(**own), found=own["found_in_group"], total=own["total_in_group"])


def by_pixel(
    scores: np.ndarray, areas: np.ndarray, gains: np.ndarray, owners: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The scores of positives, their groups and weights, as they are stored once rounded.

    Args:
        scores: ``[n]``, in the order of their images.
        areas: of their regions, ``[n]``.
        gains: of the saturation of their defects, ``[n]``.
        owners: the group of each image, ``[K]``.
        marks: the number of positives of each image, ``[K]``.

    Returns:
        Scores, groups, pixels, regions, images and defects, see `Positives`; ``[n]`` each.

    Example:
        >>> scores, one = np.array([0.3, 0.1, 0.9]), np.array([1, 2, 2])
        >>> by_pixel(scores, one, np.zeros(3), np.array([7, 5]), np.array([1, 2]))[4].tolist()
        [1.0, 0.5, 0.5]
    """
    return (
        *(scores, np.repeat(owners, marks), np.ones(len(scores), np.int64)),
        *(1.0 / areas, np.repeat(1.0 / marks, marks), gains.astype(np.float64)),
    )
