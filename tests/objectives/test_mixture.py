"""A mixture against a model of each kind of image."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occ_lab.features.levels import join
from occ_lab.objectives import CFA, KNN, Gaussian, Mixture, Norm, Objective, PaDiM
from occ_lab.objectives.base import observe_valid
from occ_lab.projectors import Conv1x1, Identity, LocalProjector
from occ_lab.utils.errors import InputError
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load
from tests.objectives.test_gaussian import plain

CHANNELS = [3, 2]
SIDES = (8, 4)
KINDS = 3
COMPONENTS = [Gaussian(), KNN(bank=40), Norm(), Norm(time="auto"), PaDiM(dims=4)]
MAPS = Identity(CHANNELS)


def kinds(seed: int, images: int = 24) -> tuple[list[Tensor], Tensor]:
    """Levels of images of three kinds, and the kind of each."""
    random = torch.Generator().manual_seed(seed)
    of = torch.randperm(images, generator=random) % KINDS
    levels = [
        torch.randn(images, channels, side, side, generator=random)
        for channels, side in zip(CHANNELS, SIDES, strict=True)
    ]
    for level in levels:
        level *= 1 + of[:, None, None, None]
        level[:, 0] += 20 * of[:, None, None]
    return levels, of


def some(levels: list[Tensor], rows: Tensor) -> list[Tensor]:
    return [level[rows] for level in levels]


def fitted(objective: Mixture, levels: list[Tensor], batch: int = 7) -> Mixture:
    objective.setup(MAPS(list(part)) for part in zip(*(x.split(5) for x in levels), strict=True))
    for part in zip(*(level.split(batch) for level in levels), strict=True):
        objective.observe(part)
    objective.finish(MAPS)
    return objective


@settings(deadline=None, max_examples=6)
@given(batch=st.integers(1, 24), seed=st.integers(0, 99), count=st.sampled_from([KINDS, "auto"]))
def test_each_image_has_the_scores_of_a_model_of_its_kind(
    batch: int, seed: int, count: int
) -> None:
    (train, of), (test, kind) = kinds(seed), kinds(seed + 100, 9)
    objective = fitted(Mixture(Gaussian(), count), train, batch)
    assert len(objective.members) == KINDS
    ours = objective(join(test))
    for number in range(KINDS):
        rows = [
            join(some(levels, labels == number)).double().movedim(1, 3).flatten(0, 2).numpy()
            for levels, labels in ((train, of), (test, kind))
        ]
        expected = plain(*rows, 0.01)
        own = join(some(train, (of == number).nonzero()[:4, 0]))
        first = plain(rows[0], own.double().movedim(1, 3).flatten(0, 2).numpy(), 0.01)
        expected /= np.sqrt(np.mean(first**2))
        np.testing.assert_allclose(ours[kind == number].detach().flatten(), expected, rtol=1e-3)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda each: type(each).__name__)
def test_any_component_is_the_objective_itself(component: Objective) -> None:
    (train, of), (test, kind) = kinds(0), kinds(1, 9)
    objective = fitted(Mixture(component, "auto"), train, batch=24)
    for number in range(KINDS):
        single = objective.new()
        own = some(train, of == number)
        projector = single.default_projector([sum(CHANNELS)])
        single.build(projector.out_channels)
        single.observe([join(own)])
        single.finish(projector)
        mine = join(some(test, kind == number))
        ratio = objective(mine) / single(projector([mine]))
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)
        sample = join(some(own, torch.arange(4)))
        assert float(objective(sample).detach().square().mean()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("component", [Gaussian(), PaDiM(dims=4), Norm(cell=2)])
def test_positions_around_an_image_do_not_count(component: Objective) -> None:
    train = [join(kinds(0)[0])]
    valid = torch.zeros(24, 8, 8, dtype=torch.bool)
    valid[:12, :, :6] = True
    valid[12:, 2:] = True
    noise = torch.where(valid[:, None], train[0], 1e3)
    filled = [
        Mixture(component, KINDS),
        Mixture(component, KINDS),
    ]
    for objective, z in zip(filled, (train[0], noise), strict=True):
        objective.setup([z[:12, :, :, :6], z[12:, :, 2:]])
        observe_valid(objective, [z], valid)
        objective.finish(Identity([5]))
    # Their features around the images differ, and nothing else: the same components.
    states = [each.projectors.state_dict() | each.members.state_dict() for each in filled]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(filled[0].scales, filled[1].scales, rtol=1e-4, atol=0)
    # An image is recognised together with what is around it.
    assert filled[1].component_of(noise).unique(return_counts=True)[1].tolist() == [8, 8, 8]


def test_the_exported_graph_finds_the_component_too() -> None:
    train, _ = kinds(0)
    objective = fitted(Mixture(Norm(), KINDS), train).eval()
    test = join(kinds(1, 9)[0])
    program = torch.export.export(objective, (torch.zeros_like(test),)).module()
    torch.testing.assert_close(program(test), objective(test))


def unscaled(objective: Mixture) -> Tensor:
    """Scores before the division by their scale, which the images of other processes change."""
    test = join(kinds(1, 9)[0])
    scales = objective.scales[objective.component_of(test)]
    return (objective(test) * scales[:, None, None]).detach()


SHARED = [Norm(), PaDiM(dims=4), KNN(bank=1000)]


def in_each_process(folder: Path, rank: int) -> None:
    """The second process has no image of the first kind."""
    train, of = kinds(0)
    first = (of == 0) | (torch.arange(len(of)) % 4 == 0)
    for number, component in enumerate(SHARED):
        objective = Mixture(component, KINDS)
        objective.setup([join(train)])
        objective.observe(some(train, first if rank == 0 else ~first))
        objective.finish(MAPS)
        torch.save([unscaled(objective), objective.scales], folder / f"{number} {rank}.pt")


def test_processes_find_the_same_mixture(tmp_path: Path) -> None:
    in_two_processes(partial(in_each_process, tmp_path), tmp_path)
    for number, component in enumerate(SHARED):
        found = [torch.load(tmp_path / f"{number} {rank}.pt") for rank in (0, 1)]
        expected = unscaled(fitted(Mixture(component, KINDS), kinds(0)[0]))
        torch.testing.assert_close(found[0], found[1])
        torch.testing.assert_close(found[0][0], expected, rtol=1e-3, atol=1e-4)


def test_components_of_tiles_have_one_cell() -> None:
    objective = Mixture(Norm(), KINDS)
    objective.see_tiles(MAPS)
    fitted(objective, kinds(0)[0])
    for projector in objective.projectors:
        assert isinstance(projector, LocalProjector)
        assert len(projector.weight) == 1


def test_a_group_that_is_never_seen_again_is_left_out() -> None:
    train, of = kinds(0)
    objective = Mixture(KNN(bank=9), KINDS)
    objective.setup([join(train)])
    objective.observe(some(train, of != 1))
    objective.finish(MAPS)
    assert (len(objective.members), len(objective.centres), len(objective.scales)) == (2, 2, 2)
    assert objective(join(train)).isfinite().all()


def test_what_cannot_be_a_mixture_is_refused() -> None:
    for component in (CFA(), Norm(solver="gradient")):
        with pytest.raises(ValueError, match="^component must be an objective that learns in one"):
            Mixture(component)
    for name in ("components", "most"):
        with pytest.raises(ValueError, match=f"^{name} must be an integer and >= 1, got 0"):
            Mixture(Norm(), **{name: 0})  # type: ignore[arg-type]
    objective = Mixture(Gaussian(), 1)
    with pytest.raises(InputError, match="has no images"):
        objective.setup([])
    with pytest.raises(InputError, match="use the projector Identity"):
        objective.finish(Conv1x1([5]))


@pytest.mark.parametrize("more", [[], ["loss@loss.component=padim", "loss.component.dims=7"]])
def test_a_checkpoint_scores_as_its_run_did(more: list[str], tmp_path: Path) -> None:
    written, loaded = run_and_load(tmp_path, "loss=mixture", "loss.components=2", *more)
    torch.testing.assert_close(loaded, written, rtol=1e-5, atol=0)
