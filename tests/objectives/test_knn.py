"""The memory bank against scikit-learn's neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from occ_lab.features.levels import join
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.neighbours import rows
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError
from occ_lab.utils.processes import all_gathered
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load

CHANNELS = [4, 3]


def some_levels(seed: int, images: int = 5, side: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        2 + torch.randn(images, channels, s, s, generator=generator)
        for channels, s in zip(CHANNELS, (side, max(1, side // 2)), strict=True)
    ]


def fitted(*batches: list[torch.Tensor], **arguments: object) -> KNN:
    objective = KNN(**arguments)
    for batch in batches:
        objective.observe(batch)
    objective.finish(Identity(CHANNELS))
    return objective


def as_set(bank: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in bank.tolist()}


@settings(deadline=None, max_examples=25)
@given(
    k=st.integers(1, 5),
    metric=st.sampled_from(["euclidean", "cosine"]),
    side=st.integers(1, 4),
    chunk=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_score_is_the_mean_distance_to_the_nearest(
    k: int, metric: str, side: int, chunk: int, seed: int
) -> None:
    train, test = some_levels(seed, side=side), some_levels(seed + 100, 3, side)
    objective = fitted(train, k=k, metric=metric, chunk=chunk)
    neighbours = NearestNeighbors(metric=metric, algorithm="brute")
    neighbours.fit(rows(join(train)).double().numpy())
    distances, _ = neighbours.kneighbors(rows(join(test)).double().numpy(), k)
    ours = objective(join(test))
    assert ours.shape == (3, side, side)
    np.testing.assert_allclose(ours.flatten(), distances.mean(axis=1), rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    k=st.integers(1, 3),
    window=st.integers(0, 6),
    bank=st.integers(3, 100),
    chunk=st.integers(1, 60),
    coreset=st.sampled_from(["random", "greedy"]),
    seed=st.integers(0, 99),
)
def test_neighbours_come_from_the_window(
    k: int, window: int, bank: int, chunk: int, coreset: str, seed: int
) -> None:
    train, test = some_levels(seed), some_levels(seed + 100, 3)
    given = {"k": k, "window": window, "bank": bank, "chunk": chunk, "coreset": coreset}
    objective = fitted(train, **given)
    where = {  # of every training feature
        tuple(feature.tolist()): (row, column)
        for image in join(train)
        for row, line in enumerate(image.movedim(0, 2))
        for column, feature in enumerate(line)
    }
    places = np.array([where[tuple(feature)] for feature in objective.bank.tolist()])
    assert objective.places.tolist() == places.tolist()
    maps = join(test).double().numpy()
    expected = np.zeros((3, 4, 4))
    for image, row, column in np.ndindex(expected.shape):
        apart = np.linalg.norm(
            objective.bank.double().numpy() - maps[image, :, row, column], axis=1
        )
        outside = np.abs(places - (row, column)).max(axis=1) > window
        order = np.lexsort((apart, outside))  # those within the window first
        expected[image, row, column] = apart[order[:k]].mean()
    np.testing.assert_allclose(objective(join(test)), expected, rtol=1e-4, atol=1e-6)


def test_only_positions_that_count_are_in_the_bank() -> None:
    levels = [torch.arange(32.0).view(2, 1, 4, 4)]
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, 1:, 2:] = valid[1, :2] = True
    objective = KNN(window=1)
    objective.observe(levels, valid)
    objective.finish(Identity([1]))
    found = sorted(zip(objective.bank[:, 0].int().tolist(), objective.places.tolist(), strict=True))
    assert found == [
        (number, [number % 16 // 4, number % 4])
        for number, counts in enumerate(valid.flatten().tolist())
        if counts
    ]


def test_a_window_is_exported() -> None:
    objective, test = fitted(some_levels(0), window=1), join(some_levels(1))
    program = torch.export.export(objective, (torch.zeros_like(test),)).module()
    torch.testing.assert_close(program(test), objective(test))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_vector_of_the_bank_is_at_no_distance(metric: str) -> None:
    levels = [100 + level for level in some_levels(0)]
    assert fitted(levels, metric=metric)(join(levels)).abs().max() < 1e-6
    scores = fitted(levels, metric="cosine")(torch.zeros(1, 7, 2, 2))
    assert torch.isfinite(scores).all()


@settings(deadline=None, max_examples=20)
@given(
    size=st.integers(1, 5), bank=st.integers(1, 100), coreset=st.sampled_from(["random", "greedy"])
)
def test_batches_do_not_matter(size: int, bank: int, coreset: str) -> None:
    levels = some_levels(1)
    parts = zip(*(level.split(size) for level in levels), strict=True)
    ours = fitted(*map(list, parts), bank=bank, coreset=coreset).bank
    assert len(ours) == min(bank, 80)
    torch.testing.assert_close(ours, fitted(levels, bank=bank, coreset=coreset).bank)
    assert as_set(ours) <= as_set(rows(join(levels)))
    assert len(as_set(ours)) == len(ours)


def test_the_order_does_not_matter_where_all_are_kept() -> None:
    levels, test = some_levels(1), join(some_levels(2))
    turned = [level.flip(0) for level in levels]
    torch.testing.assert_close(fitted(turned)(test), fitted(levels)(test))


def test_the_seed_draws_the_bank() -> None:
    banks = [as_set(fitted(some_levels(0), bank=20, seed=seed).bank) for seed in (0, 0, 1)]
    assert banks[0] == banks[1] != banks[2]


def test_a_greedy_bank_leaves_no_vector_far_away() -> None:
    levels = some_levels(0, images=20)
    farthest = [
        float(fitted(levels, bank=32, coreset=coreset)(join(levels)).max())
        for coreset in ("random", "greedy")
    ]
    assert farthest[1] < 0.9 * farthest[0]


def test_half_precision_maps_are_scored_in_full() -> None:
    objective, z = fitted(some_levels(0)), join(some_levels(1)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = objective(z)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, objective(z.float()))


def test_state_dict_round_trip() -> None:
    trained, z = fitted(some_levels(0), bank=30), join(some_levels(1))
    fresh = KNN()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(z), trained(z))


def test_too_few_vectors_are_the_users_to_mend() -> None:
    with pytest.raises(InputError, match="has 2 feature vectors, fewer than k = 3"):
        fitted(some_levels(0, images=2, side=1), k=3)


def test_another_projector_is_refused() -> None:
    objective = KNN()
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="use the projector Identity"):
        objective.finish(Conv1x1(CHANNELS))


@pytest.mark.parametrize(
    "arguments",
    [
        {"bank": 0},
        {"coreset": "all"},
        {"k": 0},
        {"k": 11, "bank": 10},
        {"metric": "manhattan"},
        {"chunk": 0},
    ],
)
def test_bad_arguments_are_named(arguments: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(arguments))} must be "):
        KNN(**arguments)


def half_of_the_batches(rank: int) -> None:
    batches = [some_levels(seed) for seed in range(4)]
    everything = as_set(torch.cat([rows(join(batch)) for batch in batches]))
    assert as_set(fitted(*batches[rank::2]).bank) == everything
    for coreset in ("random", "greedy"):
        bank = fitted(*batches[rank::2], bank=100, coreset=coreset).bank
        assert len(as_set(bank)) == 100
        assert as_set(bank) <= everything
        assert torch.equal(*all_gathered(bank[None]))
        # Were the keys alike in both, both would give vectors of the same places.
        own = [(rows(join(batch))[:, None] == bank).all(-1).any(-1) for batch in batches]
        assert not torch.equal(torch.cat(own[0::2]), torch.cat(own[1::2]))


def test_two_processes_draw_from_the_whole(tmp_path: Path) -> None:
    in_two_processes(half_of_the_batches, tmp_path)


@pytest.mark.parametrize("coreset", ["random", "greedy"])
def test_a_checkpoint_scores_as_its_run_did(coreset: str, tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, "loss=knn", "loss.bank=100", f"loss.coreset={coreset}")
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=1e-5)
