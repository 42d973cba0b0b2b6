"""Today's benchmarks on generated miniatures of their archives: splits, masks, checks, messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from occ_lab.data.audit import problems
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.kolektor_sdd2 import KolektorSDD2
from occ_lab.data.datasets.mvtec_ad2 import MVTecAD2
from occ_lab.data.datasets.mvtec_loco import Defect, MVTecLOCO
from occ_lab.data.datasets.real_iad import RealIAD
from occ_lab.data.datasets.vad import VAD
from occ_lab.data.items import Counts, Item
from occ_lab.data.mask_reading import read_mask
from occ_lab.data.notes import notes
from occ_lab.data.validation import check_split
from occ_lab.metrics import Evaluation
from occ_lab.utils.errors import ImageError, InputError
from tests.data.trees import (
    kolektor_tree,
    loco_tree,
    mvtec_ad2_tree,
    real_iad_tree,
    save,
    spotted,
    vad_tree,
)
from tests.metrics.plain import plain_spro

SMALL = {"resize": 32, "crop": 32}


def named(items: list[Item]) -> list[str]:
    return [f"{item.path.parent.name}/{item.path.name}" for item in items]


@pytest.mark.parametrize("inner", ["", "mvtec_ad_2"])
def test_mvtec_ad2(tmp_path: Path, inner: str) -> None:
    mvtec_ad2_tree(tmp_path / inner)
    benchmark = MVTecAD2(root=tmp_path, **SMALL)
    assert (benchmark.name, benchmark.tasks()) == ("mvtec_ad2", ["can"])
    split = benchmark.split("can")
    assert (len(split.train), len(split.validation)) == (5, 4)
    assert {item.path.parents[1].name for item in split.validation} == {"validation"}
    assert [item.label for item in split.test] == [1, 1, 0, 0], "no private image"
    assert [item.mask and item.mask.name for item in split.test] == [
        "000_regular_mask.png",
        "001_overexposed_mask.png",
        None,
        None,
    ]
    data = AnomalyDataModule(benchmark)
    data.prepare_data()
    assert data.test_images[0]["mask"].sum() == 64
    assert data.calibration_images.items == split.validation
    data.set_aside([0])
    assert data.calibration_images.items == split.train[:1]
    kept = "4 normal validation images of the benchmark are kept apart for the threshold"
    assert kept in list(notes(benchmark, "can", split, None))
    few = MVTecAD2(root=tmp_path, train_limit=2, contamination=0.5, **SMALL).split("can")
    assert (len(few.train), len(few.test), len(few.validation)) == (2, 3, 4)


def test_mvtec_ad2_names_what_is_wrong(tmp_path: Path) -> None:
    folder = mvtec_ad2_tree(tmp_path)
    (folder / "validation" / "good" / "000_regular.png").write_bytes(b"")
    (folder / "test_public" / "ground_truth" / "bad" / "000_regular_mask.png").unlink()
    benchmark = MVTecAD2(root=tmp_path, **SMALL)
    with pytest.raises(InputError, match="2 file.*") as caught:
        check_split("can", benchmark.split("can"))
    assert "validation/good/000_regular.png: unreadable" in str(caught.value)
    assert "bad/000_regular.png: anomalous, but has no mask" in str(caught.value)
    found = list(problems(benchmark, {"can": benchmark.split("can")}))
    assert f"{folder}: 5 training images, published are 412" in found
    assert sum("validation/good/000_regular.png: unreadable" in each for each in found) == 1
    save(folder / "test_public" / "ground_truth" / "bad" / "009_mask.png", spotted(0)[1])
    with pytest.raises(InputError, match="masks: 1 of 2 belong to no image.*009_mask"):
        benchmark.split("can")
    with pytest.raises(InputError, match=r"mvtec-ad-2 \(after a form\)"):
        MVTecAD2(root=tmp_path / "nothing").tasks()


def test_mvtec_loco_joins_the_masks_of_an_image(tmp_path: Path) -> None:
    folder = loco_tree(tmp_path)
    benchmark = MVTecLOCO(root=tmp_path, **SMALL)
    split = benchmark.split("pushpins")
    assert (len(split.train), len(split.validation)) == (3, 2)
    assert named(split.test) == [
        "good/000.png",
        "logical_anomalies/000.png",
        "structural_anomalies/000.png",
    ]
    assert [item.kind for item in split.test] == ["", "logical_anomalies", "structural_anomalies"]
    data = AnomalyDataModule(benchmark)
    data.prepare_data()
    marked = [int(data.test_images[index]["mask"].sum()) for index in range(3)]
    assert marked == [0, 2 * 64, 64]
    mask = split.test[1].mask
    assert mask is not None
    assert read_mask(mask).sum() == 2 * 256
    # One problem for each kind of mistake, with its path.
    save(mask / "002.png", np.zeros((10, 10), np.uint8))
    found = list(problems(benchmark, {"pushpins": split}))
    assert f"{mask / '002.png'}: mask is 10×10, image is 64×64" in found
    with pytest.raises(ImageError, match="the masks in it differ in size"):
        read_mask(mask)
    for path in mask.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="this folder holds no mask"):
        check_split("pushpins", split)
    stray = folder / "ground_truth" / "logical_anomalies" / "007"
    save(stray / "000.png", np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match="masks: .*007 belongs to no image"):
        benchmark.split("pushpins")


def test_mvtec_loco_keeps_regions_and_their_saturation(tmp_path: Path) -> None:
    folder = loco_tree(tmp_path)
    benchmark = MVTecLOCO(root=tmp_path)
    defects = benchmark.defects("pushpins")
    assert {value: each.name for value, each in defects.items()} == {
        255: "1_additional_pushpin",
        254: "2_additional_pushpins",
        253: "broken",
    }
    good, logical, structural = benchmark.split("pushpins").test
    assert benchmark.regions(good) == []
    first, second = benchmark.regions(logical)
    assert (first.enough, second.enough) == (100, 256), "a threshold, and the whole region"
    assert not (first.mask & second.mask).any()
    assert [region.enough for region in benchmark.regions(structural)] == [128]
    assert Defect("dent", 0.5, True).enough(1) == 1, "no region is found by none of its pixels"
    config = folder / "defects_config.json"
    config.write_text(json.dumps(json.loads(config.read_text())[1:]))
    with pytest.raises(ImageError, match=r"000.png: holds the values \[255\]; expected"):
        benchmark.regions(logical)
    config.write_text('[{"pixel_value": 255}]')
    with pytest.raises(InputError, match=r"defects_config.json is missing or not as published"):
        benchmark.split("pushpins")


def test_mvtec_loco_is_measured_by_its_saturated_overlap(tmp_path: Path) -> None:
    """On the grid of the images, and of maps of half the size."""
    loco_tree(tmp_path)
    data = AnomalyDataModule(MVTecLOCO(root=tmp_path, resize=64, crop=64))
    (batch,) = data.test_dataloader()
    regions = [
        (image, region.mask, region.enough)
        for image, item in enumerate(data.split.test)
        for region in data.benchmark.regions(item)
    ]
    masks = batch["mask"].numpy()
    for image in range(3):
        own = [mask for of, mask, _ in regions if of == image]
        assert (masks[image] == np.any([np.zeros((64, 64), bool), *own], axis=0)).all()
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(np.round(rng.random((3, 64, 64), np.float32), 2))  # with ties
    evaluation = Evaluation()
    evaluation.group({"logical": [1], "structural": [2]}, 3)
    evaluation.update_batch(batch, maps, maps.amax((1, 2)))
    found = evaluation.compute()
    for name, limit in (("pixel_spro", 0.3), ("pixel_spro_005", 0.05)):
        expected = plain_spro(masks, maps.numpy(), regions, limit)
        assert found[name] == pytest.approx(expected, abs=1e-6)
        expected = plain_spro(masks, maps.numpy(), regions[:2], limit)
        assert evaluation.pixels_of("logical")[name] == pytest.approx(expected, abs=1e-6)
    evaluation.reset()
    evaluation.update_batch(batch, maps[:, ::2, ::2], maps.amax((1, 2)))
    assert 0 < evaluation.compute()["pixel_spro"] < 1


@pytest.mark.parametrize("nested", [True, False])
def test_real_iad(tmp_path: Path, nested: bool) -> None:
    real_iad_tree(tmp_path, nested=nested)
    benchmark = RealIAD(tmp_path, **SMALL)
    assert (benchmark.name, benchmark.tasks()) == ("real_iad", ["pcb"])
    split = benchmark.split("pcb")
    assert len(split.train) == 4
    assert [item.label for item in split.test] == [0, 0, 1, 0], "no visible defect is normal"
    anomalous = split.test[2]
    assert anomalous.kind == "HS"
    assert anomalous.mask == anomalous.path.with_suffix(".png")
    assert anomalous.path.is_relative_to(tmp_path / "realiad_1024" / "pcb")
    data = AnomalyDataModule(benchmark)
    data.prepare_data()
    assert data.test_images[2]["mask"].sum() == 64
    single = RealIAD(tmp_path, views="single", resolution=256, **SMALL).split("pcb")
    assert [len(single.train), [item.label for item in single.test]] == [2, [0, 1]]
    assert single.test[1].path.is_relative_to(tmp_path / "realiad_256")


def test_real_iad_names_what_is_wrong(tmp_path: Path) -> None:
    real_iad_tree(tmp_path)
    for values in ({"views": "top"}, {"resolution": 300}):
        with pytest.raises(ValueError, match=f"^{next(iter(values))} must be one of"):
            RealIAD(tmp_path, **values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="root: no real_iad data.*\n.*realiad_<resolution>"):
        RealIAD(tmp_path, resolution="raw").tasks()
    table = tmp_path / "realiad_jsons" / "realiad_jsons" / "pcb.json"
    table.write_text(json.dumps({"train": [], "test": [{"image_path": "a.jpg"}]}))
    with pytest.raises(InputError, match=r"pcb.json is not as published \(KeyError: 'mask_path'"):
        RealIAD(tmp_path).split("pcb")


def test_kolektor_sdd2(tmp_path: Path) -> None:
    kolektor_tree(tmp_path)
    save(tmp_path / "train" / "10001 (copy).png", spotted(0)[0])
    benchmark = KolektorSDD2(root=tmp_path, resize=96)
    assert (benchmark.name, benchmark.tasks()) == ("kolektor_sdd2", ["kolektor_sdd2"])
    split = benchmark.split("kolektor_sdd2")
    assert [item.path.name for item in split.train] == ["10000.png", "10002.png", "10003.png"]
    assert [item.label for item in split.test] == [0, 1, 0]
    assert [item.mask and item.mask.name for item in split.test] == [None, "20001_GT.png", None]
    data = AnomalyDataModule(benchmark)
    data.prepare_data()
    assert data.test_images[1]["image"].shape == (3, 96, 32), "whole"
    assert data.test_images[1]["mask"].any()
    (tmp_path / "test" / "20002_GT.png").unlink()
    with pytest.raises(InputError, match="20002.png has no 20002_GT.png beside it"):
        benchmark.split("kolektor_sdd2")
    assert KolektorSDD2(root=tmp_path / "test").available() == []


def test_vad(tmp_path: Path) -> None:
    benchmark = VAD(root=vad_tree(tmp_path), **SMALL)
    assert (benchmark.name, benchmark.tasks()) == ("vad", ["vad"])
    split = benchmark.split("vad")
    assert named(split.train) == ["good/0001.png", "good/0002.png"]
    assert [item.kind for item in split.test] == [
        *["bad"] * 2,
        *["bad_unseen_defects"] * 2,
        *[""] * 2,
    ]
    assert not split.has_masks
    check_split("vad", split)


def test_published_counts_add_up() -> None:
    totals = {
        kind: Counts(*map(sum, zip(*kind.published.values(), strict=True)))
        for kind in (MVTecAD2, MVTecLOCO)
    }
    assert totals == {MVTecAD2: (2528, 379, 705), MVTecLOCO: (1778, 575, 561 + 432)}
    assert (len(MVTecAD2.published), len(MVTecLOCO.published)) == (8, 5)
