"""Attributions compared with results that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occ_lab.explain.attribution import Attribution, IntegratedGradients, Occlusion


def pair(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, baseline = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    return image, baseline


def linear(image: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, image[0].numel(), dtype=image.dtype)
    return image.flatten(1) @ weights + 3


def quadratic(image: Tensor) -> Tensor:
    shifted = image.flatten(1) - torch.linspace(0, 1, image[0].numel(), dtype=image.dtype)
    return shifted.square().sum(dim=1) + shifted[:, 0] * shifted[:, 1]


@pytest.mark.parametrize("score", [linear, quadratic])
def test_integrated_gradients_are_the_riemann_sum_and_complete(score) -> None:
    image, baseline = pair(0, 5, 4)
    values = IntegratedGradients(steps=8)(score, image, baseline)
    assert values.shape == (5, 4)
    assert values.dtype == torch.float64
    total = torch.zeros_like(image)
    points = 1000
    for point in range(points):  # midpoints: exact for gradients that are linear along the way
        x = (baseline + (point + 0.5) / points * (image - baseline)).requires_grad_()
        total += torch.autograd.grad(score(x[None]).sum(), x)[0] / points
    expected = ((image - baseline) * total).sum(dim=0)
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    difference = score(image[None]) - score(baseline[None])
    torch.testing.assert_close(values.sum(), difference[0], rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(
    height=st.integers(4, 10),
    width=st.integers(4, 10),
    window=st.floats(0.05, 1),
    fraction=st.floats(0.1, 1),
    seed=st.integers(0, 99),
)
def test_occlusion_is_the_mean_fall_over_the_squares_that_cover_a_pixel(
    height: int, width: int, window: float, fraction: float, seed: int
) -> None:
    image, baseline = pair(seed, height, width)
    values = Occlusion(window, window * fraction)(quadratic, image, baseline)
    tall, wide = (max(1, round(window * side)) for side in (height, width))
    down, right = (max(1, round(window * fraction * side)) for side in (height, width))
    falls, covered = torch.zeros(2, height, width, dtype=image.dtype)
    for top in range(0, math.ceil((height - tall) / down) * down + 1, down):
        for left in range(0, math.ceil((width - wide) / right) * right + 1, right):
            square = (slice(top, top + tall), slice(left, left + wide))
            hidden = image.clone()
            hidden[:, square[0], square[1]] = baseline[:, square[0], square[1]]
            falls[square] += (quadratic(image[None]) - quadratic(hidden[None]))[0]
            covered[square] += 1
    assert covered.min() > 0
    torch.testing.assert_close(values, (falls / covered).float())


def test_nothing_changes_where_images_are_equal() -> None:
    image, _ = pair(0, 8, 8)
    for method in (IntegratedGradients(4), Occlusion()):
        assert torch.equal(method(quadratic, image, image), torch.zeros_like(image[0]))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([[0.5, -0.25], [0.0, 0.0]], "hidden: -0.5 (red), +0.25 (blue)"),
        ([[0.5, 0.25], [0.5, 0.25]], "hidden: -0.5 (red), +0 (blue)"),
    ],
)
def test_the_caption_of_an_occlusion_map_has_its_extremes(
    values: list[list[float]], text: str
) -> None:
    assert Occlusion().caption(torch.tensor(values)) == text


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (IntegratedGradients, {"steps": 0}, "steps must be an integer and >= 1, got 0"),
        (IntegratedGradients, {"steps": 2.5}, "steps must be an integer"),
        (Occlusion, {"window": 0}, "window must be a number and > 0 and <= 1, got 0"),
        (Occlusion, {"window": 1.5}, "window must be"),
        (Occlusion, {"window": 0.1, "stride": 0.2}, "stride must be a number and > 0 and <= 0.1"),
        (Occlusion, {"stride": 0}, "stride must be"),
    ],
)
def test_values_out_of_range_are_named(
    method: type[Attribution], arguments: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)
