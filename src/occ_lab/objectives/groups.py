"""Groups of similar images, found without labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from occ_lab.utils.errors import InputError

AT_ONCE = 8  # groups that a group is divided into at a time
# "A reasonable structure has been found" above it (Kaufman and Rousseeuw 1990, table 4).
REASONABLE = 0.5
FEWEST = 4  # images of a group; a lone image far from the others is not a group
SAMPLED = 5000  # images that the groups are found in; the time grows with their square
STARTS = 10  # of k-means


def groups(
    x: np.ndarray, count: int | Literal["auto"], most: int, seed: int = 0
) -> list[np.ndarray]:
    """Divide images into groups of similar ones by k-means.

    With ``auto``, the number of groups is that of 2 to 8 with the largest mean silhouette
    (Rousseeuw 1987), and every group is divided again in the same way as long as the silhouette is
    above 0.5. A group has at least 4 images.

    Args:
        x: a vector for each image, ``[N, C]``. If there are more than 5000, a random sample of 5000
            is divided.
        count: the number of groups, at least 1, or ``auto``.
        most: the largest number of groups with ``auto``, at least 1.
        seed: the seed of k-means and of the sample.

    Returns:
        The indices of the images of each group, ascending.

    Raises:
        InputError: there are fewer images than groups.

    Example:
        >>> x = np.array([[0.0], [0.1], [0.2], [0.1], [9.0], [9.1], [9.2], [9.1]])
        >>> [rows.tolist() for rows in groups(x, "auto", most=8)]
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    rows = np.arange(len(x))
    if len(x) > SAMPLED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLED, replace=False))
    if count != "auto":
        if len(x) < count:
            raise InputError(
                f"components: {count} groups cannot be formed of {len(x)} training images",
                part="objective",
            )
        return parts_of(rows, by_k_means(x[rows], count, seed))
    found: list[np.ndarray] = []
    waiting = [rows]
    while waiting:
        waiting.sort(key=len)
        largest = waiting.pop()
        room = most - len(found) - len(waiting)
        labels = best_division(x[largest], min(AT_ONCE, room), seed)
        if labels is None:
            found.append(largest)
        else:
            waiting += parts_of(largest, labels)
    return sorted(found, key=lambda group: int(group[0]))


def best_division(x: np.ndarray, most: int, seed: int) -> np.ndarray | None:
    """The labels ``[N]`` of the division with the largest silhouette; None if none is reasonable.

    Args:
        x: ``[N, C]``.
        most: the largest number of groups.
        seed: the seed of k-means.
    """
    best, found = REASONABLE, None
    distinct = len(np.unique(x, axis=0))
    for count in range(2, min(most, len(x) // FEWEST, distinct) + 1):
        labels = by_k_means(x, count, seed)
        if np.bincount(labels).min() < FEWEST:
            continue
        silhouette = silhouette_score(x, labels)
        if silhouette > best:
            best, found = silhouette, labels
    return found


def by_k_means(x: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The number of the group, in 0..count-1, of each row of ``[N, C]``."""
    labels: np.ndarray = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(x)
    return labels


def parts_of(rows: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """The rows with each label."""
    return [rows[labels == label] for label in np.unique(labels)]
