"""Levels in groups of few images."""

from __future__ import annotations

import pytest
import torch

from occ_lab.features.levels import pieces


@pytest.mark.parametrize("side", [1, 56, 300])
def test_pieces_are_the_levels_in_order(side: int) -> None:
    levels = [torch.rand(7, 2, side, side), torch.rand(7, 3, 1, 1)]
    joined = zip(*pieces(levels), strict=True)
    for level, split in zip(levels, joined, strict=True):
        assert torch.equal(torch.cat(split), level)


def test_pieces_are_larger_on_a_gpu() -> None:
    level = torch.empty(50, 2, 56, 56)
    assert [len(part) for (part,) in pieces([level])] == [5] * 10
    there = level.to("meta")  # in place of a GPU
    assert [len(part) for (part,) in pieces([there])] == [41, 9]
