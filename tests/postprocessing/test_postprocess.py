"""Image scores of a whole post-processing, in particular those of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.features.regions import valid_positions
from occ_lab.postprocessing.postprocess import PostProcess

sides = st.integers(1, 12)


@given(sides, sides, st.floats(0.01, 1), st.integers(0, 999))
def test_patches_are_averaged_before_they_are_smoothed(
    h: int, w: int, top: float, seed: int
) -> None:
    """As in AnomalyDINO, where at least one patch counts."""
    scores = torch.randn(3, h, w, generator=torch.Generator().manual_seed(seed))
    post = PostProcess("patches", top)
    maps, found = post.framed(scores, (24, 36), None)
    count = max(1, round(top * h * w))
    expected = np.sort(scores.numpy().reshape(3, -1))[:, -count:].mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if maps is not None:
        torch.testing.assert_close(maps, PostProcess().maps(scores, (24, 36)))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(4, 40), st.integers(0, 999))
def test_only_patches_of_the_image_count(top: int, left: int, side: int, seed: int) -> None:
    scores = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(seed))
    box = torch.tensor([[top, left, min(side, 32 - top), min(side, 32 - left)], [0, 0, 32, 32]])
    _, found = PostProcess("patches", 0.25).framed(scores, (32, 32), box)
    for score, own, valid in zip(
        found, scores, valid_positions(box, (32, 32), (8, 8)), strict=True
    ):
        inside = own[valid].sort(descending=True).values
        expected = inside[: max(1, round(0.25 * len(inside)))].mean()
        torch.testing.assert_close(score, expected)


def test_another_image_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^image must be max, top or patches, got 'mean'"):
        PostProcess("mean")  # type: ignore[arg-type]
