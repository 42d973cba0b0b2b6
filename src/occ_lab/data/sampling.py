"""Seeded choices of images: hold-out, few training images, contamination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from occ_lab.data.items import Item, Split
from occ_lab.utils.errors import InputError, check_number


def check_hold_out(train_share: float, split_seed: int) -> None:
    """Raise a ``ValueError`` unless the fraction is above 0 and below 1, and the seed is valid."""
    check_number("train_share", train_share, above=0)
    if train_share >= 1:
        raise ValueError(f"train_share must be below 1, got {train_share}")
    check_number("split_seed", split_seed, at_least=0, integer=True)


def hold_out(normal: list[Item], train_share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Split the normal images at random into those to train on and the rest; both keep the order.

    Args:
        normal: the images.
        train_share: the fraction to train on, above 0 and below 1, rounded to whole images.
        seed: the seed of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(normal))
    trained = set(order[: round(train_share * len(normal))].tolist())
    return (
        [item for index, item in enumerate(normal) if index in trained],
        [item for index, item in enumerate(normal) if index not in trained],
    )


def few(split: Split, task: str, limit: int, seed: int) -> Split:
    """The split with ``limit`` of its training images.

    For a given seed, the images of a smaller limit are among those of a larger one.

    Args:
        split: the images of a task.
        task: its name, for the message.
        limit: the number of training images to keep.
        seed: the seed of the choice.

    Raises:
        InputError: there are fewer training images.
    """
    if limit > len(split.train):
        raise InputError(
            f"train_limit: {limit} is more than the {len(split.train)} training images of {task}",
            part="dataset",
        )
    order = np.random.default_rng(seed).permutation(len(split.train))
    return replace(split, train=[split.train[index] for index in sorted(order[:limit].tolist())])


def contaminated(split: Split, task: str, fraction: float, seed: int) -> Split:
    """The split with a fraction of its training images replaced by anomalous test images.

    The inserted images are removed from the test set.

    Args:
        split: the images of a task.
        task: its name, for the message.
        fraction: the fraction of the training images to replace, rounded to whole images.
        seed: the seed of the choice.

    Raises:
        InputError: no anomalous image would be left for the test.
    """
    random = np.random.default_rng(seed)
    anomalous = [index for index, item in enumerate(split.test) if item.label == 1]
    count = round(fraction * len(split.train))
    if count >= len(anomalous) > 0 or count > len(anomalous):
        raise InputError(
            f"contamination: {fraction:g} of {len(split.train)} training images takes "
            f"{count} anomalous images, but {task} has {len(anomalous)} and needs some to test on",
            part="dataset",
        )
    moved = random.choice(anomalous, count, replace=False).tolist() if count else []
    train = list(split.train)
    replaced = random.choice(len(train), count, replace=False).tolist()
    for index, source in zip(replaced, moved, strict=True):
        train[index] = split.test[source]
    gone = set(moved)
    test = [item for index, item in enumerate(split.test) if index not in gone]
    return replace(split, train=train, test=test, pool=None)


def turned(split: Split, turns: Sequence[float]) -> Split:
    """The split with rotated copies of its training images, each after its image.

    Args:
        split: the images of a task.
        turns: the angles of the copies in degrees.

    Example:
        >>> from pathlib import Path
        >>> split = turned(Split([Item(Path("a.png"), 0)], []), [90])
        >>> [(str(item), item.turn) for item in split.train]
        [('a.png', 0.0), ('a.png', 90)]
    """

    def copies(items: Sequence[Item]) -> list[Item]:
        return [replace(item, turn=turn) for item in items for turn in (0.0, *turns)]

    return replace(split, train=copies(split.train), pool=split.pool and copies(split.pool))
