"""The data module: samples, batches, and what training sees."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.images import read_image, read_mask
from tests.data.trees import mvtec_tree, save


def data(root: Path) -> AnomalyDataModule:
    mvtec_tree(root, train=5, good=2, bad=3)
    return AnomalyDataModule(MVTec("mvtec", root, resize=64, crop=48), "bolt", 2, eval_batch_size=4)


def test_samples_follow_the_contract(tmp_path: Path) -> None:
    task = data(tmp_path)
    batch = next(iter(task.test_dataloader()))
    assert batch["image"].shape == (4, 3, 48, 48)
    assert batch["image"].dtype == torch.float32
    assert 0 <= batch["image"].min() < batch["image"].max() <= 1
    assert batch["mask"].shape == (4, 48, 48)
    assert batch["mask"].dtype == torch.bool
    assert batch["label"].tolist() == [1, 1, 1, 0]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    item = task.split.test[0]
    assert batch["path"][0] == str(item.path)
    assert item.mask is not None
    pixels = torch.from_numpy(np.array(read_image(item.path)[8:56, 8:56]))
    assert torch.equal((batch["image"][0] * 255).round().byte(), pixels.permute(2, 0, 1))
    assert np.array_equal(batch["mask"][0].numpy(), read_mask(item.mask)[8:56, 8:56])
    assert not batch["mask"][3].any()


def test_training_batches_are_normal_shuffled_and_whole(tmp_path: Path) -> None:
    task = data(tmp_path)
    orders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        batches = list(task.train_dataloader())
        assert all((batch["label"] == 0).all() and "mask" not in batch for batch in batches)
        orders.append(torch.cat([batch["index"] for batch in batches]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(5))
    assert orders[0] != orders[1]
    in_order = [batch["index"].tolist() for batch in task.setup_dataloader()]
    assert in_order == [[0, 1, 2, 3], [4]]


def test_a_task_without_masks_has_none(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path)
    for path in (folder / "ground_truth" / "dent").iterdir():
        path.unlink()
    task = AnomalyDataModule(MVTec("mvtec", tmp_path, resize=64, crop=48), "bolt", 2)
    assert "mask" not in next(iter(task.test_dataloader()))


def test_random_rotation_follows_torchs_seed_and_leaves_the_test_set(tmp_path: Path) -> None:
    mvtec_tree(tmp_path)
    task = AnomalyDataModule(MVTec("mvtec", tmp_path, resize=64, crop=48, rotate=20), "bolt", 2)
    still = AnomalyDataModule(MVTec("mvtec", tmp_path, resize=64, crop=48), "bolt", 2)
    torch.manual_seed(0)
    first, second = task.train_images[0]["image"], task.train_images[0]["image"]
    torch.manual_seed(0)
    again = task.train_images[0]["image"]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(task.test_images[0]["image"], still.test_images[0]["image"])
    with pytest.raises(ValueError, match=r"^rotate must be"):
        MVTec("mvtec", tmp_path, rotate=181)


def test_a_test_set_drawn_once_is_the_same_for_all_runs(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, side=96)
    settings = {"resize": 64, "crop": 40, "rotate": 10.0, "random_crop": True}

    def test_set(seed: int) -> AnomalyDataModule:
        return AnomalyDataModule(MVTec("m", tmp_path, test_seed=seed, **settings), "bolt", 2)  # type: ignore[arg-type]

    first, again, other = test_set(0), test_set(0), test_set(1)
    torch.manual_seed(5)  # has no say in it
    for index in range(6):
        assert torch.equal(first.test_images[index]["image"], again.test_images[index]["image"])
        assert torch.equal(first.test_images[index]["mask"], again.test_images[index]["mask"])
    assert any(
        not torch.equal(first.test_images[i]["image"], other.test_images[i]["image"])
        for i in range(6)
    )
    seen = {first.test_images.pixels(index).tobytes() for index in range(6)}
    assert len(seen) == 6


def test_image_and_mask_are_drawn_alike(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path, side=96, bad=6)
    for place in range(6):  # the image is its own mask
        mask = read_mask(folder / "ground_truth" / "dent" / f"{place:03d}_mask.png")
        pixels = np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8) * 255
        save(folder / "test" / "dent" / f"{place:03d}.png", pixels)
    benchmark = MVTec("m", tmp_path, resize=96, crop=64, rotate=10, random_crop=True, test_seed=0)
    data = AnomalyDataModule(benchmark, "bolt", 2)
    for index in range(6):
        sample = data.test_images[index]
        bright = sample["image"][0] > 0.5
        assert bright.any()
        agree = (bright == sample["mask"]).float().mean()
        assert agree > 0.98  # edges are interpolated in the one and not in the other


def order_of(task: AnomalyDataModule, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, from a new loader, as after a stop."""
    loader = task.resumable_dataloader(seed)
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [batch["index"].tolist() for batch in loader]


def test_an_epoch_that_is_begun_again_has_the_same_batches(tmp_path: Path) -> None:
    task = data(tmp_path)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (7, 0)):
        torch.manual_seed(len(orders))
        first = order_of(task, seed, epoch)
        before = torch.get_rng_state()
        assert order_of(task, seed, epoch) == first
        assert torch.equal(torch.get_rng_state(), before), "the global generator has moved"
        assert [len(batch) for batch in first] == [2, 2]  # of five images, batches of one size
        orders.append(first)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    seen = [set(itertools.chain(*order_of(task, 0, epoch))) for epoch in range(6)]
    assert set.union(*seen) == set(range(5)), "every image has its turn"


def test_resumable_batches_of_few_images_and_of_shares(tmp_path: Path) -> None:
    task = data(tmp_path)
    task.batch_size = 64
    (batch,) = order_of(task, 0, 0)
    assert sorted(batch) == list(range(5))
    shares = []
    for rank in range(2):
        task.share(rank, 2, equal=True)
        (batch,) = order_of(task, 0, 3)
        shares.append(batch)
    assert [len(share) for share in shares] == [3, 3]
    assert {index for share in shares for index in share} == set(range(5))
