"""A learned encoder as a backbone: its file, its features, its grid of patches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from occ_lab.backbones import learned
from occ_lab.backbones.encoder import Encoder
from occ_lab.backbones.learned import LearnedBackbone, load_encoder, save_encoder
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.features.cache import FeatureCache
from occ_lab.features.extraction import cached_features
from occ_lab.utils.errors import InputError
from tests.backbones.tiny import TINY, WIDTH
from tests.data.trees import class_tree

SIDE = 8


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """An encoder whose batch-norms have seen data, like trained ones; it can predict rotations."""
    torch.manual_seed(0)
    made = Encoder(TINY, SIDE, head=[10, 6], classes=4)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def whole(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an encoder that was trained on whole images."""
    path = tmp_path_factory.mktemp("learned") / "ring.safetensors"
    save_encoder(encoder, 0, path)
    return path


@pytest.fixture(scope="module")
def patchy(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an encoder that was trained on patches."""
    path = tmp_path_factory.mktemp("patchy") / "bolt.safetensors"
    save_encoder(encoder, 4, path)
    return path


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """Equal up to the rounding of folded batch-norms."""
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def answers(encoder: Encoder, image: Tensor) -> Tensor:
    """log p(k | image turned k times) ``[B, 4]``, each image turned by NumPy."""
    found = []
    for turns in range(4):
        turned = np.rot90(image.numpy(), turns, axes=(2, 3)).copy()
        logits = encoder.classify(torch.from_numpy(turned)).double()
        found.append(logits[:, turns] - logits.exp().sum(dim=1).log())
    return torch.stack(found, dim=1).float()


def features_of(encoder: Encoder, image: Tensor, features: str) -> Tensor:
    if features == "turns":
        return answers(encoder, image)
    return encoder(image) if features == "head" else encoder.pooled(image)


@pytest.mark.parametrize(("features", "channels"), [("pooled", WIDTH), ("head", 6), ("turns", 4)])
def test_embeddings_are_those_of_the_encoder(
    encoder: Encoder, whole: Path, features: Any, channels: int
) -> None:
    backbone = LearnedBackbone(whole, "pooled", features)
    image = images(3, SIDE, SIDE)
    (found,) = backbone(image)
    assert backbone.channels == [channels]
    assert found.shape == (3, channels, 1, 1)
    assert_same(found.flatten(1), features_of(encoder, image, features))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


def test_it_is_frozen_and_leaves_the_global_generator_alone(whole: Path) -> None:
    before = torch.get_rng_state()
    backbone = LearnedBackbone(whole, "pooled").train()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_file_says_what_it_holds(encoder: Encoder, patchy: Path) -> None:
    loaded, facts = load_encoder(patchy)
    assert facts == {
        "model": TINY,
        "side": SIDE,
        "head": [10, 6],
        "classes": 4,
        "patches": 4,
    }
    for name, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_file_is_whole_or_not_there(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    target = tmp_path / "backbones" / "bolt.safetensors"
    monkeypatch.setattr(learned, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_encoder(encoder, 0, target)
    assert list(target.parent.iterdir()) == []
    target.write_bytes(b"earlier")
    with pytest.raises(OSError, match="no space left"):
        save_encoder(encoder, 0, target)
    assert target.read_bytes() == b"earlier"
    assert list(target.parent.iterdir()) == [target]


def by_hand(encoder: Encoder, image: Tensor, stride: int, features: str) -> Tensor:
    """The grid of patches, one after another, the image mirrored by NumPy."""
    margin = (SIDE - stride) // 2
    around = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    padded = torch.from_numpy(np.pad(image.numpy(), around, mode="reflect"))
    grid = [
        [
            features_of(encoder, padded[:, :, y : y + SIDE, x : x + SIDE], features)
            for x in range(0, image.shape[3], stride)
        ]
        for y in range(0, image.shape[2], stride)
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in grid], dim=-2)


@pytest.mark.parametrize(
    ("stride", "features"), [(4, "pooled"), (8, "pooled"), (8, "head"), (8, "turns")]
)
def test_the_grid_is_the_encoder_at_every_position(
    encoder: Encoder,
    patchy: Path,
    monkeypatch: pytest.MonkeyPatch,
    stride: int,
    features: Any,
) -> None:
    monkeypatch.setattr(learned, "PATCHES", 7)  # in several batches, the last one smaller
    backbone = LearnedBackbone(patchy, "levels", features, stride=stride)
    image = images(2, 16, 24)
    (found,) = backbone(image)
    assert found.shape == (2, *backbone.channels, 16 // stride, 24 // stride)
    assert_same(found, by_hand(encoder, image, stride, features))


def test_from_patches_an_image_of_any_size_has_one_embedding(
    encoder: Encoder, patchy: Path
) -> None:
    image = images(2, 12, 16)
    (found,) = LearnedBackbone(patchy, "pooled")(image)
    assert_same(found.flatten(1), encoder.pooled(image))


@pytest.mark.parametrize("pool", [1, 3])
def test_from_whole_images_levels_are_the_stages(encoder: Encoder, whole: Path, pool: int) -> None:
    backbone = LearnedBackbone(whole, "levels", strides=[4, 1, 2], pool=pool)
    image = images(2, SIDE, SIDE)
    levels = backbone(image)
    assert backbone.channels == [16, 16, WIDTH]
    assert [level.shape for level in levels] == [(2, 16, 8, 8), (2, 16, 4, 4), (2, WIDTH, 2, 2)]
    x = encoder.net.act1(encoder.net.bn1(encoder.net.conv1(image)))
    for level, layer in zip(levels, ("layer1", "layer2", "layer3"), strict=True):
        x = getattr(encoder.net, layer)(x)
        around = nn.functional.pad(x, [pool // 2] * 4).unfold(2, pool, 1).unfold(3, pool, 1)
        assert_same(level, around.mean((-1, -2)))


def test_identity_tells_apart_all_that_changes_the_features(
    whole: Path, patchy: Path, tmp_path: Path
) -> None:
    state = load_file(patchy)
    with safe_open(patchy, "pt") as stream:
        metadata = stream.metadata()
    state["net.layer1.0.conv1.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "other.safetensors", metadata)

    def identity(path: Path = patchy, output: Any = "levels", **changes: Any) -> str:
        return LearnedBackbone(path, output, **changes).identity

    distinct = [
        identity(),
        identity(tmp_path / "other.safetensors"),
        identity(whole, strides=(1, 2)),
        identity(whole, strides=(1, 2), pool=1),
        identity(output="pooled"),
        identity(features="head"),
        identity(features="turns"),
        identity(stride=4),
        identity(precision="bfloat16"),
    ]
    assert len(set(distinct)) == len(distinct)
    assert identity() == distinct[0]


def test_identity_knows_how_large_patches_are(patchy: Path, tmp_path: Path) -> None:
    # The same weights may look at larger patches: another grid of features.
    with safe_open(patchy, "pt") as stream:
        facts = json.loads(stream.metadata()["encoder"])
    larger = {"format": learned.FORMAT, "encoder": json.dumps({**facts, "side": 16})}
    save_file(load_file(patchy), tmp_path / "larger.safetensors", larger)
    one, other = (
        LearnedBackbone(path, "levels", stride=8)
        for path in (patchy, tmp_path / "larger.safetensors")
    )
    assert not torch.equal(one(images(1, 16, 16))[0], other(images(1, 16, 16))[0])
    assert one.identity != other.identity


def test_the_cache_knows_an_encoder_by_its_content(whole: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copy(whole, tmp_path / "copied.safetensors")
    benchmark = ClassFolder(name="toys", root=class_tree(tmp_path / "toys"), resize=8, crop=8)
    shown = AnomalyDataModule(benchmark, "dot", 4).test_images
    cache = FeatureCache(tmp_path / "cache")

    def found(path: Path, **settings: Any) -> tuple[np.ndarray, int]:
        backbone = LearnedBackbone(path, "pooled", **settings)
        device = torch.device("cpu")
        (level,), _ = cached_features(cache, backbone, shown, device, 4, 1, "")
        return level, len(list(cache.entries()))

    first, entries = found(whole)
    assert entries == 1
    again, entries = found(elsewhere)
    assert entries == 1
    assert np.array_equal(first, again)
    head, entries = found(whole, features="head")
    assert entries == 2
    assert head.shape[-1] == 6


def test_autocast_is_near(encoder: Encoder, whole: Path) -> None:
    image = images(4, SIDE, SIDE)
    (half,) = LearnedBackbone(whole, "pooled", "turns", precision="bfloat16")(image)
    wanted = answers(encoder, image)
    assert half.dtype == torch.float32
    assert not torch.equal(half.flatten(1), wanted)
    assert (half.flatten(1) - wanted).norm() < 0.05 * wanted.norm()


def test_a_folder_has_a_backbone_for_each_task(whole: Path, patchy: Path, tmp_path: Path) -> None:
    for copy, path in (
        (tmp_path / "ring.safetensors", whole),
        (tmp_path / "bolt.safetensors", patchy),
    ):
        shutil.copy(path, copy)
    backbone = LearnedBackbone(tmp_path, "pooled", "head", precision="bfloat16", name="mine")
    ring = backbone.for_task("ring")
    assert (ring.path, ring.name) == (tmp_path / "ring.safetensors", "mine")
    alone = LearnedBackbone(whole, "pooled", "head", precision="bfloat16")
    assert ring.identity == alone.identity != backbone.for_task("bolt").identity
    assert ring.for_task("bolt") is ring  # one file is for all
    backbone.check_tasks(["bolt", "ring"])
    ring.check_tasks(["bolt", "nut"])
    with pytest.raises(InputError, match=r"^path: .* has no \.safetensors file of nut, cog$"):
        backbone.check_tasks(["bolt", "nut", "cog"])


# What cannot be used


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.trace, "boom")


def test_a_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, trace = tmp_path / "bolt.safetensors", tmp_path / "trace"
    torch.save({"encoder": Bomb(trace)}, path)
    with pytest.raises(InputError, match=r"^path: .*bolt\.safetensors cannot be used"):
        LearnedBackbone(path, "pooled")
    assert not trace.exists()
    torch.load(shutil.copy(path, tmp_path / "bolt.pt"), weights_only=False)
    assert trace.exists(), "the test itself: it would have run"


def test_a_truncated_file_is_refused(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    for length in (0, 100, len(content) // 2):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.safetensors cannot be used"):
            LearnedBackbone(tmp_path, "pooled")


FACTS = {"model": TINY, "side": 8, "head": [10, 6], "classes": 4, "patches": 0}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "its metadata do not name a learned encoder"),
        ({"format": "occ_lab.encoder.9"}, "its metadata do not name a learned encoder"),
        ({"format": learned.FORMAT}, "encoder"),
        ({"format": learned.FORMAT, "encoder": "{"}, "Expecting property name"),
        ({"format": learned.FORMAT, "encoder": "{}"}, "Error.s. in loading state_dict"),
        ({"format": learned.FORMAT, "encoder": json.dumps({"depth": 3})}, "depth"),
        (
            {"format": learned.FORMAT, "encoder": json.dumps(FACTS)},
            "Error.s. in loading state_dict",
        ),
    ],
)
def test_another_safetensors_file_is_refused(
    metadata: dict[str, str] | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(
        InputError, match=rf"other\.safetensors cannot be used \(.*{reason}.*two-stage"
    ):
        LearnedBackbone(path, "pooled")


@pytest.mark.parametrize("name", ["", "bolt.safetensors"])
def test_a_missing_file_is_reported(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path: no learned backbone in .*two-stage"):
        LearnedBackbone(tmp_path / name, "pooled")


def test_an_image_of_another_size_is_refused(whole: Path, patchy: Path) -> None:
    for output in ("pooled", "levels"):
        backbone = LearnedBackbone(whole, output, strides=[1])  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"images of 8x8 px, not 8x12: .*crop them to 8"):
            backbone(images(1, 8, 12))
    grid = LearnedBackbone(patchy, "levels", stride=4)
    with pytest.raises(InputError, match=r"10x12 px have no grid of patches every 4 px"):
        grid(images(1, 10, 12))
    fine = LearnedBackbone(patchy, "levels", stride=2)
    assert fine(images(1, 4, 4))[0].shape == (1, WIDTH, 2, 2)
    with pytest.raises(InputError, match=r"2x4 px are too small to be mirrored by the 3 px"):
        fine(images(1, 2, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "maps"}, "output must be one of levels, pooled, got 'maps'"),
        ({"features": "answers"}, "features must be one of pooled, head, turns, got 'answers'"),
        ({"stride": 0}, "stride must be an integer and >= 1, got 0"),
        ({"stride": 3}, "stride must be at most the 8 px .* an even number, got 3"),
        ({"stride": 10}, "stride must be at most the 8 px .* got 10"),
        ({"pool": 2}, "pool must be odd and at least 1, got 2"),
        ({"precision": "int8"}, "precision must be one of"),
    ],
)
def test_a_bad_argument_is_named(patchy: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        LearnedBackbone(**{"name": "mine", "path": patchy, "output": "levels", **arguments})


def test_what_an_encoder_lacks_is_reported(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^strides must be some of \[1, 2, 4, 8\]"):
        LearnedBackbone(whole, "levels", strides=[16])
    save_encoder(Encoder(TINY, SIDE, head=[4]), 0, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="^features must be pooled or head"):
        LearnedBackbone(tmp_path, "pooled", "turns")
