from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from occ_lab.backbones.presets import preset, preset_files
from occ_lab.backbones.timm import TimmBackbone
from occ_lab.backbones.weights import load_weights
from occ_lab.utils.errors import InputError
from tests.backbones.tiny import LARGE

PRESETS = {
    name: path
    for name, path in preset_files().items()
    if name not in ("lenet", "file", *LARGE)  # classes of their own, and large ones
}
TRANSFORMERS = {"dinov2_small": 14, "dinov3_small": 16}  # and the side of their patches, in pixels
# 1792 and 448 channels in all: Lee et al. 2022 (CFA); 2048 pooled: Gao et al. 2023
# and its code: 1280 (features.25, 38 and 51 of VGG-19 with batch-norm), 568
PAPERS_LEVELS = {
    "wide_resnet50_2": [256, 512, 1024],
    "resnet18": [64, 128, 256],
    "vgg19": [256, 512, 512],
    "vgg19_bn": [256, 512, 512],
    "efficientnet_b5": [200, 192, 176],
}
PAPERS_POOLED = {"resnet152": [2048]}


def configured(name: str, **changes: Any) -> DictConfig:
    """A preset's config with random weights, for a caller that says the output."""
    return OmegaConf.merge(preset(PRESETS[name]), {"weights": "random", **changes})


def side_of(name: str) -> int:
    """Pixels a side of a small image that the preset's network takes."""
    return 4 * TRANSFORMERS.get(name, 16)


