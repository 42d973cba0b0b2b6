"""The nearest image compared with a plain search."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.explain.nearest import nearest_images


@settings(deadline=None, max_examples=25)
@given(size=st.integers(1, 12), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_nearest_of_all_batches_is_found(size: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 3, 6, 5, generator=generator)
    many = torch.rand(count, 3, 6, 5, generator=generator)
    found = nearest_images(images, many.split(size))
    for image, nearest in zip(images, found, strict=True):
        assert torch.equal(nearest, min(many, key=lambda each: (each - image).norm()))
