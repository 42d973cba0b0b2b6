"""Tensors of which most are in a file."""

from __future__ import annotations

import torch

from occ_lab.utils.spooled import Reordered, Spooled


def test_returns_what_was_added_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    added = [
        torch.rand(3 + number % 2, 5, generator=generator).to(dtype)
        for number in range(99)
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
    ]
    spooled = Spooled(limit=1000)
    for each in added:
        spooled.append(each)
    order = torch.randperm(len(added), generator=generator).tolist()
    for found, index in zip(Reordered(spooled, order), order, strict=True):
        assert torch.equal(found, added[index])
        assert found.dtype == added[index].dtype
    assert torch.equal(spooled[-1], added[-1])
    assert [each.shape for each in spooled[2:6:2]] == [added[2].shape, added[4].shape]


def test_what_exceeds_the_limit_is_in_a_file() -> None:
    spooled = Spooled(limit=500)
    spooled.append(torch.zeros(10, 10))
    assert not spooled._file._rolled  # type: ignore[attr-defined]
    spooled.append(torch.ones(10, 10))
    assert spooled._file._rolled  # type: ignore[attr-defined]
    assert [float(each.mean()) for each in spooled] == [0, 1]
