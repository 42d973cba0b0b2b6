"""Random augmentations, patches and instances of images."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occ_lab.pretraining.augmentations import (
    Augment,
    check_flip,
    crops,
    instances,
    instances_of,
    turned,
)
from occ_lab.utils.errors import InputError

OFF: dict[str, Any] = {"scale": 1.0, "flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": 0.0}


def test_the_extra_that_brings_kornia_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    with pytest.raises(InputError, match=r"kornia is not installed; pip install 'occ-lab\[two-st"):
        Augment(side=32)


def images(count: int, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def total_variation(image: Tensor) -> Tensor:
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def test_crops_of_less_than_two_pixels_are_refused() -> None:
    Augment(8, scale=0.25)(images(3, 8, 8))
    with pytest.raises(InputError, match=r"^scale: 0.1 of images of 9x8 px is less than 2 px"):
        Augment(8, scale=0.1)(images(3, 9, 8))


@settings(deadline=None, max_examples=15)
@given(
    size=st.tuples(st.integers(8, 24), st.integers(8, 24)),
    side=st.integers(8, 24),
    scale=st.floats(0.25, 1),  # two pixels of the smallest image
    jitter=st.sampled_from([0.0, 0.4, 0.5]),
    dark=st.booleans(),
)
def test_shape_and_range(
    size: tuple[int, int], side: int, scale: float, jitter: float, dark: bool
) -> None:
    image = images(3, *size) * (not dark)
    made = Augment(side, scale=scale, jitter=jitter)(image)
    assert made.shape == (3, 3, side, side)
    assert made.dtype == torch.float32
    assert made.isfinite().all()
    assert made.min() >= -1e-5
    assert made.max() <= 1 + 1e-5


@pytest.mark.parametrize("on", ["scale", "flip", "jitter", "gray", "blur"])
def test_each_image_draws_its_own(on: str) -> None:
    same = images(1).expand(24, -1, -1, -1).contiguous()
    drawn = {"scale": 0.3, "flip": 0.5, "jitter": 0.4, "gray": 0.5, "blur": 0.5}
    torch.manual_seed(0)
    made = Augment(16, **{**OFF, on: drawn[on]})(same)
    different = len(torch.unique((made * 1e4).round().flatten(1), dim=0))
    if on in ("flip", "gray"):
        assert different == 2  # yes or no
    elif on == "scale":
        assert different > 16  # squares of whole pixels: some are drawn twice
    elif on == "blur":
        assert 4 < different < 24  # half of them, each by a width of its own
    else:
        assert different == 24


def test_brightness_can_be_added() -> None:
    grey = torch.full((64, 3, 16, 16), 0.5)
    torch.manual_seed(0)
    made = Augment(16, **{**OFF, "jitter": 0.4}, brightness="added")(grey)
    assert made.flatten(1).std(dim=1).max() < 1e-5, "contrast and hue leave a grey image as it is"
    added = made[:, 0, 0, 0] - 0.5
    assert -0.4 <= added.min() < -0.3
    assert 0.3 < added.max() <= 0.4
    factor = Augment(16, **{**OFF, "jitter": 0.4})(grey)[:, 0, 0, 0]
    assert factor.min() >= 0.3 - 1e-5, "a factor within 0.6 and 1.4"
    with pytest.raises(ValueError, match="^brightness must be factor or added, got 'more'"):
        Augment(16, brightness="more")  # type: ignore[arg-type]


def test_draws_follow_torchs_seed() -> None:
    augment, image = Augment(16), images(4)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(augment(image))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(augment(image), augment(image))


def test_all_off_changes_nothing() -> None:
    image = images(5)
    torch.testing.assert_close(Augment(16, **OFF)(image), image, rtol=0, atol=2e-6)


def test_flip_is_left_for_right() -> None:
    image = images(5)
    made = Augment(16, **{**OFF, "flip": 1.0})(image)
    torch.testing.assert_close(made, image.flip(-1), rtol=0, atol=2e-6)


def test_gray_has_no_colour() -> None:
    image = images(5)
    made = Augment(16, **{**OFF, "gray": 1.0})(image)
    torch.testing.assert_close(made, made[:, :1].expand_as(made), rtol=0, atol=1e-6)
    luma = 0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]
    torch.testing.assert_close(made[:, 0], luma, rtol=0, atol=2e-3)


def test_blur_smooths_and_keeps_the_mean() -> None:
    image = images(8, 32, 32)
    torch.manual_seed(0)
    made = Augment(32, **{**OFF, "blur": 1.0})(image)
    assert total_variation(made) < 0.7 * total_variation(image)
    torch.testing.assert_close(made.mean((2, 3)), image.mean((2, 3)), rtol=0, atol=0.01)


def test_jitter_changes_colours_alike_everywhere() -> None:
    image = torch.tensor([0.3, 0.5, 0.4])[None, :, None, None].expand(6, 3, 16, 16)
    torch.manual_seed(0)
    made = Augment(16, **{**OFF, "jitter": 0.4})(image)
    assert float(made.std((2, 3)).max()) < 1e-5
    assert float((made.mean((2, 3)) - image.mean((2, 3))).abs().amax(1).min()) > 1e-3


@pytest.mark.parametrize("scale", [0.25, 0.6, 1.0])
def test_a_crop_is_a_square_of_its_share(scale: float) -> None:
    ramp = torch.linspace(0, 1, 33)
    plane = torch.stack([ramp.expand(33, 33), ramp[:, None].expand(33, 33), torch.zeros(33, 33)])
    torch.manual_seed(0)
    made = Augment(33, **{**OFF, "scale": scale})(plane.expand(64, 3, 33, 33))
    wide = made[:, 0, 16, -1] - made[:, 0, 16, 0]  # the fraction of the ramp that is visible
    high = made[:, 1, -1, 16] - made[:, 1, 0, 16]
    torch.testing.assert_close(wide, high, rtol=0, atol=0.07)  # sides are whole pixels
    assert float(wide.min()) > scale - 0.07
    assert float(wide.max()) < 1 + 1e-4
    if scale < 1:
        assert float(wide.min()) < scale + 0.2
        assert float(wide.max()) > 0.9
        assert float(made[:, 0, 16, 0].std()) > 0.05, "crops lie anywhere"


def test_it_has_no_gradient_and_stays_in_full_precision() -> None:
    augment, image = Augment(16), images(3).requires_grad_()
    drawn = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn.append(augment(image))
    assert not drawn[0].requires_grad
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("side", 7, "side must be an integer and >= 8"),
        ("scale", 0, "scale must be a number and > 0 and <= 1"),
        ("scale", 1.1, "scale must be"),
        ("flip", 1.5, "flip must be a number and >= 0 and <= 1"),
        ("gray", -0.1, "gray must be"),
        ("blur", 2, "blur must be"),
        ("jitter", 0.6, "jitter must be a number and >= 0 and <= 0.5"),
    ],
)
def test_a_bad_argument_is_named(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Augment(**{"side": 16, name: value})


# Patches


def places(count: int, height: int, width: int) -> Tensor:
    """Images whose pixels say which image, row and column they are."""
    image = torch.empty(count, 3, height, width)
    image[:, 0] = torch.arange(count)[:, None, None]
    image[:, 1] = torch.arange(height)[:, None]
    image[:, 2] = torch.arange(width)
    return image


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 3),
    side=st.integers(1, 5),
    spare=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    count=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_patches_are_windows_of_their_image(
    images: int, side: int, spare: tuple[int, int], count: int, seed: int
) -> None:
    image = places(images, side + spare[0], side + spare[1])
    torch.manual_seed(seed)
    found = crops(image, side, count)
    assert found.shape == (images * count, 3, side, side)
    for number, patch in enumerate(found):
        owner = number // count
        top, left = int(patch[1, 0, 0]), int(patch[2, 0, 0])
        window = image[owner, :, top : top + side, left : left + side]
        assert torch.equal(patch, window)


def test_patches_lie_anywhere() -> None:
    torch.manual_seed(0)
    found = crops(places(2, 5, 6), 3, 300)
    corners = {tuple(corner) for corner in found[:, :, 0, 0].int().tolist()}
    assert corners == {(n, y, x) for n in range(2) for y in range(3) for x in range(4)}


# Instances


def by_numpy(image: Tensor, family: str, which: int) -> Tensor:
    pixels = image.numpy()
    if family == "hflip":
        made = pixels[..., ::-1] if which else pixels
    elif family == "vflip":
        made = pixels[..., ::-1, :] if which else pixels
    elif family == "geometric":
        made = np.rot90(pixels, which // 2, axes=(-2, -1))
        made = made[..., ::-1] if which % 2 else made
    else:
        made = np.rot90(pixels, which, axes=(-2, -1))
    return torch.from_numpy(made.copy())


@pytest.mark.parametrize("family", ["none", "rotations", "hflip", "vflip", "geometric"])
def test_instances_are_numpys_turns_and_flips(family: Any) -> None:
    count = instances_of(family, None)
    image = images(3 * count, 8, 8)
    which = torch.arange(count).repeat(3)[torch.randperm(3 * count)]
    made = instances(image, family, which)
    for before, after, place in zip(image, made, which.tolist(), strict=True):
        assert torch.equal(after, by_numpy(before, family, place))
    assert torch.equal(instances(image, family, torch.zeros_like(which)), image)


@pytest.mark.parametrize(("family", "count"), [("rotations", 4), ("hflip", 2), ("geometric", 8)])
def test_instances_are_all_different(family: Any, count: int) -> None:
    image = images(1, 8, 8).expand(count, -1, -1, -1)
    made = instances(image, family, torch.arange(count))
    assert len(torch.unique(made.flatten(1), dim=0)) == count == instances_of(family, None)


def test_turned_is_a_quarter_to_the_left() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[..., 0, 3] = 1  # at the upper right
    corners = [tuple(turned(image, turns)[0, 0].nonzero()[0].tolist()) for turns in range(4)]
    assert corners == [(0, 3), (0, 0), (3, 0), (3, 3)]


def test_how_many_instances() -> None:
    assert [instances_of(f, None) for f in ("none", "rotations", "vflip")] == [1, 4, 2]  # type: ignore[arg-type]
    assert instances_of("geometric", 5) == 5
    with pytest.raises(ValueError, match="^family must be one of none, rotations, .* got 'turns'"):
        instances_of("turns", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^count must be None for every family but geometric"):
        instances_of("rotations", 2)
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"^count must be an integer .* got {count}"):
            instances_of("geometric", count)


def test_a_random_flip_must_not_be_an_instance_as_well() -> None:
    for family in ("hflip", "geometric"):
        with pytest.raises(ValueError, match=rf"^augment\.flip must be 0 with family={family}"):
            check_flip(family, 0.5)  # type: ignore[arg-type]
        check_flip(family, 0.0)  # type: ignore[arg-type]
    for family in ("none", "rotations", "vflip"):
        check_flip(family, 0.5)  # type: ignore[arg-type]
