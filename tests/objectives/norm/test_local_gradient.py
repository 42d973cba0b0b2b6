"""A projector for every cell, trained by gradient, compared with the local closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import SGD

from occ_lab.objectives import DeepSVDD, Norm
from occ_lab.objectives.norm.local_form import cell_sizes, mean_square
from occ_lab.projectors import LocalProjector

CHANNELS, CELL, SIZE = [2, 3], 2, (4, 4)
TIME, NORM = 1.0, 2.0
DRAWS, STEPS = 2000, 300


def some_levels(seed: int, count: int) -> list[Tensor]:
    """Levels, float64, whose mean and variance depend on the position."""
    generator = torch.Generator().manual_seed(seed)
    where = torch.linspace(0, 1, SIZE[0] * SIZE[1], dtype=torch.float64).view(SIZE)
    fine, coarse = (
        torch.randn(count, c, *size, generator=generator, dtype=torch.float64)
        for c, size in zip(CHANNELS, [SIZE, (2, 2)], strict=True)
    )
    return [fine * (0.5 + where) + where, coarse + 0.3]


def drawn(draws: int) -> LocalProjector:
    """Several random projectors, the channels of one after those of the other."""
    torch.manual_seed(0)
    made = [LocalProjector(CHANNELS, CELL).double() for _ in range(draws)]
    for each in made:
        each.build(SIZE)
    whole = LocalProjector(CHANNELS, CELL).double()
    weight = torch.cat([each.weight for each in made], dim=1)
    bias = torch.cat([each.bias for each in made], dim=1)
    whole.assign_cells(weight, bias, made[0].mean)
    return whole


def test_small_steps_lead_to_the_closed_form_in_expectation() -> None:
    train, test = some_levels(0, 8), some_levels(1, 3)
    closed = Norm(
        channels=5,
        solver="closed_form",
        time=TIME,
        cell=CELL,
        bias="flow",
        norm=NORM,
        squared=True,
    ).double()
    solved = LocalProjector(CHANNELS, CELL).double()
    closed.observe(train)
    assert closed.local is not None
    closed.local.scale(1e9)  # so many images that no cell borrows from the others
    closed.finish(solved)

    objective = Norm(
        channels=5, solver="gradient", norm=NORM, squared=True, nu=1.0, radius=0.0
    ).double()
    objective.target = objective.target.repeat(DRAWS)
    projector = drawn(DRAWS)
    # exp(−tΣ/s) in every cell: the mean over positions divides the gradient of a cell by their
    # number, and a squared distance has twice the gradient.
    sizes = cell_sizes(closed.local)
    length = TIME / float(mean_square(closed.local)) * len(sizes) / 2
    optimizer = SGD(projector.parameters(), lr=length / STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective.loss(projector(train)).backward()
        optimizer.step()
    with torch.no_grad():
        expected, found = closed(solved(test)), objective(projector(test)) / DRAWS
    assert expected.max() > 3 * expected.min()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_cells_begin_alike_and_part_in_training() -> None:
    torch.manual_seed(0)
    projector = LocalProjector(CHANNELS, CELL).double()
    assert projector.out_channels == 5
    projector.build(SIZE)
    assert projector.weight.shape == (4, 5, 5)
    assert bool((projector.weight == projector.weight[:1]).all())
    assert projector.weight.abs().max() <= 5**-0.5
    before = projector.weight.clone()
    projector.build(SIZE)
    assert torch.equal(projector.weight, before)
    objective, levels = DeepSVDD().double(), some_levels(0, 8)
    objective.setup([projector(levels).detach()])
    objective.loss(projector(levels)).backward()
    assert projector.weight.grad is not None
    assert projector.bias.grad is not None
    assert bool((projector.weight.grad[1:] != projector.weight.grad[:1]).all())
