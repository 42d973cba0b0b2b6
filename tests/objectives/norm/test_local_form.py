"""The local closed form compared with plain NumPy, with a single projector, and with its parts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from occ_lab.features.levels import join
from occ_lab.objectives.norm.closed_form import initial_moment
from occ_lab.objectives.norm.local_form import INTEGRATED, kept_fraction, shrunk_means
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1, LocalProjector
from occ_lab.utils.errors import InputError
from tests.objectives.norm.plain_local import cells_of, plain_means, plain_scores
from tests.objectives.processes import in_two_processes
from tests.objectives.runs import run_and_load

CHANNELS = [2, 3]


def some_levels(seed: int, count: int = 4, size: tuple[int, int] = (6, 5)) -> list[Tensor]:
    """Levels whose mean depends on the position, and whose channels are correlated."""
    generator = torch.Generator().manual_seed(seed)
    where = torch.linspace(0, 2, size[0] * size[1]).view(size)
    mix = torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    f = torch.einsum("dc,bchw->bdhw", mix, torch.randn(count, 5, *size, generator=generator))
    f = f + where * torch.arange(5.0)[:, None, None]
    coarse = torch.nn.functional.interpolate(f[:, 2:], ((size[0] + 1) // 2, (size[1] + 1) // 2))
    return [f[:, :2].contiguous(), coarse]


def fitted(*batches: list[Tensor], **arguments: object) -> tuple[Norm, LocalProjector | Conv1x1]:
    objective = Norm(**{"cell": None, "bias": "flow", **arguments})  # type: ignore[arg-type]
    projector = objective.default_projector(CHANNELS)
    for batch in batches:
        objective.observe(batch)
    objective.finish(projector)
    return objective, projector  # type: ignore[return-value]


def scores(made: tuple[Norm, LocalProjector | Conv1x1], levels: list[Tensor]) -> Tensor:
    objective, projector = made
    with torch.no_grad():
        return objective(projector(levels))


def features(levels: list[Tensor]) -> np.ndarray:
    return join(levels).double().permute(0, 2, 3, 1).numpy()


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    cell=st.none() | st.integers(1, 5),
    bias=st.sampled_from(["solved", "flow"]),
    time=st.sampled_from(["integrated", 0.5, 4.0]),
    count=st.integers(1, 5),
    norm=st.sampled_from([0.5, 3.0]),
    seed=st.integers(0, 99),
)
def test_scores_are_those_of_plain_loops(
    size: tuple[int, int],
    cell: int | None,
    bias: str,
    time: float | str,
    count: int,
    norm: float,
    seed: int,
) -> None:
    train, test = some_levels(seed, count, size), some_levels(seed + 100, 2, size)
    assume(bias == "flow" or count * size[0] * size[1] > 1)  # else nothing varies
    ours = scores(fitted(train, cell=cell, bias=bias, time=time, norm=norm), test)
    times = INTEGRATED if time == "integrated" else [float(time)]
    moment = initial_moment(5, 5)
    theirs = plain_scores(features(train), features(test), cell, bias, times, moment, norm)
    np.testing.assert_allclose(ours**2, theirs, rtol=2e-4, atol=1e-5 * theirs.max())


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("time", [3.0, 30.0, "integrated"])
def test_one_cell_with_a_bias_that_flows_is_the_form_of_one_projector(
    time: float | str, normalize: bool
) -> None:
    train, test = some_levels(0), some_levels(1)
    one = fitted(train, time=time, norm=2.0, normalize=normalize)
    cell = fitted(train, time=time, norm=2.0, normalize=normalize, cell=6)
    assert isinstance(one[1], Conv1x1)
    assert isinstance(cell[1], LocalProjector)
    torch.testing.assert_close(scores(cell, test), scores(one, test), rtol=1e-4, atol=1e-6)


def test_one_position_has_one_cell() -> None:
    train = [torch.randn(9, 2, 1, 1), torch.randn(9, 3, 1, 1)]
    _, projector = fitted(train, cell=4, bias="solved")
    mean = join(train).mean(dim=0).flatten()
    torch.testing.assert_close(projector.mean.flatten(), mean)


@pytest.mark.parametrize("channels", [[2, 3], [2, 600]])
def test_a_single_image_of_one_position_scores_by_the_distance_from_it(channels: list[int]) -> None:
    objective = Norm(cell=None, squared=True)
    projector = objective.default_projector(channels)
    first, second = ([torch.randn(1, c, 1, 1) for c in channels] for _ in range(2))
    objective.observe(first)
    objective.finish(projector)
    assert float(objective(projector(first)).abs().max()) < 1e-6
    distance = (join(second) - join(first)).square().sum()
    expected = len(INTEGRATED) * initial_moment(sum(channels), sum(channels)) * distance
    torch.testing.assert_close(objective(projector(second)).sum(), expected)


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    cell=st.integers(1, 5),
    count=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_shrunk_means_are_those_of_plain_loops(
    size: tuple[int, int], cell: int, count: int, seed: int
) -> None:
    # In float64: what is shrunk are small differences, which float32 features hold to 1e-5.
    levels = [level.double() for level in some_levels(seed, count, size)]
    moments = LocalMoments(cell)
    moments.update(levels)
    assert moments.cells is not None
    ours = moments.cells.merge(shrunk_means(moments)[:, None])[0].permute(1, 2, 0)
    expected = plain_means(features(levels), cells_of(size, cell))
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_means_are_shrunk_less_the_more_images_there_are() -> None:
    truth = features([level.mean(0, keepdim=True) for level in some_levels(0, 4000)])[0]
    for count, better in ((3, True), (4000, False)):
        moments = LocalMoments(cell=3)
        moments.update(some_levels(0, count))
        assert moments.cells is not None
        plain = moments.cells.merge(moments.sums[:, None] / count)[0].permute(1, 2, 0)
        shrunk = moments.cells.merge(shrunk_means(moments)[:, None])[0].permute(1, 2, 0)
        errors = [float(((each.numpy() - truth) ** 2).mean()) for each in (shrunk, plain)]
        if better:
            assert errors[0] < errors[1]
        else:
            np.testing.assert_allclose(errors, 0, atol=1e-2)


@given(n=st.floats(0.1, 50), observed=st.floats(0, 10), noise=st.floats(-1e-9, 10))
def test_the_fraction_that_is_kept_is_in_0_to_1(n: float, observed: float, noise: float) -> None:
    parts = (torch.tensor([each], dtype=torch.float64) for each in (observed, noise))
    assert 0 <= float(kept_fraction(*parts, torch.tensor(n))) <= 1


def test_integrated_over_all_times_the_score_is_the_mahalanobis_distance() -> None:
    train, test = some_levels(0, 50), some_levels(1)
    total = torch.zeros(4, 6, 5)
    # ∫ exp(−2tλ/s) dt = s/2λ, as a sum over the logarithm of t; one time after the other, since
    # together they would be weighted.
    step = 0.1
    for log_time in np.arange(-9, 5, step):
        t = float(np.exp(log_time))
        total += step * t * scores(fitted(train, bias="solved", time=t), test) ** 2
    f, about = features(train), features(test)
    mean = plain_means(f, cells_of((6, 5), None))
    flat = (f - mean).reshape(-1, 5)
    covariance = flat.T @ flat / len(flat)
    s = (5 * np.mean(f**2) + 1) / 6  # of [f; 1]
    off = about - mean
    distance = np.einsum("nhwc,cd,nhwd->nhw", off, np.linalg.inv(covariance), off)
    expected = initial_moment(5, 5) * s / 2 * distance
    np.testing.assert_allclose(total, expected, rtol=1e-2)


def test_every_norm_is_the_same_with_a_solved_bias(caplog: pytest.LogCaptureFixture) -> None:
    train, test = some_levels(0), some_levels(1)
    one = scores(fitted(train, cell=2, bias="solved"), test)
    eight = scores(fitted(train, cell=2, bias="solved", norm=8.0), test)
    with caplog.at_level(logging.INFO):
        Norm(bias="solved", norm=8.0).start_epoch(0)
    assert "norm=8 has no effect" in caplog.text
    assert torch.equal(one, eight)
    flowing = [scores(fitted(train, cell=2, norm=norm), test) for norm in (1.0, 8.0)]
    assert not torch.allclose(*flowing)


def test_a_thing_in_the_wrong_place_is_found() -> None:
    """One projector accepts every feature from elsewhere in the image; a local one does not."""
    train, (fine, coarse) = some_levels(0, 60, (8, 8)), some_levels(1, 1, (8, 8))
    upside_down = [fine.flip(-2), coarse.flip(-2)]
    local, one = fitted(train, cell=2, bias="solved"), fitted(train)
    ratios = [
        float(scores(made, upside_down).mean() / scores(made, [fine, coarse]).mean())
        for made in (local, one)
    ]
    assert ratios[0] > 1.5 * ratios[1]


def test_batches_do_not_matter() -> None:
    batches = [some_levels(seed, count) for seed, count in ((0, 3), (1, 1), (2, 4))]
    whole = [torch.cat(level) for level in zip(*batches, strict=True)]
    for arguments in ({"cell": 2, "bias": "solved"}, {"cell": 4}, {"time": 3.0, "cell": 2}):
        apart, together = fitted(*batches, **arguments), fitted(whole, **arguments)
        torch.testing.assert_close(scores(apart, whole), scores(together, whole))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": 0}, "cell must be"),
        ({"cell": 2.5}, "cell must be"),
        ({"bias": "fixed"}, "bias must be"),
        ({"time": "long"}, "time must be"),
        ({"bias": "solved", "time": "auto"}, "time must be integrated or a number"),
        ({"cell": 4, "solver": "gradient"}, "cell must be null"),
        ({"bias": "solved", "solver": "gradient"}, "bias must be flow"),
    ],
)
def test_values_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Norm(**{"cell": None, "bias": "flow", **arguments})


def test_a_flow_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"^time: a flow of length t = 10000"):
        fitted([torch.randn(90, 2, 2, 2), torch.randn(90, 3, 1, 1)], bias="solved", time=1e4)


def test_images_of_two_sizes_are_refused() -> None:
    objective = Norm(solver="closed_form", time="integrated", cell=2)
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="images of one size"):
        objective.observe(some_levels(0, size=(4, 4)))


def test_another_projector_is_refused() -> None:
    objective = Norm(solver="closed_form", time="integrated", cell=2)
    objective.observe(some_levels(0))
    with pytest.raises(InputError, match="LocalProjector, not of Conv1x1"):
        objective.finish(Conv1x1(CHANNELS))
    with pytest.raises(InputError, match="has no images"):
        Norm(solver="closed_form", time=3.0, cell=2).finish(LocalProjector(CHANNELS, 2))


def halves(rank: int) -> None:
    batches = [some_levels(seed) for seed in range(3)]
    theirs = LocalMoments(cell=2)
    for batch in batches:
        theirs.update(batch)
    for own in (batches[rank::2], batches if rank else []):  # one may have seen no image at all
        ours = LocalMoments(cell=2)
        for batch in own:
            ours.update(batch)
        ours.reduce()
        for name, value in ours.named_buffers():
            torch.testing.assert_close(value, getattr(theirs, name))
    made = fitted(*batches[rank::2], cell=2, bias="solved")
    assert scores(made, batches[0]).shape == (4, 6, 5)
    assert float(made[0].local.n) == 12  # type: ignore[union-attr]


def test_two_processes_fit_the_whole(tmp_path: Path) -> None:
    in_two_processes(halves, tmp_path)


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.cell=4", "loss.bias=solved", "loss.time=integrated"],
        ["loss.bias=solved", "loss.time=3"],
        ["loss.cell=5", "loss.normalize=true"],
    ],
)
def test_a_checkpoint_scores_as_its_run_did(overrides: list[str], tmp_path: Path) -> None:
    closed = ["loss=norm", "loss.solver=closed_form"]
    written, loaded = run_and_load(tmp_path, *closed, *overrides)
    torch.testing.assert_close(loaded, written, rtol=1e-4, atol=1e-5)
