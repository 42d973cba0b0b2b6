"""Seeded choices of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.backbones import TimmBackbone
from occ_lab.data.datamodule import AnomalyDataModule, held_out
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.items import Item, Split
from occ_lab.data.sampling import contaminated, few, hold_out
from occ_lab.features.extraction import cache_key
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree


def items(count: int, label: int) -> list[Item]:
    return [Item(Path(f"{label}/{place:03d}.png"), label) for place in range(count)]


SPLIT = Split(items(50, 0), items(12, 0)[6:] + items(10, 1))


def test_hold_out_parts_in_order_by_seed() -> None:
    normal = items(10, 0)
    train, rest = hold_out(normal, 0.8, seed=0)
    assert (len(train), len(rest)) == (8, 2)
    assert sorted(map(str, train + rest)) == list(map(str, normal))
    assert train == sorted(train, key=str)
    assert hold_out(normal, 0.8, seed=0) == (train, rest)
    assert any(hold_out(normal, 0.8, seed)[1] != rest for seed in range(1, 6))


def test_few_images_are_part_of_more() -> None:
    chosen = [set(few(SPLIT, "t", limit, seed=3).train) for limit in (1, 2, 5, 50)]
    assert [len(images) for images in chosen] == [1, 2, 5, 50]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3] == set(SPLIT.train)
    assert few(SPLIT, "t", 5, seed=3).test == SPLIT.test
    assert set(few(SPLIT, "t", 5, seed=4).train) != chosen[2]
    with pytest.raises(InputError, match=r"^train_limit: 51 is more than the 50"):
        few(SPLIT, "t", 51, seed=0)


def test_contamination_moves_anomalous_images_out_of_the_test_set() -> None:
    dirty = contaminated(SPLIT, "t", 0.1, seed=0)
    moved = [item for item in dirty.train if item.label == 1]
    assert len(dirty.train) == 50
    assert len(moved) == 5
    assert not set(moved) & set(dirty.test)
    assert set(dirty.test) | set(moved) == set(SPLIT.test)
    assert contaminated(SPLIT, "t", 0.1, seed=0) == dirty
    assert contaminated(SPLIT, "t", 0.1, seed=1) != dirty
    assert contaminated(SPLIT, "t", 0.001, seed=0) == SPLIT
    with pytest.raises(InputError, match=r"takes 10 anomalous images, but t has 10"):
        contaminated(SPLIT, "t", 0.2, seed=0)


def test_a_benchmark_does_as_it_is_asked(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=8, bad=4)
    asked = MVTec("m", tmp_path, train_limit=4, contamination=0.5, sample_seed=1).split("bolt")
    assert [item.label for item in asked.train].count(1) == 2
    assert len(asked.train) == 4
    assert len(MVTec("m", tmp_path, train_limit=4).published_split("bolt").train) == 8
    for name, value in {
        "train_limit": 0,
        "contamination": 1,
        "sample_seed": -1,
        "test_seed": -1,
    }.items():
        with pytest.raises(ValueError, match=f"^{name} must be"):
            MVTec("m", tmp_path, **{name: value})  # type: ignore[arg-type]


def test_rotated_copies_follow_their_image_and_are_held_out_with_it(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=5)
    given = {"root": tmp_path, "category": "bolt", "resize": 32, "crop": 32}
    benchmark = MVTec(**given, train_limit=3, turns=[90, -5])
    train = benchmark.split("bolt").train
    assert [item.turn for item in train] == [0, 90, -5] * 3
    assert len({item.key for item in train}) == 3
    images = TaskImages(benchmark, train)
    assert np.array_equal(images.image(1), np.rot90(images.image(0)))
    rest, aside = held_out(train, 0.3, seed=0)
    assert [len(rest), len(aside)] == [6, 3]
    assert len({item.key for item in aside}) == 1
    backbone = TimmBackbone("test_resnet", weights="random")
    copies, image = (TaskImages(benchmark, [train[index]]) for index in (1, 0))
    assert cache_key(backbone, copies) != cache_key(backbone, image)
    assert len(AnomalyDataModule(benchmark, validation=0.3).train_images) == 6
    for turns, said in (([0], "leave it out"), ([361], "turns must be")):
        with pytest.raises(ValueError, match=said):
            MVTec(**given, turns=turns)
