"""The rotation classifier's own score."""

from __future__ import annotations

import pytest
import torch

from occ_lab.objectives.rotation_score import RotationScore
from occ_lab.projectors import Conv1x1, Identity
from occ_lab.utils.errors import InputError


def answers(seed: int = 0) -> torch.Tensor:
    """Log-probabilities of the right turn, ``[2, 4, 3, 5]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 4, 3, 5, generator=generator).log()


def test_score_is_how_unlikely_the_right_turns_are() -> None:
    z = answers()
    found = RotationScore()(z)
    assert found.shape == (2, 3, 5)
    torch.testing.assert_close(found, -z.exp().prod(dim=1).log())
    assert (found >= 0).all()
    assert float(RotationScore()(torch.zeros(1, 4, 1, 1))) == 0  # sure and right
    guessing = torch.full((1, 4, 1, 1), 0.25).log()
    assert float(RotationScore()(guessing)) == pytest.approx(4 * 1.3862944)


def test_it_learns_nothing() -> None:
    objective = RotationScore()
    assert objective.one_pass
    assert not objective.needs_setup
    objective.observe([answers()])
    objective.finish(Identity([4]))
    assert objective.state_dict() == {}
    with pytest.raises(InputError, match="the projector Identity"):
        objective.finish(Conv1x1([4]))


def test_other_features_are_refused() -> None:
    with pytest.raises(InputError, match="^features: .* got 512 channels"):
        RotationScore().observe([torch.zeros(2, 512, 1, 1)])
