"""The resize inside exported graphs compared with Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim

from occ_lab.data.transforms import Preprocessing
from occ_lab.deploy import resize
from occ_lab.deploy.resize import lanczos, resized

SIDE, CROP = 64, 51


class Resize(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return resized(image, SIDE, CROP)


@pytest.fixture(scope="module")
def graph() -> nn.Module:
    sizes = {1: Dim("height", min=2), 2: Dim("width", min=2)}
    example = (torch.zeros(1, 70, 80, 3, dtype=torch.uint8),)
    return torch.export.export(Resize(), example, dynamic_shapes={"image": sizes}).module()


def assert_pillows(graph: nn.Module, image: np.ndarray) -> None:
    found = graph(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, Preprocessing(SIDE, CROP)(image))


def hard(seed: int, height: int, width: int) -> np.ndarray:
    """Black and white noise, whose overshoot reveals the order in which Pillow resizes the axes."""
    return np.random.default_rng(seed).integers(0, 2, (height, width, 3), dtype=np.uint8) * 255


SIZES = st.integers(2, 400)


@given(height=SIZES, width=SIZES, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_it_is_pillows_to_the_last_level(
    graph: nn.Module, height: int, width: int, seed: int
) -> None:
    assert_pillows(graph, hard(seed, height, width))


@pytest.mark.parametrize(
    ("height", "width"),
    [(64, 64), (65, 65), (63, 90), (90, 63), (64, 300), (300, 64), (131, 97), (131, 98), (901, 41)],
)
def test_sizes_at_which_the_order_of_the_axes_changes(
    graph: nn.Module, height: int, width: int
) -> None:
    assert_pillows(graph, hard(0, height, width))


def test_a_large_photograph_is_shrunk_as_pillow_does(graph: nn.Module) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1201, 1600, 3), dtype=np.uint8)
    assert_pillows(graph, image)


def test_older_pillows_always_begin_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    image = hard(2, 200, 40)
    as_given, turned = torch.from_numpy(image)[None], torch.from_numpy(image).transpose(0, 1)[None]
    monkeypatch.setattr(resize, "COLUMNS_FIRST", False)
    rows_first = Resize()(as_given)
    columns_first = Resize()(turned).mT  # of the image on its side, rows are columns
    assert not torch.equal(rows_first, columns_first)
    monkeypatch.setattr(resize, "COLUMNS_FIRST", True)
    assert torch.equal(Resize()(as_given), columns_first)


def test_the_kernel_is_a_windowed_sinc() -> None:
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)
    wanted = torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)
    torch.testing.assert_close(lanczos(x), wanted, rtol=0, atol=1e-12)
