"""Kaggle's flat folder, and folders by class."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.data.datasets.cats_and_dogs import CatsAndDogs
from tests.data.trees import noise, save


def test_kaggles_flat_naming(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        for number in (0, 2, 11, 9_999, 10_000, 12_499):
            save(tmp_path / "train" / f"{kind}.{number}.jpg", noise(number, 32))
    save(tmp_path / "train" / "cover.jpg", noise(0, 32))
    benchmark = CatsAndDogs(tmp_path, name="c")
    assert benchmark.tasks() == ["cat", "dog"]
    split = benchmark.split("dog")
    names = [item.path.name for item in split.train]
    assert names == ["dog.0.jpg", "dog.2.jpg", "dog.11.jpg", "dog.9999.jpg"]
    assert [item.path.name for item in split.test if item.label == 0] == [
        "dog.10000.jpg",
        "dog.12499.jpg",
    ]
    assert sum(item.label for item in split.test) == 2
    assert benchmark.expected("cat") == (10_000, 2_500, 2_500)


def test_real_folders(shared_data: Path) -> None:
    benchmark = CatsAndDogs(shared_data / "cats_and_dogs_subset", name="c")
    splits = {task: benchmark.split(task) for task in benchmark.tasks()}
    assert len(splits) == 2
    trained = sum(len(split.train) for split in splits.values())
    assert trained + len(next(iter(splits.values())).test) == 700 + 699
    assert not any(set(split.train) & set(split.test) for split in splits.values())


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no c data in"):
        CatsAndDogs(tmp_path, name="c").tasks()
