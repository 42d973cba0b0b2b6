"""A user's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.data.datasets.folder import Folder
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for place in range(10):
        below = "line 1" if place % 2 else "."
        save(tmp_path / "good parts" / below / f"{place}.png", noise(place))
    for kind in ("dent", "scratch"):
        save(tmp_path / "bad" / kind / "0.png", noise(20))
        mask = np.full((64, 64), 255, np.uint8)
        save(tmp_path / "masks" / kind / ("0_mask.png" if kind == "dent" else "0.png"), mask)
    return tmp_path


def test_normal_images_alone(images: Path) -> None:
    benchmark = Folder("parts", images / "good parts")
    assert benchmark.tasks() == ["parts"]
    split = benchmark.split("parts")
    assert (len(split.train), len(split.test)) == (8, 2)
    assert not set(split.train) & set(split.test)
    assert {item.label for item in split.test} == {0}
    assert not split.has_masks


def test_abnormal_images_and_masks(images: Path) -> None:
    split = Folder("p", images / "good parts", images / "bad", images / "masks").split("p")
    abnormal = [item for item in split.test if item.label]
    assert [item.path.parent.name for item in abnormal] == ["dent", "scratch"]
    assert [item.mask.name for item in abnormal if item.mask] == ["0_mask.png", "0.png"]
    without = Folder("p", images / "good parts", images / "bad").split("p")
    assert [item.mask for item in without.test if item.label] == [None, None]


def test_bad_arguments_are_told(images: Path) -> None:
    with pytest.raises(InputError, match=r"^normal: name a folder"):
        Folder("p")
    with pytest.raises(InputError, match=r"^abnormal: no folder .*nowhere"):
        Folder("p", images / "good parts", images / "nowhere")
    with pytest.raises(InputError, match=r"^masks: there are no images to mask"):
        Folder("p", images / "good parts", masks=images / "masks")
    with pytest.raises(ValueError, match=r"^train_share must be"):
        Folder("p", images, train_share=1)
    with pytest.raises(InputError, match=r"no p data in .*empty"):
        Folder("p", images / "empty").tasks()
