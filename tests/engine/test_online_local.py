"""Learning image by image with a projector for every cell, against the batch fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occ_lab.detector import Detector
from occ_lab.engine.online import Online
from occ_lab.engine.stream_state import StreamState, read_state, write_state
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.objective import Norm
from occ_lab.projectors import Conv1x1
from occ_lab.utils.errors import InputError
from tests.engine.test_online import CHANNELS, images

FORMS = [
    {"cell": 2, "bias": "solved", "time": "integrated"},
    {"cell": 3, "time": 3.0},
    {"cell": 4, "time": "auto"},
]


def detector(**arguments: object) -> Detector:
    objective = Norm(solver="closed_form", **arguments)  # type: ignore[arg-type]
    projector = objective.default_projector(CHANNELS)
    return Detector(torch.nn.Identity(), objective, projector)  # type: ignore[arg-type]


def learned(
    stream: list[list[Tensor]], half_life: float | None = None, **arguments: object
) -> tuple[Online, Detector]:
    made = detector(**arguments)
    online = Online(made, half_life)
    for levels in stream:
        online.learn(levels)
    online.solve()
    return online, made


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("arguments", FORMS[:2])
def test_the_last_state_is_the_batch_fit(count: int, arguments: dict) -> None:
    stream, (tested,) = images(count), images(1, seed=9)
    online, made = learned(stream, **arguments)
    assert online.images == count
    batch = detector(**arguments)
    batch.objective.observe([torch.cat(level) for level in zip(*stream, strict=True)])
    batch.objective.finish(batch.projector)
    found, expected = made.score_levels(tested), batch.score_levels(tested)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_what_is_forgotten_counts_half_after_a_half_life() -> None:
    stream = images(4)
    online, _ = learned(stream, half_life=2, cell=2, bias="solved", time=3.0)
    expected = LocalMoments(cell=2)
    for age, levels in zip((3, 2, 1, 0), stream, strict=True):
        one = LocalMoments(cell=2)
        one.update(levels)
        expected.add(one.state(), factor=0.5 ** (age / 2))
    assert online.objective.local is not None
    for name, value in online.objective.local.named_buffers():
        torch.testing.assert_close(value, getattr(expected, name))
    assert float(expected.weight) == pytest.approx(online.weight)


@settings(deadline=None, max_examples=15)
@given(cut=st.integers(1, 6), arguments=st.sampled_from(FORMS), refresh=st.sampled_from([0.0, 0.3]))
def test_a_state_goes_on_to_the_last_bit(cut: int, arguments: dict, refresh: float) -> None:
    stream = images(7)

    def follow(online: Online, made: Detector, part: list[list[Tensor]]) -> list[Tensor]:
        scores = []
        for levels in part:
            if online.due:
                online.solve()
            scores.append(made.score_levels(levels) if online.images else torch.zeros(1, 8, 8))
            online.learn(levels)
        return scores

    whole = detector(**arguments)
    expected = follow(Online(whole, 3.0, refresh), whole, stream)
    first, second = detector(**arguments), detector(**arguments)
    stopped, resumed = Online(first, 3.0, refresh), Online(second, 3.0, refresh)
    follow(stopped, first, stream[:cut])
    state = stopped.state()
    stopped.learn(stream[0])  # changes nothing of a state that was taken before
    if not any(name.endswith("weight") and value.numel() for name, value in state.tensors.items()):
        return
    resumed.restore(state)
    for ours, theirs in zip(follow(resumed, second, stream[cut:]), expected[cut:], strict=True):
        assert torch.equal(ours, theirs)
    assert resumed.images == 7


def test_merged_states_are_one_stream_also_through_files(tmp_path: Path) -> None:
    stream, (tested,) = images(9), images(1, seed=9)
    states = []
    for number, part in enumerate((stream[:4], stream[4:])):
        online, _ = learned(part, **FORMS[0])
        path = tmp_path / f"{number}.safetensors"
        none = torch.zeros(0).double()
        write_state(path, StreamState(online.state(), none, none, none, False, 0, 0, {}, {}))
        states.append(read_state(path, {}).learned)
    made = detector(**FORMS[0])
    merged = Online(made)
    merged.merge(states)
    merged.solve()
    _, whole = learned(stream, **FORMS[0])
    assert (merged.images, merged.weight) == (9, 9)
    found, expected = made.score_levels(tested), whole.score_levels(tested)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_it_needs_the_projector_of_its_form() -> None:
    objective = Norm(solver="closed_form", cell=2, time=3.0)
    made = Detector(torch.nn.Identity(), objective, Conv1x1(CHANNELS))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be LocalProjector"):
        Online(made)
