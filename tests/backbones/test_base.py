"""The base classes provide what a user's own backbone needs, and the digests stay the same."""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from occ_lab.backbones import Backbone, FrozenBackbone, LearnedBackbone, LeNet, TimmBackbone
from occ_lab.backbones.encoder import Encoder
from occ_lab.backbones.learned import save_encoder
from occ_lab.utils.specs import Recorded, made_of, spec_of

# Recorded before the classes were renamed: checkpoints and feature caches rely on them.
RECORDED = {
    ("resnet10t", "levels"): "c733284ddecac23f4f8bb60f18326b880e2b643996cc266b7a5075283e2e3552",
    ("resnet10t", "pooled"): "76bedce95def51024d62b130459286fbc9b70b5f3e81751c5d30e2b0f92be3d8",
}
RECORDED_JOINED = "4f747c1e8a52e851692f095a0366aa4a92f33ce3b6f74aaf9feced11e382b575"
RECORDED_DEFAULT = "e12c914eb4ab8da82a09191369e1c419d6cffdd8010d32974c0239bc34388ea9"
RECORDED_LEARNED = "d864795978d37fe51fe2a5b0581bc6320eaf89a5ee20698f5dd4b290a30934bf"


class Convolution(FrozenBackbone):
    """A user's backbone."""

    def __init__(self, width: int = 4, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__("convolution")
        self.channels = [width]
        self.scale = scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.Dropout())
        self.offset = nn.Parameter(torch.zeros(width, 1, 1))

    def levels(self, image: Tensor) -> list[Tensor]:
        return [self.scale * self.net(image) + self.offset]


class Shifted(TimmBackbone):
    """A user's change of one of ours."""

    def __init__(self, model: str, weights: str = "random", shift: float = 1.0) -> None:
        super().__init__(model, weights)
        self.shift = nn.Parameter(torch.tensor(shift))

    def levels(self, image: Tensor) -> list[Tensor]:
        return [level + self.shift for level in super().levels(image)]


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_users_backbone_is_frozen_once_it_is_made(image: Tensor) -> None:
    backbone = Convolution()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.train().modules())
    assert not backbone.trained
    image.requires_grad_()
    (level,) = backbone(image)
    assert level.shape == (2, 4, 4, 4)
    level.sum().backward()  # explanations need the gradient of the image
    assert image.grad is not None


def test_identity_depends_on_weights_and_arguments() -> None:
    first = Convolution()
    assert first.identity == Convolution().identity == Convolution(4, seed=0).identity
    others = [Convolution(width=5), Convolution(seed=1), Convolution(scale=2.0)]
    loaded = Convolution()
    loaded.load_state_dict({**loaded.state_dict(), "offset": torch.ones(4, 1, 1)})
    digests = {each.identity for each in [first, *others, loaded]}
    assert len(digests) == 5
    assert all(len(each) == 64 for each in digests)


def test_identity_depends_on_precision_and_does_not_on_the_name_or_device() -> None:
    class Named(Convolution):
        def __init__(self, name: str, precision: str) -> None:
            super().__init__()
            self.name, self.precision = name, precision  # type: ignore[assignment]

    one, other = Named("a", "float32"), Named("b", "float32")
    assert one.identity == other.identity != Named("a", "bfloat16").identity
    assert copy.deepcopy(one).identity == one.identity


def module_with(path: Path, body: str) -> type[FrozenBackbone]:
    """The class ``Mine`` of a module of a user's that holds ``body``."""
    sys.modules.pop("users_backbone", None)
    path.write_text(
        "from occ_lab.backbones import FrozenBackbone\n\n\n"
        "class Mine(FrozenBackbone):\n"
        "    def __init__(self):\n"
        "        super().__init__('mine')\n"
        "        self.channels = [3]\n\n"
        f"    def levels(self, image):\n        {body}\n"
    )
    spec = __import__("importlib.util").util.spec_from_file_location("users_backbone", path)
    module = __import__("importlib.util").util.module_from_spec(spec)
    sys.modules["users_backbone"] = module
    spec.loader.exec_module(module)
    inspect.linecache.clearcache()  # type: ignore[attr-defined]
    found: type[FrozenBackbone] = module.Mine
    return found


