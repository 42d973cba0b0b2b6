"""Parts of the norm study that no run shows."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir

from occ_lab.config.composition import conf_dir, resolved
from occ_lab.engine.norm_study import Scored, check, cloud
from occ_lab.utils.errors import InputError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("norms=[1,-1]", r"^norms\[1\] must be a number and > 0, got -1"),
        ("norms=[]", "^norms must be a list of numbers"),
        ("norms=[2,1]", "^norms must rise"),
        ("times=10", "^times must be a list of numbers"),
        ("times=[-1]", r"^times\[0\] must be a number and >= 0"),
        ("pictures.norms=[0]", r"^pictures\.norms\[0\] must be a number and > 0"),
        ("pictures.time=soon", r"^pictures\.time must be a number"),
        ("loader.workers=-1", r"^loader\.workers must be an integer and >= 0"),
    ],
)
def test_a_value_out_of_range_names_its_key(override: str, message: str) -> None:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        cfg = compose("norm_study", [override])
    with pytest.raises(InputError, match=message):
        check(resolved(cfg))


def scored(masks: torch.Tensor | None) -> Scored:
    """Two images, the second abnormal, on a grid of 2 × 2; position k has φ = k + 1 along c."""
    along = torch.arange(8.0).reshape(2, 2, 2) + 1
    drawn = torch.stack([along.square(), along, torch.ones(2, 2, 2)])  # s₁ = 1: φ = p
    empty = torch.zeros(1, 2, 2, 2)
    return Scored(empty, empty, drawn, torch.tensor([0, 1]), masks)


def test_positions_of_abnormal_images_outside_their_masks_are_neither() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, 7, 0] = True
    points = cloud(scored(masks), norm=2.0)
    assert points.length.tolist() == [1, 2, 3, 4, 7]
    assert points.abnormal.tolist() == [False] * 4 + [True]
    assert points.cosine.tolist() == pytest.approx([1.0] * 5)


def test_without_masks_an_abnormal_image_is_abnormal_throughout() -> None:
    points = cloud(scored(None), norm=2.0)
    assert points.abnormal.tolist() == [False] * 4 + [True] * 4
    # Lengths 1..4 are off a target of 2 by 1, 0, 1, 2, lengths 5..8 by 3..6.
    assert points.aurocs == {"angle": 0.5, "length": 1.0, "score": 1.0}
