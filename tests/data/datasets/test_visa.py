"""VisA with both of its protocols, on a tree like that of its archive."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.visa import VisA
from occ_lab.data.items import Counts
from occ_lab.data.mask_reading import read_mask
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    """Two training, a hundred test, three anomalous images; masks hold small numbers."""
    data = tmp_path / "pcb1" / "Data"
    (data / "Images" / "Normal").mkdir(parents=True)
    photo = Image.fromarray(noise(0, 32))
    for place in range(102):
        photo.save(data / "Images" / "Normal" / f"{place:04d}.JPG")
    for place in range(3):
        save(data / "Images" / "Anomaly" / f"{place:03d}.JPG", noise(place, 32))
        mask = np.zeros((32, 32), np.uint8)
        mask[4:9, place] = 3  # the number of a kind of defect, as the archive has it
        save(data / "Masks" / "Anomaly" / f"{place:03d}.png", mask)
    return tmp_path


def test_the_last_hundred_are_tested_on(visa: Path) -> None:
    benchmark = VisA(visa, name="visa", resize=32, crop=32)
    assert benchmark.tasks() == ["pcb1"]
    split = benchmark.split("pcb1")
    assert [item.path.name for item in split.train] == ["0000.JPG", "0001.JPG"]
    assert [item.label for item in split.test] == [0] * 100 + [1] * 3
    mask = split.test[-1].mask
    assert mask is not None
    assert read_mask(mask).sum() == 5
    data = AnomalyDataModule(benchmark, "pcb1", 2)
    data.prepare_data()
    assert data.test_images[102]["mask"].sum() == 5


def test_the_official_table(visa: Path) -> None:
    rows = [
        ["pcb1", "train", "normal", "pcb1/Data/Images/Normal/0007.JPG", ""],
        ["pcb1", "test", "normal", "pcb1/Data/Images/Normal/0003.JPG", ""],
        ["pcb1", "test", "anomaly", "pcb1/Data/Images/Anomaly/001.JPG", MASK],
        ["pcb2", "train", "normal", "pcb2/Data/Images/Normal/0000.JPG", ""],
    ]
    benchmark = VisA(visa, "official", name="visa")
    with pytest.raises(InputError, match=r"1cls.csv.*set protocol to last_100"):
        benchmark.split("pcb1")
    (visa / "split_csv").mkdir()
    with (visa / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])
    split = benchmark.split("pcb1")
    assert [item.path.name for item in split.train] == ["0007.JPG"]
    assert [(item.path.name, item.label) for item in split.test] == [
        ("0003.JPG", 0),
        ("001.JPG", 1),
    ]
    assert split.test[1].mask == visa / MASK
    assert split.test[0].mask is None


MASK = "pcb1/Data/Masks/Anomaly/001.png"


def test_published_counts_add_up(tmp_path: Path) -> None:
    from occ_lab.data.datasets.visa import IMAGES

    for protocol, train in (("last_100", 8421), ("official", 8659)):
        counts = [VisA(tmp_path, protocol, name="v").expected(name) for name in IMAGES]  # type: ignore[arg-type]
        total = Counts(*map(sum, zip(*(found for found in counts if found), strict=True)))
        assert total == (train, 9621 - train, 1200)
    assert VisA(tmp_path, name="v").expected("bolt") is None
    with pytest.raises(ValueError, match=r"^protocol must be last_100 or official"):
        VisA(tmp_path, "mine", name="v")  # type: ignore[arg-type]
