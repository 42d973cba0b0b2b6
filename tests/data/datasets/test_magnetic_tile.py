"""Magnetic tiles and their random split."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.data.datasets.magnetic_tile import MagneticTile


def tiles(root: Path, **settings: float) -> MagneticTile:
    return MagneticTile(root, name="magnetic_tile", **settings)


def test_real_counts_and_split(shared_data: Path) -> None:
    benchmark = tiles(shared_data / "magnetic_tile")
    assert benchmark.tasks() == ["magnetic_tile"]
    split = benchmark.split("magnetic_tile")
    normal = [item for item in split.test if item.label == 0]
    defects = [item for item in split.test if item.label == 1]
    assert len(split.train) == round(0.8 * 952)
    assert len(split.train) + len(normal) == 952
    assert len(defects) == 392
    assert all(item.mask is not None and item.mask.stem == item.path.stem for item in defects)
    assert not {item.path for item in split.train} & {item.path for item in split.test}


def test_split_depends_on_its_seed(shared_data: Path) -> None:
    root = shared_data / "magnetic_tile"
    first = tiles(root, split_seed=1).split("magnetic_tile")
    assert first == tiles(root, split_seed=1).split("magnetic_tile")
    assert first.train != tiles(root, split_seed=2).split("magnetic_tile").train


def test_absent_data_has_no_task(tmp_path: Path) -> None:
    assert tiles(tmp_path).available() == []


@pytest.mark.parametrize("share", [0, 1, -0.5, "half"])
def test_share_out_of_range(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match="^train_share must be"):
        tiles(tmp_path, train_share=share)
