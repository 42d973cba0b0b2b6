"""The uniform sample by its frequencies, the greedy one against a plain loop."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives.coreset import Reservoir, farthest_first, projected


def test_every_vector_is_as_likely_to_stay() -> None:
    vectors = torch.arange(24.0)[:, None]
    draws, counts = 3000, np.zeros(24)
    for seed in range(draws):
        reservoir = Reservoir(6, seed)
        for part in vectors.split(7):
            reservoir.add(part)
        taken = reservoir.taken().flatten().long().numpy()
        assert len(set(taken)) == 6
        counts[taken] += 1
    deviation = (draws * 0.25 * 0.75) ** 0.5
    assert np.abs(counts - draws / 4).max() < 4.5 * deviation


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 40), batch=st.integers(1, 40), seed=st.integers(0, 99))
def test_batches_do_not_matter(size: int, batch: int, seed: int) -> None:
    vectors = torch.arange(60.0).reshape(30, 2)
    samples = []
    for parts in (vectors.split(batch), [vectors]):
        reservoir = Reservoir(size, seed)
        for part in parts:
            reservoir.add(part)
        samples.append(reservoir.taken())
    assert torch.equal(*samples)
    assert len(samples[0]) == min(size, 30)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 25), channels=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_next_is_the_farthest(count: int, channels: int, seed: int) -> None:
    vectors = torch.randn(25, channels, generator=torch.Generator().manual_seed(seed)).double()
    plain = [0]
    while len(plain) < count:
        d = np.linalg.norm(vectors.numpy()[:, None] - vectors.numpy()[plain], axis=2).min(axis=1)
        plain.append(int(d.argmax()))
    assert farthest_first(vectors, count).tolist() == plain


def test_copies_are_chosen_once_each() -> None:
    chosen = farthest_first(torch.ones(9, 3).repeat(2, 1) * 0.1, 18)
    assert sorted(chosen.tolist()) == list(range(18))


def test_projection_keeps_distances_roughly() -> None:
    vectors = torch.randn(40, 500, generator=torch.Generator().manual_seed(0))
    ratio = torch.pdist(projected(vectors, 128, seed=0)) / torch.pdist(vectors)
    assert abs(float(ratio.mean()) - 1) < 0.02
    assert float((ratio - 1).abs().max()) < 0.3
    assert projected(vectors, 500, seed=0) is vectors
