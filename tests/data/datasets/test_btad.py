"""BTAD on a tree with its file names and formats, and with the published counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.btad import BTAD
from occ_lab.data.datasets.mpdd import MPDD
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts
from tests.data.trees import noise, save


@pytest.mark.parametrize("folder", ["", "BTech_Dataset_transformed"])
def test_products_with_their_own_formats(tmp_path: Path, folder: str) -> None:
    mask = np.zeros((48, 48), np.uint8)
    mask[5:9, 5:9] = 255
    for product, image, marked in (
        ("01", "bmp", "png"),
        ("02", "png", "png"),
        ("03", "bmp", "bmp"),
    ):
        where = tmp_path / folder / product
        for place in range(3):
            save(where / "train" / "ok" / f"{place:04d}.{image}", noise(place, 48))
            save(where / "test" / "ok" / f"{place:04d}.{image}", noise(10 + place, 48))
        save(where / "test" / "ko" / f"0001.{image}", noise(30, 48))
        save(where / "ground_truth" / "ko" / f"0001.{marked}", mask)
    benchmark = BTAD("btad", tmp_path, resize=48, crop=48)
    assert benchmark.tasks() == ["01", "02", "03"]
    for product in benchmark.tasks():
        data = AnomalyDataModule(benchmark, product, 2)
        data.prepare_data()
        assert [item.label for item in data.split.test] == [1, 0, 0, 0]
        assert data.test_images[0]["mask"].sum() == 16


def test_published_counts_add_up() -> None:
    totals = {
        kind: Counts(*map(sum, zip(*kind.published.values(), strict=True)))
        for kind in (MVTec, MPDD, BTAD)
    }
    assert totals == {MVTec: (3629, 467, 1258), MPDD: (888, 176, 282), BTAD: (1799, 451, 290)}
    assert (len(MVTec.published), len(MPDD.published)) == (15, 6)
