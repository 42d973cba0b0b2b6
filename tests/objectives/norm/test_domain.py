"""The end of the feasible domain, by the rule and by the AUROC."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.objectives.norm.domain import domain_end, measured_end, settled_end
from occ_lab.utils.errors import InputError

SPECTRUM = torch.tensor([3.0, 1.0, 0.3, 0.1], dtype=torch.float64)


def toy_parts(count: int, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """s₀² of Gaussian features, a defect shifting one of them, and an s₁² that is blind to it."""
    generator = torch.Generator().manual_seed(int(shift != 0))
    f = torch.randn(count, 4, generator=generator, dtype=torch.float64) * SPECTRUM.sqrt()
    f[:, -1] += shift
    blind = torch.randn(count, generator=generator, dtype=torch.float64) * 0.05
    return f.square().sum(dim=1), blind.square()


def test_at_the_end_both_parts_stray_as_far() -> None:
    spread, constant = toy_parts(500)
    end = domain_end(spread, constant)
    assert float(spread.var()) == pytest.approx(float((end**2 * constant).var()))


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_end_moves_with_the_scale_of_either_part(wide: float, narrow: float) -> None:
    spread, constant = toy_parts(100)
    moved = domain_end(wide**2 * spread, narrow**2 * constant)
    assert moved == pytest.approx(domain_end(spread, constant) * wide / narrow)


def test_separation_by_a_blind_constant_falls_as_derived() -> None:
    normal, defect = toy_parts(200_000), toy_parts(200_000, shift=4.0)
    end = domain_end(*normal)

    def separation(norm: float) -> float:
        a, b = (spread + norm**2 * constant for spread, constant in (normal, defect))
        return float((b.mean() - a.mean()) / a.std())

    for share, left in ((0.5, 1 / np.sqrt(1 + 0.5**4)), (1, 1 / np.sqrt(2)), (2, 1 / np.sqrt(17))):
        assert separation(share * end) / separation(0) == pytest.approx(left, rel=0.03)


def test_a_settled_end_is_one_that_stays() -> None:
    assert settled_end(lambda norm: 10 / (1 + norm)) == pytest.approx(2.7016, rel=0.02)
    assert settled_end(lambda _: 3.0) == 3


def test_scores_that_do_not_vary_have_no_domain() -> None:
    spread, constant = toy_parts(10)
    for parts in ((torch.ones(10), constant), (spread, torch.zeros(10))):
        with pytest.raises(InputError, match=r"^times: "):
            domain_end(*parts)


def test_measured_end_is_right_of_the_best_and_between_norms() -> None:
    norms = [1.0, 4.0, 16.0, 64.0]
    assert measured_end(norms, [0.7, 0.90, 0.88, 0.6], drop=0.01) == pytest.approx(8)
    assert measured_end(norms, [0.9, 0.9, 0.9, 0.895], drop=0.01) is None
    assert measured_end(norms, [0.5, 0.6, 0.7, 0.9], drop=0.01) is None
    # A dip back above the floor comes after the end.
    assert measured_end(norms, [0.9, 0.8, 0.9, 0.9], drop=0.05) == pytest.approx(2)
