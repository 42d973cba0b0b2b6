"""Seeded choices of images: what is held out, few images to train on, defects among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from occ_lab.data.items import Item, Split
from occ_lab.utils.errors import InputError, check_number


def check_hold_out(train_share: float, split_seed: int) -> None:
    """Raise a ``ValueError`` unless these are a share above 0 and below 1, and a seed."""
    check_number("train_share", train_share, above=0)
    if train_share >= 1:
        raise ValueError(f"train_share must be below 1, got {train_share}")
    check_number("split_seed", split_seed, at_least=0, integer=True)


def hold_out(normal: list[Item], train_share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Normal images to train on, a random share by ``seed``, and the rest; both in order."""
    order = np.random.default_rng(seed).permutation(len(normal))
    trained = set(order[: round(train_share * len(normal))].tolist())
    return (
        [item for place, item in enumerate(normal) if place in trained],
        [item for place, item in enumerate(normal) if place not in trained],
    )


def few(split: Split, task: str, limit: int, seed: int) -> Split:
    """The split with ``limit`` of its training images; by one seed, fewer are part of more.

    Raises:
        InputError: there are fewer.
    """
    if limit > len(split.train):
        raise InputError(
            f"train_limit: {limit} is more than the {len(split.train)} training images of {task}",
            part="dataset",
        )
    order = np.random.default_rng(seed).permutation(len(split.train))
    return replace(split, train=[split.train[place] for place in sorted(order[:limit].tolist())])


def contaminated(split: Split, task: str, share: float, seed: int) -> Split:
    """The split with a share of its training images replaced by anomalous ones of the test set.

    These are no longer tested on. The share is rounded to whole images.

    Raises:
        InputError: no anomalous image would be left to test on.
    """
    random = np.random.default_rng(seed)
    anomalous = [place for place, item in enumerate(split.test) if item.label == 1]
    count = round(share * len(split.train))
    if count >= len(anomalous) > 0 or count > len(anomalous):
        raise InputError(
            f"contamination: {share:g} of {len(split.train)} training images takes "
            f"{count} anomalous ones, but {task} has {len(anomalous)} and must test on some",
            part="dataset",
        )
    moved = random.choice(anomalous, count, replace=False).tolist() if count else []
    train = list(split.train)
    replaced = random.choice(len(train), count, replace=False).tolist()
    for place, source in zip(replaced, moved, strict=True):
        train[place] = split.test[source]
    gone = set(moved)
    test = [item for place, item in enumerate(split.test) if place not in gone]
    return Split(train, test)
