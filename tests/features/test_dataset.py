"""Datasets of cached features and of pixels in memory return the same as the images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from occ_lab.backbones.timm import TimmBackbone
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.features import dataset
from occ_lab.features.cache import FeatureCache
from occ_lab.features.dataset import TaskFeatures, TaskPixels, in_memory, taken
from occ_lab.features.extraction import use_features
from tests.data.trees import mvtec_tree


def data(root: Path, **options: Any) -> AnomalyDataModule:
    mvtec_tree(root)
    validation = options.pop("validation", 0.0)
    benchmark = MVTec("mvtec", root, resize=64, crop=64, **options)
    return AnomalyDataModule(benchmark, "bolt", batch_size=2, validation=validation)


def test_loaders_give_features_in_place_of_images(tmp_path: Path) -> None:
    task = data(tmp_path)
    count = len(task.train_images)
    task.train_set = TaskFeatures([np.zeros((count, 2, 2, 3), np.float16)], task.train_images)
    seen = [batch["index"].tolist() for batch in task.train_dataloader()]
    assert sorted(index for batch in seen for index in batch) == list(range(count))
    assert "image" not in next(iter(task.train_dataloader()))


def test_every_part_has_the_features_of_its_own_images(tmp_path: Path) -> None:
    task = data(tmp_path / "data", validation=0.4)
    task.set_aside([3])
    network = TimmBackbone(name="small", model="resnet18", weights="random", output="levels")
    use_features(task, FeatureCache(tmp_path / "cache"), network, torch.device("cpu"))
    for images, loader in (
        (task.train_images, task.setup_dataloader()),
        (task.validation_images, task.val_dataloader()),
        (task.calibration_images, task.calibration_dataloader()),
        (task.test_images, task.test_dataloader()),
    ):
        (batch,) = loader
        assert batch["path"] == [str(item) for item in images.items]
        expected = network(torch.stack([images[index]["image"] for index in range(len(images))]))
        for ours, level in zip(batch["levels"], expected, strict=True):
            torch.testing.assert_close(ours.float(), level, rtol=2e-3, atol=1e-3)


def test_pixels_in_memory_are_the_images(tmp_path: Path) -> None:
    images = data(tmp_path).test_images
    batch = TaskPixels(images).__getitems__([4, 1])
    samples = [images[index] for index in (4, 1)]
    assert torch.equal(batch["image"], torch.stack([sample["image"] for sample in samples]))
    assert torch.equal(batch["mask"], torch.stack([sample["mask"] for sample in samples]))
    assert batch["index"].tolist() == [4, 1]


def test_only_few_images_that_stay_the_same_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = data(tmp_path / "still")
    assert isinstance(in_memory(task.train_images), TaskPixels)
    assert in_memory(task.validation_images) is task.validation_images, "there are none"
    rotated = data(tmp_path / "rotated", rotate=10)
    assert in_memory(rotated.train_images) is rotated.train_images
    monkeypatch.setattr(dataset, "IN_MEMORY", 6 * 3 * 64**2 - 1)
    assert in_memory(task.train_images) is task.train_images


def test_levels_on_a_device_give_the_same_batches(tmp_path: Path) -> None:
    task = data(tmp_path)
    generator = np.random.default_rng(0)
    count = len(task.train_images)
    kept = [generator.random((count, 4, 4, 3)).astype(np.float16)]
    rows = generator.permutation(count)
    there = [dataset.copied(level, torch.device("cpu")) for level in kept]
    on_disk = TaskFeatures(kept, task.train_images, rows)
    resident = TaskFeatures(there, task.train_images, rows)
    assert (on_disk.resident, resident.resident) == (False, True)
    (ours,) = resident.__getitems__([2, 0])["levels"]
    (theirs,) = on_disk.__getitems__([2, 0])["levels"]
    assert torch.equal(ours, theirs)
    assert ours.stride() == theirs.stride()


def test_levels_are_copied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "COPIED", 40)  # bytes: two and a half rows
    level = np.arange(7 * 8, dtype=np.float16).reshape(7, 2, 2, 2)
    assert torch.equal(dataset.copied(level, torch.device("cpu")), torch.from_numpy(level))


def test_only_a_gpu_with_room_keeps_features(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [np.zeros((3, 2, 2, 4), np.float16)]  # 96 bytes
    assert dataset.on_device(levels, torch.device("cpu")) is levels
    monkeypatch.setattr(dataset, "copied", lambda level, device: torch.from_numpy(level))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (191, 1000))
    assert dataset.on_device(levels, torch.device("cuda")) is levels
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (192, 1000))
    (there,) = dataset.on_device(levels, torch.device("cuda"))
    assert isinstance(there, torch.Tensor)


@pytest.mark.parametrize(("kind", "pinned"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_batches_for_cuda_are_pinned_unless_they_are_there(
    tmp_path: Path, kind: str, pinned: bool
) -> None:
    task = data(tmp_path)
    task.workers = 2
    strategy = SimpleNamespace(root_device=torch.device(kind))
    task.trainer = SimpleNamespace(
        strategy=strategy, world_size=1, global_rank=0, lightning_module=None
    )
    loader = task.train_dataloader()
    assert (loader.pin_memory, loader.num_workers) == (pinned, 2)
    task.train_set = TaskFeatures([torch.zeros(5, 2, 2, 3)], task.train_images)
    loader = task.train_dataloader()
    assert (loader.pin_memory, loader.num_workers) == (False, 0)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is mapped")
def test_features_that_were_read_do_not_count_as_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "level0.npy", np.ones((4, 64, 64, 8), np.float16))
    level = np.load(tmp_path / "level0.npy", mmap_mode="r")
    assert taken(level, np.array([2, 0])).shape == (2, 64, 64, 8)
    _, _, after = Path("/proc/self/smaps").read_text().partition(str(tmp_path))
    resident = next(line for line in after.splitlines() if line.startswith("Rss:"))
    assert resident.split()[1] == "0"
    assert bool((level == 1).all())  # it can be read again