def test_identity_depends_on_the_code_and_not_on_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "users_backbone.py"
    plain = module_with(path, "return [image]")().identity
    assert module_with(path, "# as it is\n        return [image]")().identity == plain
    assert module_with(path, "return [2 * image]")().identity != plain


def test_identity_of_a_change_of_ours_covers_both(image: Tensor) -> None:
    ours = TimmBackbone("resnet10t", "random")
    shifted = Shifted("resnet10t")
    digests = {ours.identity, shifted.identity, Shifted("resnet10t", shift=2.0).identity}
    assert len(digests) == 3
    assert shifted.identity == Shifted("resnet10t").identity
    torch.testing.assert_close(shifted(image)[0], ours(image)[0] + 1)


def test_arguments_that_cannot_be_recorded_are_refused_for_the_cache() -> None:
    class Wrapped(FrozenBackbone):
        def __init__(self, net: object) -> None:
            super().__init__("wrapped")
            self.channels = [3]
            self.net = net

        def levels(self, image: Tensor) -> list[Tensor]:
            return [image]

    pooled = Wrapped(nn.AvgPool2d(2))
    assert pooled.identity != Wrapped(nn.AvgPool2d(3)).identity
    with pytest.raises(TypeError, match="object does not remember the arguments"):
        _ = Wrapped(object()).identity


@pytest.mark.parametrize(("model", "output"), RECORDED)
def test_digests_of_timm_models_stay_the_same(model: str, output: str) -> None:
    made = TimmBackbone(model, "random", output)  # type: ignore[arg-type]
    assert made.identity == RECORDED[model, output]


def test_digests_of_further_backbones_stay_the_same(tmp_path: Path) -> None:
    lite = "tf_efficientnet_lite0"
    assert TimmBackbone(lite, "random", joined=[2, 2, 1]).identity == RECORDED_JOINED
    assert TimmBackbone(lite, "package").identity == RECORDED_DEFAULT
    torch.manual_seed(0)
    save_encoder(Encoder(head=[8, 4], side=16), 0, tmp_path / "encoder.safetensors")
    assert LearnedBackbone(tmp_path / "encoder.safetensors").identity == RECORDED_LEARNED


def test_a_backbone_is_made_again_of_its_specification(tmp_path: Path) -> None:
    save_encoder(Encoder(head=[8, 4], side=16), 8, tmp_path / "encoder.safetensors")
    frozen: list[FrozenBackbone] = [
        TimmBackbone("resnet10t", weights="random", strides=[4, 8], name="small"),
        LearnedBackbone(tmp_path / "encoder.safetensors", features="head"),
    ]
    for backbone in frozen:
        again = made_of(spec_of(backbone))
        assert type(again) is type(backbone)
        assert (again.identity, again.name) == (backbone.identity, backbone.name)
    net = made_of(spec_of(LeNet("cifar10", seed=3)))
    assert (net.shape.side, net.seed, net.trained) == (32, 3, True)
    mine = made_of(spec_of(Convolution(seed=2)), trust=["tests"])
    assert mine.identity == Convolution(seed=2).identity


def test_the_defaults_of_the_contract() -> None:
    class Plain(Backbone):
        def __init__(self) -> None:
            super().__init__("plain")
            self.channels = [3]

        def forward(self, image: Tensor) -> list[Tensor]:
            return [image]

    plain = Plain()
    assert isinstance(plain, Recorded)
    assert plain.trained
    assert plain.for_task("bolt") is plain
    plain.check_size(1, 1)
    plain.check_tasks(["bolt"])
    plain.prepare([])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^precision must be one of float32, bfloat16, float16"):
        TimmBackbone("resnet10t", "random", precision="int8")  # type: ignore[arg-type]
