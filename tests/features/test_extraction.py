"""Extraction through the cache: every cause of different features is a miss, results agree."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from occ_lab.backbones import FrozenBackbone, TimmBackbone
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Item
from occ_lab.features.cache import FeatureCache, digest
from occ_lab.features.dataset import TaskFeatures
from occ_lab.features.extraction import cache_key, cached_features, use_features
from tests.data.trees import mvtec_tree, noise, save

SMALL = {"name": "small", "model": "resnet18", "weights": "random", "output": "levels"}


def backbone(**changes: object) -> TimmBackbone:
    return TimmBackbone(**{**SMALL, **changes})


def data(root: Path, **geometry: int) -> AnomalyDataModule:
    return AnomalyDataModule(
        MVTec("mvtec", root, **{"resize": 64, "crop": 64, **geometry}), "bolt", 2
    )


def key(root: Path, network: TimmBackbone | None = None, **geometry: int) -> str:
    return digest(cache_key(network or backbone(), data(root, **geometry).train_images))


def test_key_is_stable(tmp_path: Path) -> None:
    mvtec_tree(tmp_path)
    assert key(tmp_path) == key(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "random", "seed": 1},
        {"strides": [4, 8]},
        {"pool": 1},
        {"output": "pooled"},
        {"model": "resnet34"},
    ],
)
def test_another_backbone_is_a_miss(tmp_path: Path, changes: dict) -> None:
    mvtec_tree(tmp_path)
    assert key(tmp_path, backbone(**changes)) != key(tmp_path)


@pytest.mark.parametrize("geometry", [{"resize": 80}, {"crop": 48}])
def test_another_preprocessing_is_a_miss(tmp_path: Path, geometry: dict) -> None:
    mvtec_tree(tmp_path)
    assert key(tmp_path, **geometry) != key(tmp_path)


def test_another_image_is_a_miss(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path) / "train" / "good"
    keys = [key(tmp_path)]
    status = (folder / "000.png").stat()
    os.utime(folder / "000.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # changed
    keys.append(key(tmp_path))
    save(folder / "000.png", noise(9, 96))  # of another size
    keys.append(key(tmp_path))
    (folder / "000.png").rename(folder / "0000.png")
    keys.append(key(tmp_path))
    save(folder / "006.png", noise(6))
    keys.append(key(tmp_path))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("others", [[], [torch.device("cpu", 0)] * 2])
def test_cached_features_equal_the_backbone(tmp_path: Path, others: list[torch.device]) -> None:
    """Also with several devices, which get the batches in turn."""
    mvtec_tree(tmp_path / "data")
    task, network = data(tmp_path / "data"), backbone()
    kept, _ = cached_features(
        FeatureCache(tmp_path / "cache"),
        network,
        task.test_images,
        torch.device("cpu"),
        batch_size=2 if others else 4,
        workers=0,
        title="test",
        others=others,
    )
    samples = TaskFeatures(kept, task.test_images)
    batch = samples.__getitems__([5, 0, 3])
    images = [task.test_images[index] for index in (5, 0, 3)]
    expected = network(torch.stack([sample["image"] for sample in images]))
    for ours, level in zip(batch["levels"], expected, strict=True):
        assert ours.shape == level.shape
        torch.testing.assert_close(ours.float(), level, rtol=2e-3, atol=1e-3)
    assert batch["index"].tolist() == [5, 0, 3]
    assert batch["label"].tolist() == [sample["label"] for sample in images]
    assert batch["path"] == [sample["path"] for sample in images]
    assert torch.equal(batch["mask"], torch.stack([sample["mask"] for sample in images]))


@pytest.mark.parametrize(("protocol", "entries"), [("one_vs_rest", 4), ("leave_one_out", 2)])
def test_tasks_share_the_features_of_the_images_they_share(
    tmp_path: Path, protocol: str, entries: int
) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for seed, name in enumerate(("cat", "dog", "owl")):
            for index in range(count):
                pixels = noise(100 * (part == "test") + 10 * seed + index, 32)
                save(tmp_path / part / name / f"{index}.png", pixels)
    cache, network = FeatureCache(tmp_path / "cache"), backbone(output="pooled")
    benchmark = ClassFolder(tmp_path, protocol, name="c", resize=32, crop=32)  # type: ignore[arg-type]
    for task in benchmark.tasks():
        given = AnomalyDataModule(benchmark, task, 4)
        use_features(given, cache, network, torch.device("cpu"))
        for part in ("train", "test"):
            images = getattr(given, f"{part}_images")
            batch = getattr(given, f"{part}_set").__getitems__(range(len(images)))
            with torch.inference_mode():
                expected = network(torch.stack([sample["image"] for sample in images]))
            torch.testing.assert_close(
                batch["levels"][0].float(), expected[0], atol=2e-3, rtol=2e-3
            )
            assert batch["path"] == [str(item) for item in images.items]
    assert len(list(cache.entries())) == entries


def test_a_test_set_drawn_otherwise_is_a_miss(tmp_path: Path) -> None:
    mvtec_tree(tmp_path)
    settings = [{}, {"test_seed": 0}, {"test_seed": 1}, {"test_seed": 0, "random_crop": True}]
    keys = set()
    for chosen in settings:
        benchmark = MVTec("m", tmp_path, resize=64, crop=48, rotate=5, **chosen)  # type: ignore[arg-type]
        keys.add(digest(cache_key(backbone(), AnomalyDataModule(benchmark, "bolt", 2).test_images)))
    assert len(keys) == len(settings)


class Averages(FrozenBackbone):
    """A user's own backbone."""

    def __init__(self, cell: int = 16) -> None:
        super().__init__("averages")
        self.channels = [3]
        self.cell = cell

    def levels(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(image, self.cell)]


