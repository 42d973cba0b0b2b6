"""The LeNets of Deep SVDD and their decoders."""

from __future__ import annotations

import pytest
import torch

from occ_lab.backbones.lenet import SHAPES, Decoder, LeNet
from occ_lab.utils.errors import InputError

VARIANTS = ["mnist", "cifar10"]


def images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_are_those_of_the_authors(variant: str) -> None:
    net = LeNet(variant)  # type: ignore[arg-type]
    shape = SHAPES[variant]
    (z,) = net(images(4, shape.side))
    assert z.shape == (4, shape.dim, 1, 1)
    decoded = Decoder(shape)(z.flatten(1))
    assert decoded.shape == (4, shape.colours, shape.side, shape.side)
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_the_decoder_of_cifar10_alone_normalises_the_embedding() -> None:
    code, scaled = torch.randn(8, 128), torch.randn(8, 128)
    scaled = 5 * code + 1
    cifar10 = Decoder(SHAPES["cifar10"])
    torch.testing.assert_close(cifar10(code), cifar10(scaled), rtol=1e-3, atol=1e-4)
    assert isinstance(Decoder(SHAPES["mnist"]).code_norm, torch.nn.Identity)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_bias_anywhere(variant: str) -> None:
    net = LeNet(variant)  # type: ignore[arg-type]
    names = [name for name, _ in net.named_parameters()]
    assert all(name.endswith("weight") for name in names)
    assert not any("norms" in name for name in names)  # batch-norm without an affine part


def test_parameters_are_as_many_as_the_authors_have() -> None:
    mnist, cifar = LeNet("mnist"), LeNet("cifar10")
    count = {net: sum(p.numel() for p in net.parameters()) for net in (mnist, cifar)}
    assert count[mnist] == 25 * (1 * 8 + 8 * 4) + 4 * 7 * 7 * 32
    assert count[cifar] == 25 * (3 * 32 + 32 * 64 + 64 * 128) + 128 * 4 * 4 * 128


def test_contrast_is_normalised_and_brought_to_the_training_range() -> None:
    net, x = LeNet(), images(6, 28)
    net.prepare(x.split(4))
    seen = net.normalized(x)
    assert float(seen.min()) == pytest.approx(0, abs=1e-6)
    assert float(seen.max()) == pytest.approx(1, abs=1e-6)
    contrast = seen * (net.high - net.low) + net.low
    torch.testing.assert_close(contrast.mean(dim=(1, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(contrast.abs().mean(dim=(1, 2, 3)), torch.ones(6))
    brighter = net.normalized(0.5 * x + 0.2)  # the same picture at another exposure
    torch.testing.assert_close(brighter, seen, atol=1e-5, rtol=0)
    assert net.normalized(torch.ones(1, 3, 28, 28)).isfinite().all()


def test_first_filters_are_atoms_of_training_patches() -> None:
    bars = torch.zeros(40, 3, 28, 28)
    for index in range(40):  # one bright column each: patches of but five kinds, and dark ones
        bars[index, :, :, index % 28] = 1
    net, again = LeNet(seed=3), LeNet(seed=3)
    drawn = net.convs[0].weight.clone()
    for each in (net, again):
        each.prepare(bars.split(7))
    filters = net.convs[0].weight
    assert filters.shape == drawn.shape
    assert not torch.equal(filters, drawn)
    assert torch.equal(filters, again.convs[0].weight)
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(8))
    used = filters[filters.std(dim=2).amax(dim=(1, 2)) < 0.01]  # the same in every row
    assert len(used) >= 4


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = LeNet(seed=1), LeNet(seed=1), LeNet(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_another_size_or_variant_is_refused() -> None:
    with pytest.raises(InputError, match=r"takes images of 28x28 px, not 32x32"):
        LeNet()(images(1, 32))
    with pytest.raises(ValueError, match=r"^variant must be one of mnist, cifar10"):
        LeNet("svhn")  # type: ignore[arg-type]