def plain_levels(net: torch.nn.Module, layers: list[str], image: torch.Tensor) -> list[Any]:
    """What the named layers of a complete timm model put out, caught by hooks."""
    caught: dict[str, torch.Tensor] = {}

    def catch(name: str) -> Any:
        return lambda _module, _inputs, output: caught.__setitem__(name, output.clone())

    hooks = [net.get_submodule(name).register_forward_hook(catch(name)) for name in layers]
    mean, std = (torch.tensor(net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        net.eval()((image - mean) / std)
    for hook in hooks:
        hook.remove()
    return [caught[name] for name in layers]


def assert_same_levels(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert len(found) == len(wanted)
    for level, reference in zip(found, wanted, strict=True):
        scale = reference.abs().max().item()
        torch.testing.assert_close(level, reference, rtol=1e-4, atol=1e-4 * scale)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A ResNet-18 whose batch-norms have seen data, as trained ones have, and its file."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(net.state_dict(), path)
    return net, path


def test_every_preset_is_there_and_names_itself() -> None:
    assert {
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "wide_resnet50_2",
        "resnet18",
        "resnet152",
        "vgg19",
        "vgg19_bn",
        "efficientnet_b5",
        *TRANSFORMERS,
    } <= set(PRESETS)
    for name, path in PRESETS.items():
        assert preset(path)["name"] == name


@pytest.mark.parametrize("name", PRESETS)
def test_preset_levels_are_those_of_the_plain_model(name: str) -> None:
    config = configured(name, output="levels", pool=1)
    backbone = instantiate(config)
    side = side_of(name)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    levels = backbone(image)

    assert [level.shape[1] for level in levels] == backbone.channels
    assert backbone.channels == PAPERS_LEVELS.get(name, backbone.channels)
    if name in TRANSFORMERS:
        assert [level.shape[2:] for level in levels] == [(4, 4)] * 4
    else:
        assert [side // level.shape[-1] for level in levels] == list(config.strides)

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        size = {"dynamic_img_size": True} if name in TRANSFORMERS else {}
        plain = timm.create_model(config.model, num_classes=0, **size)
    if name in TRANSFORMERS:
        tokens = plain_levels(plain, [f"blocks.{block}" for block in (2, 5, 8, 11)], image)
        patches = [token[:, plain.num_prefix_tokens :] for token in tokens]
        wanted = [patch.transpose(1, 2).unflatten(2, (4, 4)) for patch in patches]
    else:
        layers = {layer["reduction"]: layer["module"] for layer in plain.feature_info}
        stages = [layers[stride] for stride in config.strides]
        if "joined" in config:
            wanted = []
            for stage, count in zip(stages, config.joined, strict=True):
                last = len(plain.get_submodule(stage))
                names = [f"{stage}.{block}" for block in range(last - count, last)]
                level = torch.cat(plain_levels(plain, names, image), dim=1)
                wanted.append(level / level.shape[1])
        else:
            wanted = plain_levels(plain, stages, image)
    assert_same_levels(levels, wanted)


@pytest.mark.parametrize(("name", "final_norm"), [("dinov2_small", False), ("dinov3_small", True)])
def test_blocks_of_a_transformer_are_averaged(name: str, final_norm: bool) -> None:
    blocks = [3, 1, 4]
    config = configured(name, blocks=blocks, combine="mean", final_norm=final_norm)
    config.output = "levels"
    backbone = instantiate(config)
    side = side_of(name)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    (level,) = backbone(image)
    assert backbone.channels == [384]

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        plain = timm.create_model(config.model, num_classes=0, dynamic_img_size=True)
    tokens = plain_levels(plain, [f"blocks.{block}" for block in blocks], image)
    with torch.inference_mode():
        tokens = [plain.norm(token) if final_norm else token for token in tokens]
    mean = sum(token.double() for token in tokens) / len(tokens)
    wanted = mean[:, plain.num_prefix_tokens :].transpose(1, 2).unflatten(2, (4, 4))
    assert_same_levels([level], [wanted.float()])


def test_last_block_with_its_norm_is_that_of_the_official_code() -> None:
    """``get_intermediate_layers(n=1)`` with a norm: what AnomalyDINO takes of DINOv2."""
    backbone = TimmBackbone("test_vit", "random", blocks=[5], final_norm=True, pool=1)
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    with torch.inference_mode():
        normed = (image - backbone.mean) / backbone.std
        wanted = plain.get_intermediate_layers(normed, n=1, norm=True, reshape=True)
    assert_same_levels(backbone(image), list(wanted))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_pools_to_one_embedding(name: str) -> None:
    backbone = instantiate(configured(name, output="pooled"))
    side = side_of(name)
    (level,) = backbone(torch.rand(2, 3, side, side))
    assert level.shape == (2, *backbone.channels, 1, 1)
    assert backbone.channels == PAPERS_POOLED.get(name, backbone.channels)


def test_folded_batch_norm_changes_nothing(
    resnet: tuple[torch.nn.Module, Path], image: torch.Tensor
) -> None:
    net, path = resnet
    backbone = TimmBackbone("resnet18", str(path), "levels", pool=1)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
    assert_same_levels(backbone(image), plain_levels(net, ["layer1", "layer2", "layer3"], image))


def test_pooled_is_what_the_classifier_gets(
    resnet: tuple[torch.nn.Module, Path], image: torch.Tensor
) -> None:
    net, path = resnet
    (pooled,) = TimmBackbone("resnet18", str(path), "pooled")(image)
    (wanted,) = plain_levels(net, ["global_pool"], image)
    assert_same_levels([pooled], [wanted[:, :, None, None]])


def test_layers_behind_the_last_level_are_dropped() -> None:
    def parameters(*strides: int) -> int:
        backbone = TimmBackbone("resnet18", "random", "levels", strides=strides)
        return sum(parameter.numel() for parameter in backbone.parameters())

    plain = timm.create_model("resnet18", num_classes=0)
    layers = (plain.layer3, plain.layer4)
    layer3, layer4 = (sum(p.numel() for p in layer.parameters()) for layer in layers)
    assert parameters(4, 8, 16, 32) - parameters(4, 8, 16) > 0.99 * layer4
    assert parameters(4, 8, 16) - parameters(4, 8) > 0.99 * layer3


@pytest.mark.parametrize("pool", [3, 5])
def test_pool_averages_each_neighbourhood(
    resnet: tuple[torch.nn.Module, Path], image: torch.Tensor, pool: int
) -> None:
    path = str(resnet[1])
    plain = TimmBackbone("resnet18", path, "levels", strides=[8], pool=1)(image)[0]
    pooled = TimmBackbone("resnet18", path, "levels", strides=[8], pool=pool)(image)[0]
    padded = F.pad(plain, [pool // 2] * 4)
    windows = padded.unfold(2, pool, 1).unfold(3, pool, 1)  # [B, C, H, W, pool, pool]
    assert_same_levels([pooled], [windows.mean((-1, -2))])


def test_levels_come_finest_first_whatever_the_order(image: torch.Tensor) -> None:
    backbone = TimmBackbone("resnet18", "random", "levels", strides=[16, 4])
    assert [level.shape[-1] for level in backbone(image)] == [16, 4]
    assert backbone.channels == [64, 256]


def test_it_is_frozen_and_stays_in_eval_mode(image: torch.Tensor) -> None:
    backbone = TimmBackbone("resnet18", "random", "pooled").train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(image)[0].requires_grad


def test_default_backbone_in_float32_is_close_to_float64(image: torch.Tensor) -> None:
    backbone = instantiate(configured("efficientnet_lite0", weights="package", output="levels"))
    image = image[..., :64, :64]
    single = backbone(image)
    double = backbone.double()(image.double())
    assert_same_levels([level.double() for level in single], double)


def test_default_backbone_is_the_plain_pretrained_model(image: torch.Tensor) -> None:
    plain = timm.create_model("tf_efficientnet_lite0")
    load_weights(plain, "package")
    backbone = instantiate(
        configured("efficientnet_lite0", weights="package", output="levels", pool=1)
    )
    wanted = plain_levels(plain, ["blocks.1", "blocks.2", "blocks.4"], image)
    assert_same_levels(backbone(image), wanted)


@pytest.mark.parametrize("shape", [(28, 28), (42, 70)])
def test_transformer_takes_any_image_that_its_patches_tile(shape: tuple[int, int]) -> None:
    backbone = instantiate(configured("dinov2_small", output="levels", blocks=[0, 1]))
    for level in backbone(torch.rand(1, 3, *shape)):
        assert level.shape == (1, 384, shape[0] // 14, shape[1] // 14)


def test_image_that_the_patches_do_not_tile_is_refused() -> None:
    backbone = instantiate(configured("dinov2_small", output="pooled"))
    with pytest.raises(InputError, match=r"256x256 px .* multiples of 14, such as 252, 266"):
        backbone(torch.rand(1, 3, 256, 256))


def test_random_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = TimmBackbone("resnet18", "random", "levels", strides=[4], seed=3)
    assert torch.equal(torch.get_rng_state(), before), "the global generator has moved"
    torch.rand(5)
    again = TimmBackbone("resnet18", "random", "levels", strides=[4], seed=3)
    other = TimmBackbone("resnet18", "random", "levels", strides=[4], seed=4)
    assert first.identity == again.identity != other.identity
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_identity_tells_apart_all_that_changes_the_features(
    resnet: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    net, path = resnet

    def identity(weights: Path = path, output: Any = "levels", **changes: Any) -> str:
        return TimmBackbone("resnet18", str(weights), output, **changes).identity

    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state["layer1.0.conv1.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    distinct = [
        identity(),
        identity(tmp_path / "other.safetensors"),
        identity(pool=1),
        identity(strides=[4, 8]),
        identity(strides=[4, 16]),
        identity(output="pooled"),
    ]
    assert len(set(distinct)) == len(distinct)
    assert identity() == distinct[0]
    assert identity(output="pooled", pool=1) == distinct[-1], "pooled has nothing to average"


def test_identity_knows_the_blocks() -> None:
    def identity(*blocks: int) -> str:
        return instantiate(
            configured("dinov3_small", output="levels", blocks=list(blocks))
        ).identity

    assert identity(0, 1) != identity(1)
    assert identity(0, 1) == identity(1, 0)


def test_identity_knows_what_becomes_of_the_blocks() -> None:
    def identity(**changes: Any) -> str:
        return TimmBackbone("test_vit", "random", **changes).identity

    given: list[dict[str, Any]] = [{}, {"combine": "mean"}, {"final_norm": True}]
    assert len({identity(**each) for each in given}) == 3
    assert len({identity(output="pooled", **each) for each in given}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "maps"}, "output must be levels or pooled, got 'maps'"),
        ({"pool": 2}, "pool must be odd and at least 1, got 2"),
        ({"pool": 0}, "pool must be odd and at least 1, got 0"),
        ({"strides": [4, 5]}, r"strides must be some of \[2, 4, 8, 16, 32\].* got \[4, 5\]"),
        ({"strides": []}, "strides must be some of"),
        ({"blocks": [1]}, "blocks must be None"),
        ({"combine": "sum"}, "combine must be levels or mean, got 'sum'"),
        ({"combine": "mean"}, "combine must be left out: this is not a vision transformer"),
        ({"final_norm": True}, "final_norm must be left out: this is not a vision transformer"),
        ({"model": "resnet81"}, "model must be .* got 'resnet81' .*resnet18"),
        ({"model": "resnet18.tv_in22k"}, "model must end in .* got .*resnet18.tv_in1k"),
        ({"model": "vit_tiny_patch16_224", "blocks": [12]}, r"blocks must be some of 0\.\.11"),
        ({"model": "vit_tiny_patch16_224", "blocks": []}, r"blocks must be some of 0\.\.11"),
    ],
)
def test_argument_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"name": "a", "model": "resnet18", "weights": "random", "output": "levels"}
    with pytest.raises(ValueError, match=f"^{message}"):
        TimmBackbone(**{**arguments, **changes})


def test_autocast_is_near_and_told_apart(image: torch.Tensor) -> None:
    image = image[..., :64, :64]
    single, half = (
        instantiate(
            configured("efficientnet_lite0", weights="package", output="levels", precision=p)
        )
        for p in ("float32", "bfloat16")
    )
    assert half.identity != single.identity
    for ours, level in zip(half(image), single(image), strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, level)
        assert (ours - level).norm() < 0.03 * level.norm()
    with pytest.raises(ValueError, match=r"^precision must be one of"):
        TimmBackbone("resnet18", "random", "levels", precision="int8")