def test_a_users_backbone_is_cached_by_its_identity(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "data")
    cache = FeatureCache(tmp_path / "cache")
    for cell, entries in ((16, 2), (16, 2), (32, 4)):
        task = data(tmp_path / "data")
        use_features(task, cache, Averages(cell), torch.device("cpu"))
        assert task.test_set.__getitems__([0])["levels"][0].shape[-1] == 64 // cell  # type: ignore[attr-defined]
        assert len(list(cache.entries())) == entries


def test_held_out_images_have_features_too(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "data")
    benchmark = MVTec("mvtec", tmp_path / "data", resize=64, crop=64)
    task = AnomalyDataModule(benchmark, "bolt", 2, validation=0.5)
    use_features(task, FeatureCache(tmp_path / "cache"), Averages(), torch.device("cpu"))
    (loader,) = [task.val_dataloader()]
    paths = [path for batch in loader for path in batch["path"]]
    assert paths == [str(item) for item in task.validation_images.items]
    assert paths
    assert all("levels" in batch for batch in task.val_dataloader())


class Darker(MVTec):
    """A user's benchmark that reads the same files in another way."""

    def read(self, item: Item) -> np.ndarray:
        return super().read(item) // 2


def test_a_users_way_to_read_images_is_a_miss(tmp_path: Path) -> None:
    mvtec_tree(tmp_path)
    keys = {
        digest(cache_key(Averages(), AnomalyDataModule(made, "bolt", 2).test_images))
        for made in (kind("m", tmp_path, resize=64, crop=64) for kind in (MVTec, Darker))
    }
    assert len(keys) == 2


def test_without_a_usable_cache_images_stay_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mvtec_tree(tmp_path / "data")
    (tmp_path / "file").touch()
    module = data(tmp_path / "data")
    module.prepare_data()
    train, test = module.train_set, module.test_set
    use_features(module, FeatureCache(tmp_path / "file" / "cache"), backbone(), torch.device("cpu"))
    assert (module.train_set, module.test_set) == (train, test)
    assert "file/cache cannot be used" in caplog.text
    assert "features are computed in every pass" in caplog.text
