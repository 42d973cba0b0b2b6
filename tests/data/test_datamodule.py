"""The data module: samples, batches, and the training images."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.images import read_image
from occ_lab.data.items import Item
from occ_lab.data.mask_reading import read_mask
from occ_lab.utils.errors import InputError
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
    torch.manual_seed(5)  # has no effect on it
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
        assert agree > 0.98  # edges are interpolated in one of them only


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
        task.trainer = process(rank)
        (batch,) = order_of(task, 0, 3)
        shares.append(batch)
    assert [len(share) for share in shares] == [3, 3]
    assert {index for share in shares for index in share} == set(range(5))


# Distribution over processes


def process(rank: int, processes: int = 2, gradients: bool = True) -> Any:
    """The attributes of a trainer that a data module reads."""
    module = SimpleNamespace(automatic_optimization=gradients)
    return SimpleNamespace(
        world_size=processes,
        global_rank=rank,
        lightning_module=module,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def indices(loader: DataLoader[Any]) -> list[int]:
    return [index for batch in loader for index in batch["index"].tolist()]


def test_processes_share_the_images(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=7, good=2, bad=3)
    task = AnomalyDataModule(
        MVTec("mvtec", tmp_path, resize=64, crop=48), "bolt", 2, validation=0.3
    )
    tested, validated, equal, exact, whole = [], [], [], [], []
    for rank in range(2):
        task.trainer = process(rank)
        task.setup("fit")
        tested.append(indices(task.test_dataloader()))
        assert indices(task.predict_dataloader()) == tested[-1]
        loader = task.val_dataloader()
        assert isinstance(loader, DataLoader)
        validated.append(indices(loader))
        equal.append(indices(task.train_dataloader()))
        task.trainer = process(rank, gradients=False)
        exact.append(indices(task.train_dataloader()))
        whole.append(indices(task.setup_dataloader()))
    assert tested == [[0, 2, 4], [1, 3]]
    assert validated == [[0], [1]]
    assert [len(share) for share in equal] == [3, 3]
    assert set(equal[0]) | set(equal[1]) == set(range(5))
    assert exact == [[0, 2, 4], [1, 3]], "in one pass no image counts twice"
    assert whole == [list(range(5))] * 2


def test_more_processes_than_images_are_refused(tmp_path: Path) -> None:
    task = data(tmp_path)
    task.trainer = process(0, processes=6)
    with pytest.raises(InputError, match=r"^devices: 6 processes for 5 images") as error:
        task.setup("fit")
    assert error.value.part == "trainer"


# Held-out images


def test_no_image_is_in_two_sets(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=10, good=2, bad=8)
    benchmark = MVTec("mvtec", tmp_path, resize=64, crop=48, contamination=0.3)
    task = AnomalyDataModule(benchmark, validation=0.2)
    for aside in ([], [0, 3, 9], [1]):
        task.set_aside(aside)
        parts = (
            task.train_images,
            task.validation_images,
            task.calibration_images,
            task.test_images,
        )
        items = [item for images in parts for item in images.items]
        assert len({item.key for item in items}) == len(items) == 10 + 10 - 3
        every = benchmark.split("bolt").train
        assert task.calibration_images.items == [every[index] for index in aside]
        assert len(task.validation_images) == round(0.2 * (10 - len(aside)))
        assert not any(item.label for item in task.validation_images.items)
        assert task.split.train == task.train_images.items
        assert task.split.pool == every, "their features are extracted once for all parts"
    with pytest.raises(ValueError, match=r"^indices must be in 0\.\.9, got 0 to 10"):
        task.set_aside([0, 10])
    with pytest.raises(InputError, match=r"^indices: all 10 training images"):
        AnomalyDataModule(benchmark).set_aside(range(10))
    with pytest.raises(InputError, match=r"^validation: 0\.8 of 10 training images leaves none"):
        AnomalyDataModule(benchmark, validation=0.8)


def test_without_validation_nothing_is_held_out(tmp_path: Path) -> None:
    task = data(tmp_path)
    assert task.val_dataloader() == []
    assert task.split == task.benchmark.split("bolt")


def test_validation_images_follow_the_sample_seed(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=12)

    def held_out(seed: int) -> list[Item]:
        benchmark = MVTec("mvtec", tmp_path, sample_seed=seed)
        return AnomalyDataModule(benchmark, validation=0.25).validation_images.items

    assert held_out(0) == held_out(0) != held_out(1)


def test_looking_at_other_images_leaves_the_global_generator(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=8)
    task = AnomalyDataModule(MVTec("mvtec", tmp_path, resize=64, crop=48), validation=0.25)
    task.set_aside([2])
    before = torch.get_rng_state()
    for loader in (
        task.test_dataloader(),
        task.predict_dataloader(),
        task.calibration_dataloader(),
        task.val_dataloader(),
    ):
        assert list(loader)
        assert torch.equal(torch.get_rng_state(), before)


def test_files_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = data(tmp_path)
    broken = task.split.train[0].path
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    with pytest.raises(InputError, match=r"1 file\(s\) cannot be used"):
        task.prepare_data()
    broken.write_bytes(content)
    task.prepare_data()
    monkeypatch.setattr("occ_lab.data.datamodule.check_split", None)
    task.prepare_data()


@pytest.mark.parametrize(
    ("argument", "value"),
    [("batch_size", 0), ("eval_batch_size", 1.5), ("workers", -1), ("validation", 1.0)],
)
def test_arguments_are_checked(tmp_path: Path, argument: str, value: float) -> None:
    mvtec_tree(tmp_path)
    with pytest.raises(ValueError, match=rf"^{argument} must be"):
        AnomalyDataModule(MVTec("mvtec", tmp_path), **{argument: value})  # type: ignore[arg-type]
