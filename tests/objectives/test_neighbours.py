"""Distances of features to their nearest neighbours in a bank."""

from __future__ import annotations

import pytest
import torch

from occ_lab.objectives.cfa import CFA
from occ_lab.objectives.knn import KNN
from occ_lab.projectors import Identity


@pytest.mark.parametrize("loss", ["knn", "cfa"])
def test_the_gradient_is_finite_at_a_vector_of_the_bank(loss: str) -> None:
    z = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    if loss == "knn":
        objective = KNN()
        objective.observe([z])
        objective.finish(Identity([5]))
    else:
        objective = CFA()
        objective.setup([z[:1]])
    x = z.clone().requires_grad_()
    scores = objective(x)
    assert scores[0].max() < 1e-6
    # as of an image score, to which the map's maximum alone adds
    (gradient,) = torch.autograd.grad(scores.max(), x)
    assert gradient.isfinite().all()
