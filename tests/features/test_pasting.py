"""Outliers that are made of normal features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from occ_lab.features.pasting import cut_and_paste

SHAPES = [(3, 6, 4), (2, 3, 2)]  # channels, height, width


def numbered(images: int, shapes: Sequence[tuple[int, int, int]] = SHAPES) -> list[Tensor]:
    """Levels whose entries encode their origin: channel, image, row and column in digits."""
    digits = [1000, 100, 10, 1]
    made = []
    for channels, height, width in shapes:
        axes = map(torch.arange, (images, channels, height, width))
        image, channel, row, column = torch.meshgrid(*axes, indexing="ij")
        places = zip(digits, (channel, image, row, column), strict=True)
        made.append(sum((unit * index for unit, index in places), torch.tensor(0)).float())
    return made


def test_each_level_is_that_of_another_image_shifted() -> None:
    levels = numbered(5)
    pasted = cut_and_paste(levels, np.random.default_rng(0))
    sources = []
    for level, found in zip(levels, pasted, strict=True):
        assert found.shape == level.shape
        source = found[:, 0, 0, 0].long() // 100
        for image, taken in enumerate(source.tolist()):
            row, column = divmod(int(found[image, 0, 0, 0]) % 100, 10)
            assert found[image].equal(level[taken].roll((-row, -column), dims=(1, 2)))
        assert sorted(source.tolist()) == list(range(5))
        sources.append(source)
    assert (sources[0] != sources[1]).all()


def test_a_single_level_is_cut_into_two_halves_of_its_channels() -> None:
    whole = numbered(7, [(5, 1, 1)])
    (pasted,) = cut_and_paste(whole, np.random.default_rng(0))
    for row in pasted.flatten(1).long():
        assert (row // 1000).tolist() == list(range(5))
        _, counts = (row % 1000 // 100).unique(return_counts=True)
        assert sorted(counts.tolist()) == [2, 3]


def test_a_single_image_is_pasted_from_other_positions() -> None:
    pasted = cut_and_paste(numbered(1), np.random.default_rng(0))
    assert not all(map(torch.equal, pasted, numbered(1)))


def test_the_generator_decides() -> None:
    levels = numbered(4)
    first, again, other = (cut_and_paste(levels, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize("images", [2, 3])
def test_levels_may_be_channels_last_and_half(images: int) -> None:
    levels = [level.half().to(memory_format=torch.channels_last) for level in numbered(images)]
    pasted = cut_and_paste(levels, np.random.default_rng(0))
    assert [level.dtype for level in pasted] == [torch.float16] * 2
