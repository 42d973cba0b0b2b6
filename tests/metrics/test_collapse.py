"""Scores that do not distinguish images."""

from __future__ import annotations

import pytest
import torch

from occ_lab.metrics.collapse import check_collapse
from occ_lab.utils.errors import InputError


@pytest.mark.parametrize("value", [0.0, 3.0, -2.5, 1e9])
def test_equal_scores_are_a_collapse(value: float) -> None:
    with pytest.raises(InputError, match=r"^the scores have collapsed: all 5 test images score"):
        check_collapse(torch.full((5,), value), 5)
    nearly = torch.full((5,), value) * (1 + torch.linspace(0, 5e-7, 5))
    with pytest.raises(InputError, match="usual causes"):
        check_collapse(nearly, 5)


def test_scores_that_differ_are_none() -> None:
    check_collapse(torch.tensor([1.0, 1.0, 1.001]), 3)
    check_collapse(torch.tensor([0.0, 1e-20]), 2)
    check_collapse(torch.tensor([4.0]), 1)  # one image has nothing to differ from
