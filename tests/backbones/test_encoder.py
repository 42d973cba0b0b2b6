"""The network that stage 1 trains: its stem, its head, its outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from occ_lab.backbones.encoder import Encoder
from tests.backbones.tiny import TINY


def images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def stage_sizes(encoder: Encoder, side: int) -> list[int]:
    """The number of positions along a side of the levels that timm reports."""
    levels = encoder.eval().net.forward_intermediates(images(1, side), intermediates_only=True)
    return [level.shape[-1] for level in levels]


@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_of_features_head_and_answers(classes: int) -> None:
    encoder = Encoder(side=8, head=[12, 5], classes=classes)
    image = images(2, 8)
    assert encoder.width == 512
    assert encoder.pooled(image).shape == (2, 512)
    assert encoder(image).shape == (2, 5)
    if classes:
        assert encoder.classify(image).shape == (2, 3)
    else:
        assert encoder.classifier is None


def test_the_small_stem_keeps_the_resolution() -> None:
    encoder = Encoder(side=64, head=[4])
    conv = encoder.net.conv1
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert conv.bias is None
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())
    assert [level["reduction"] for level in encoder.net.feature_info] == [1, 1, 2, 4, 8]
    assert stage_sizes(encoder, 16) == [16, 16, 8, 4, 2]
    # drawn like timm's other layers: a standard deviation of √(2 / (9 · 64)), to four errors
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.07)


def test_larger_images_have_the_usual_stem() -> None:
    encoder = Encoder(side=65, head=[4])
    conv = encoder.net.conv1
    assert (conv.kernel_size, conv.stride) == ((7, 7), (2, 2))
    assert isinstance(encoder.net.maxpool, nn.MaxPool2d)
    assert [level["reduction"] for level in encoder.net.feature_info] == [2, 4, 8, 16, 32]
    assert stage_sizes(encoder, 96) == [48, 24, 12, 6, 3]


def test_the_published_head_is_eight_layers_and_an_embedding() -> None:
    encoder = Encoder(side=8)
    widths = [(layer[0].in_features, layer[0].out_features) for layer in encoder.hidden]
    assert widths == [(512, 512)] * 8
    assert all(layer[0].bias is None for layer in encoder.hidden)
    assert [layer[1].num_features for layer in encoder.hidden] == [512] * 8
    assert (encoder.embedding.in_features, encoder.embedding.out_features) == (512, 128)


def test_the_last_layer_has_a_bias_only_before_a_classifier() -> None:
    assert Encoder(TINY, 8, head=[4]).embedding.bias is None
    classifying = Encoder(TINY, 8, head=[4], classes=2)
    assert classifying.embedding.bias is not None
    assert classifying.classifier is not None
    assert classifying.classifier.bias is not None


def test_the_head_is_linear_layers_batch_norm_and_relu() -> None:
    encoder = Encoder(TINY, 8, head=[7, 6, 5], classes=3).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    pooled = torch.randn(4, encoder.width, generator=torch.Generator().manual_seed(1))
    x = pooled.double()
    for linear, norm in encoder.hidden:
        x = x @ linear.weight.double().T
        spread = (norm.running_var.double() + norm.eps).sqrt()
        x = (x - norm.running_mean.double()) / spread * norm.weight.double() + norm.bias.double()
        x = x.clamp(min=0)
    x = x @ encoder.embedding.weight.double().T + encoder.embedding.bias.double()
    assert (x < 0).any(), "nothing cuts off what the head puts out"
    torch.testing.assert_close(encoder.head(pooled).double(), x, rtol=1e-4, atol=1e-5)

    image = images(2, 8)
    assert encoder.classifier is not None
    torch.testing.assert_close(encoder(image), encoder.head(encoder.pooled(image)))
    torch.testing.assert_close(encoder.classify(image), encoder.classifier(encoder(image)))


def test_weights_follow_the_global_seed() -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return Encoder(TINY, 8, head=[4]).state_dict()

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("net.conv1.weight", "net.layer4.0.conv2.weight", "embedding.weight"):
        assert not torch.equal(first[name], other[name])


def test_weights_of_the_paper_are_drawn_by_the_rules_of_keras() -> None:
    torch.manual_seed(0)
    encoder = Encoder(side=8, head=[64, 16], classes=4, init="keras")
    conv = encoder.net.layer4[0].conv2.weight.detach()
    deviation = (2 / (9 * 512)) ** 0.5
    assert float(conv.std()) == pytest.approx(deviation, rel=0.01)
    assert float(conv.abs().max()) <= 2 * deviation / 0.8796 + 1e-6  # cut off at two deviations
    linear = encoder.hidden[0][0].weight.detach()
    bound = (6 / (512 + 64)) ** 0.5
    assert float(linear.abs().max()) == pytest.approx(bound, rel=0.01)
    assert encoder.embedding.bias is not None
    assert not encoder.embedding.bias.any()
    norms = [each for each in encoder.modules() if isinstance(each, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    assert "init" not in encoder.facts  # the weights say it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "zeros"}, "init must be timm or keras, got 'zeros'"),
        ({"side": 7}, "side must be an integer and >= 8 and <= 10000, got 7"),
        ({"side": 8.0}, "side must be an integer"),
        ({"head": []}, "head must name the widths of 1 to 64 layers, got 0"),
        ({"head": [8, 0]}, "head must be an integer and >= 1 and <= 65536, got 0"),
        ({"head": [8, 1.5]}, "head must be an integer"),
        ({"classes": -1}, "classes must be an integer and >= 0 and <= 65536, got -1"),
        ({"model": "vgg19"}, "model must be the name of a ResNet in timm .* got 'vgg19'"),
        ({"model": "resnet81"}, "model must be .* got 'resnet81'"),
        ({"model": "resnet18d"}, "model must be .* got 'resnet18d'"),  # three convolutions as stem
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Encoder(**{"side": 8, "head": [4], **arguments})
