"""CFA against the official implementation and against its formulas with the full matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from occ_lab.objectives.cfa import CFA, clustered, distinct_nearest
from occ_lab.objectives.neighbours import nearest_distances, rows
from occ_lab.projectors import CoordConv1x1
from occ_lab.utils.errors import InputError

SETTINGS = pytest.mark.parametrize(("setting", "compression"), [("gc1_gd1", 1), ("gc1_gd4", 4)])


@pytest.fixture(scope="module")
def official(shared_data: Path) -> dict[str, torch.Tensor]:
    with np.load(shared_data / "reference" / "cfa_official.npz") as archive:
        return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive}


def levels_of(official: dict, prefix: str) -> list[torch.Tensor]:
    """The levels as our backbones give them: averaged over 3x3 positions."""
    return [F.avg_pool2d(official[f"{prefix}level{place}"], 3, 1, 1) for place in range(3)]


def prepared(official: dict, setting: str, compression: int) -> tuple[CoordConv1x1, CFA]:
    """The projector with the official weights, and CFA after its setup by the official batches."""
    levels = levels_of(official, "")
    projector = CoordConv1x1([level.shape[1] for level in levels], compression)
    weight = official[f"{setting}_weight"]
    projector.load_state_dict(
        {
            "conv.weight": weight[:, :-2],
            "conv.bias": official[f"{setting}_bias"],
            "coordinates.weight": weight[:, -2:, 0, 0],
        }
    )
    objective = CFA(radius=float(official[f"{setting}_r"]))
    with torch.no_grad():
        objective.setup(projector(levels_of(official, f"bank_batch{batch}_")) for batch in range(4))
    return projector, objective


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours.detach().double(), theirs.double(), rtol=1e-4, atol=1e-4)


@SETTINGS
@pytest.mark.parametrize("half_selection", [False, True])
def test_equals_the_official_one(
    official: dict, setting: str, compression: int, half_selection: bool
) -> None:
    projector, objective = prepared(official, setting, compression)
    objective.half_selection = half_selection
    z = projector(levels_of(official, ""))
    close(z, official[f"{setting}_phi"])
    close(objective.bank, official[f"{setting}_bank"])
    close(objective(z), official[f"{setting}_score"][:, 0])

    loss = objective.loss(z)
    loss.backward()
    close(loss, official[f"{setting}_loss"])
    assert projector.conv.weight.grad is not None
    assert projector.conv.bias is not None
    assert projector.conv.bias.grad is not None
    assert projector.coordinates.weight.grad is not None
    assert objective.radius.grad is not None
    weight_gradient = torch.cat(
        [projector.conv.weight.grad[:, :, 0, 0], projector.coordinates.weight.grad], dim=1
    )
    # Gradients are sums over positions of mixed sign: the tolerance is relative to their size.
    scale = official[f"{setting}_grad_bias"].abs().max()
    close(projector.conv.bias.grad / scale, official[f"{setting}_grad_bias"] / scale)
    close(weight_gradient.norm(), official[f"{setting}_grad_weight_norm"])
    close(objective.radius.grad, official[f"{setting}_grad_r"])


def example(
    seed: int = 0, centres: int = 20, channels: int = 5, side: int = 4, **arguments: object
) -> tuple[CFA, torch.Tensor]:
    """CFA in float64 with a random bank, and random maps near it."""
    generator = torch.Generator().manual_seed(seed)
    objective = CFA(**arguments).double()
    shape = (centres, channels)
    objective.bank = torch.randn(shape, generator=generator, dtype=torch.float64)
    z = torch.randn((2, channels, side, side + 1), generator=generator, dtype=torch.float64)
    return objective, z.requires_grad_()


def plain_distances(objective: CFA, z: torch.Tensor) -> torch.Tensor:
    features = z.movedim(1, -1).reshape(-1, 1, z.shape[1])
    return (features - objective.bank).square().sum(dim=-1).sort(dim=1).values


def plain_loss(objective: CFA, z: torch.Tensor) -> torch.Tensor:
    d = plain_distances(objective, z)
    k, j = objective.k, objective.j
    zero = torch.zeros((), dtype=torch.float64)
    attract = torch.maximum(zero, d[:, :k] - objective.radius**2).sum() / (len(d) * k)
    excess = objective.radius**2 - d[:, k : k + j] - objective.alpha
    repel = torch.maximum(zero, excess).sum() / (len(d) * j)
    terms = [attract] * objective.attract + [repel] * objective.repel
    return sum(terms, start=zero) / objective.nu


@settings(deadline=None, max_examples=40)
@given(
    k=st.integers(1, 4),
    j=st.integers(1, 4),
    chunk=st.integers(1, 50),
    radius=st.floats(0, 3),
    terms=st.sampled_from([(True, True), (True, False), (False, True)]),
    seed=st.integers(0, 1000),
)
def test_loss_and_gradients_equal_the_full_matrix(
    k: int, j: int, chunk: int, radius: float, terms: tuple[bool, bool], seed: int
) -> None:
    attract, repel = terms
    objective, z = example(seed, k=k, j=j, chunk=chunk, radius=radius, attract=attract, repel=repel)
    ours, theirs = objective.loss(z), plain_loss(objective, z)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    inputs = [z, objective.radius]
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), rtol=1e-8, atol=1e-8
    )


def test_gradient_equals_finite_differences() -> None:
    objective, z = example()
    features = rows(z).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f: nearest_distances(f, objective.bank, 4, 7, False), features
    )


@pytest.mark.parametrize("certainty", [True, False])
def test_score_equals_its_formula(certainty: bool) -> None:
    objective, z = example(k=3, certainty=certainty)
    distances = plain_distances(objective, z)[:, :3].sqrt()
    weights = torch.exp(-distances) / torch.exp(-distances).sum(dim=1, keepdim=True)
    expected = distances[:, 0] * (weights[:, 0] if certainty else 1)
    torch.testing.assert_close(objective(z), expected.reshape(2, 4, 5))


@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_chunks_agree(chunk: int) -> None:
    objective, z = example(radius=1.0)
    chunked, _ = example(radius=1.0, chunk=chunk)
    torch.testing.assert_close(chunked.loss(z), objective.loss(z), rtol=1e-12, atol=0)
    torch.testing.assert_close(chunked(z), objective(z), rtol=1e-12, atol=0)


def test_single_precision_is_exact_next_to_a_centre() -> None:
    # ‖f‖² + ‖c‖² − 2 f·c would be rounding error alone at this distance.
    objective = CFA()
    objective.bank = 10 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    z = (objective.bank + 1e-4).T.reshape(1, 64, 5, 10)
    nearest = nearest_distances(rows(z), objective.bank, 1, 16, False)
    expected = (rows(z).double() - objective.bank.double()).square().sum(dim=1, keepdim=True)
    torch.testing.assert_close(nearest.double(), expected, rtol=1e-5, atol=0)


@settings(deadline=None, max_examples=10)
@given(spread=st.floats(0.05, 3), shift=st.floats(-20, 20), seed=st.integers(0, 1000))
def test_half_precision_selects_the_same_neighbours_to_tolerance(
    spread: float, shift: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(500, 96, generator=generator) + shift
    which = torch.randint(500, (300,), generator=generator)
    features = bank[which] + spread * torch.randn(300, 96, generator=generator)
    full = nearest_distances(features, bank, 6, 128, False)
    half = nearest_distances(features, bank, 6, 128, True)
    # Where one of the six is missed it is by another that is as near to within a few per cent.
    torch.testing.assert_close(half, full, rtol=0.03, atol=0)
    torch.testing.assert_close(half.mean(), full.mean(), rtol=1e-3, atol=0)
    assert (half.isclose(full, rtol=1e-5).all(dim=1)).float().mean() > 0.95


def test_nothing_repels_before_the_radius_has_grown() -> None:
    # The squared distance cannot be below 0, so that r² must exceed α; here it can be 0.
    objective, _ = example(attract=False, alpha=0.1, k=1, j=1)
    objective.bank = objective.bank[:1].repeat(4, 1)
    on_centre = objective.bank[0][None, :, None, None].expand(1, -1, 3, 3)
    for radius, active in ((0.1**0.5 - 1e-6, False), (0.1**0.5 + 1e-6, True)):
        with torch.no_grad():
            objective.radius.fill_(radius)
        assert bool(objective.loss(on_centre) > 0) is active


def test_a_training_in_which_nothing_repels_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    objective, z = example(alpha=0.1, radius=0.3)
    objective.loss(z)
    objective.conclude()
    assert "no distance repelled in any step" in caplog.text
    caplog.clear()
    with torch.no_grad():
        objective.radius.fill_(100.0)
    objective.loss(z)
    with torch.no_grad():
        objective.radius.fill_(0.3)
    objective.loss(z)
    objective.conclude()
    example(repel=False)[0].conclude()
    assert not caplog.text


def test_the_default_projector_has_levels_of_unit_rms() -> None:
    assert CFA().default_projector([3, 5]).needs_setup
    assert not CFA(unit_rms=False).default_projector([3, 5]).needs_setup


def test_without_terms_there_is_one_pass_and_nothing_to_train() -> None:
    bare = CFA(attract=False, repel=False)
    assert bare.one_pass
    assert bare.needs_setup
    bare.observe([])
    bare.finish(None)
    assert not CFA().one_pass


def test_radius_is_learned_or_not() -> None:
    assert CFA().radius.requires_grad
    fixed, z = example(learnable_radius=False)
    fixed.loss(z).backward()
    assert fixed.radius.grad is None
    assert z.grad is not None


def some_maps(seed: int, images: int = 7, side: int = 4) -> torch.Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_official_bank_weighs_images_alike_whatever_the_batches() -> None:
    maps = some_maps(0)
    banks = []
    for size in (2, 7):
        objective = CFA()
        objective.setup(maps.split(size))
        banks.append(objective.bank)
    expected = maps.double().mean(dim=0).flatten(1).T
    for bank in banks:
        torch.testing.assert_close(bank.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory", ["official", "algorithm1"])
def test_compression_divides_the_centres(memory: str) -> None:
    objective = CFA(memory=memory, bank_compression=2)
    objective.setup([some_maps(0)])
    again = CFA(memory=memory, bank_compression=2)
    again.setup([some_maps(0)])
    assert objective.bank.shape == (8, 3)
    torch.testing.assert_close(objective.bank, again.bank)


def test_kmeans_finds_clear_clusters() -> None:
    middles = torch.tensor([[0.0, 0], [100, 0], [0, 100], [100, 100]])
    spread = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    points = (middles[:, None] + spread).flatten(0, 1)
    found = clustered(points, 5, seed=0)
    expected = (middles[:, None] + spread).mean(dim=1)
    order = torch.cdist(expected, found).argmin(dim=1)
    torch.testing.assert_close(found[order], expected, rtol=1e-4, atol=1e-4)


def test_algorithm1_moves_each_centre_to_the_feature_it_takes() -> None:
    first = some_maps(1, images=1)
    generator = torch.Generator().manual_seed(2)
    moved = torch.randperm(16, generator=generator)
    step = 1e-3 * torch.randn(16, 3, generator=generator)
    centres = rows(first)
    second = (centres + step)[moved].T.reshape(1, 3, 4, 4)  # so near that each knows its own
    objective = CFA(memory="algorithm1", ema=0.25)
    objective.setup([first, second])
    torch.testing.assert_close(objective.bank, centres + 0.25 * step)


@settings(deadline=None, max_examples=25)
@given(centres=st.integers(1, 6), spare=st.integers(0, 4), seed=st.integers(0, 1000))
def test_centres_take_distinct_features(centres: int, spare: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    near = torch.randn(centres, 2, generator=generator)
    features = torch.randn(centres + spare, 2, generator=generator)
    taken = distinct_nearest(near, features)
    assert len(set(taken.tolist())) == centres

    def cost(indices: Sequence[int] | torch.Tensor) -> float:
        return float((near - features[indices]).square().sum())

    for _ in range(20):
        other = torch.randperm(centres + spare, generator=generator)[:centres]
        assert cost(taken) <= cost(other) + 1e-5


def test_state_dict_round_trip() -> None:
    trained = CFA()
    trained.setup([some_maps(0)])
    fresh = torch.nn.ModuleDict({"objective": CFA()})
    fresh.load_state_dict(torch.nn.ModuleDict({"objective": trained}).state_dict())
    loaded = fresh["objective"]
    torch.testing.assert_close(loaded(some_maps(1)), trained(some_maps(1)))
    with pytest.raises(RuntimeError, match="bank"):
        CFA().load_state_dict({"radius": torch.tensor(0.0)})


def test_half_precision_maps_are_scored_in_full() -> None:
    objective = CFA()
    objective.setup([some_maps(0)])
    z = some_maps(1).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = objective(z)
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, objective(z.float()))


def test_too_small_a_bank_is_the_users_to_mend() -> None:
    with pytest.raises(InputError, match=r"the memory bank has 4 centres, fewer than k \+ j = 6"):
        CFA(bank_compression=4).setup([some_maps(0)])
    with pytest.raises(InputError, match="many positions"):
        CFA().setup([some_maps(0, side=1)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 0),
        ("j", 0),
        ("alpha", -1),
        ("nu", 0),
        ("radius", -1),
        ("memory", "mean"),
        ("bank_compression", 0),
        ("ema", 0),
        ("ema", 1.5),
        ("chunk", 0),
    ],
)
def test_bad_arguments_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        CFA(**{name: value})
