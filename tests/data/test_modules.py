"""The data modules by name: they construct, hold one task, and match the YAML files."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import occ_lab.data
from occ_lab.config.composition import composed, conf_dir
from occ_lab.data import AnomalyDataModule, modules
from occ_lab.data.listing import configured
from occ_lab.data.modules import NamedDataModule
from occ_lab.utils.errors import InputError
from tests.data.trees import class_tree, mvtec_tree, noise, save

LISTED = configured(Path(conf_dir(), "dataset"))
NAMED = {
    name: each
    for name, each in vars(modules).items()
    if inspect.isclass(each) and issubclass(each, NamedDataModule) and each is not NamedDataModule
}
SMALL = {"resize": 32, "crop": 32, "batch_size": 2}


def test_every_benchmark_has_a_data_module() -> None:
    assert {each.of for each in NAMED.values()} == {each.benchmark for each in LISTED.values()}
    assert set(NAMED) < set(occ_lab.data.__all__)
    for name in occ_lab.data.__all__:
        assert getattr(occ_lab.data, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        occ_lab.data.Nothing  # noqa: B018


@pytest.mark.parametrize("name", LISTED)
def test_defaults_are_those_of_the_configuration(name: str, tmp_path: Path) -> None:
    """A data module and the command show the same images to a model."""
    cfg = composed("train", [f"dataset={name}"]).dataset
    given: dict[str, Any] = {"normal": tmp_path} if name == "folder" else {}
    preset = modules.RDMVTecAD.preset if name == "mvtec_rd" else {}
    benchmark = LISTED[name].benchmark(**preset, **given)
    assert (benchmark.name == name) or name == "mvtec_rd"
    for key in ("kind", "resize", "crop", "rotate", "random_crop", "test_seed", "contamination"):
        assert getattr(benchmark, key) == cfg[key], key
    if "root" in cfg and name != "textures":
        assert benchmark.root == Path(cfg.root)


def test_layouts_of_mvtec_ad(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, train=4)
    for module in (occ_lab.data.MVTecAD, occ_lab.data.MPDD, occ_lab.data.BTAD):
        data = module(tmp_path, "bolt", **SMALL)
        data.prepare_data()
        assert (data.task, data.kind, len(data.train_images)) == ("bolt", "structured", 4)
        assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 32, 32)
    data = occ_lab.data.RDMVTecAD(tmp_path, "bolt", **SMALL)
    assert data.benchmark.random
    assert data.preprocessing == occ_lab.data.Preprocessing(32, 32)


def test_other_layouts_of_defects(tmp_path: Path) -> None:
    for place in range(5):
        save(tmp_path / "tiles" / "MT_Free" / "Imgs" / f"{place}.jpg", noise(place))
        save(tmp_path / "good" / f"{place}.png", noise(place))
    for place in range(102):
        save(tmp_path / "pcb1" / "Data" / "Images" / "Normal" / f"{place:03}.JPG", noise(place, 8))
    tiles = occ_lab.data.MagneticTile(tmp_path / "tiles", **SMALL)
    assert (len(tiles.train_images), len(tiles.test_images)) == (4, 1)
    folder = occ_lab.data.Folder(tmp_path / "good", train_share=0.6, **SMALL)
    assert (folder.task, len(folder.train_images)) == ("folder", 3)
    visa = occ_lab.data.VisA(tmp_path, "pcb1", **SMALL)
    assert (len(visa.train_images), len(visa.test_images)) == (2, 100)


def test_layouts_of_classes(tmp_path: Path) -> None:
    class_tree(tmp_path, ("cat", "dog"), train=3, test=2)
    for module in (
        occ_lab.data.ClassFolder,
        occ_lab.data.CatsAndDogs,
        occ_lab.data.CIFAR10,
        occ_lab.data.CIFAR100,
    ):
        data = module(tmp_path, "dog", **SMALL)
        assert (data.kind, len(data.train_images), len(data.test_images)) == ("semantic", 3, 4)
        assert [item.label for item in data.split.test] == [1, 1, 0, 0]


def test_one_task_is_held(tmp_path: Path) -> None:
    mvtec_tree(tmp_path, "bolt")
    assert occ_lab.data.MVTecAD(tmp_path).task == "bolt", "the one there is"
    mvtec_tree(tmp_path, "nut")
    several = r"^category: mvtec has 2 tasks here \(bolt, nut\), and a data module holds one"
    with pytest.raises(InputError, match=several) as error:
        occ_lab.data.MVTecAD(tmp_path)
    assert error.value.part == "dataset"
    with pytest.raises(InputError, match=r"^category: .* 2 tasks"):
        occ_lab.data.MVTecAD(tmp_path, ["nut", "bolt"])
    with pytest.raises(InputError, match=r"^category: no cap in .*found: bolt, nut"):
        occ_lab.data.MVTecAD(tmp_path, "cap")
    with pytest.raises(InputError, match=r"^root: no visa data in"):
        occ_lab.data.VisA(tmp_path / "nowhere")


def test_a_benchmark_of_ones_own_needs_two_methods(tmp_path: Path) -> None:
    from occ_lab.data import Benchmark, Item, Split

    folder = mvtec_tree(tmp_path, train=3)

    class BrightBolts(Benchmark):
        def available(self) -> list[str]:
            return ["bolts"] if self.root.is_dir() else []

        def published_split(self, task: str) -> Split:
            train = [Item(path, 0) for path in sorted((folder / "train" / "good").iterdir())]
            test = [Item(path, 1) for path in sorted((folder / "test" / "dent").iterdir())]
            return Split(train, test)

    benchmark = BrightBolts(root=tmp_path)
    assert benchmark.name == "bright_bolts"
    data = AnomalyDataModule(benchmark)
    data.prepare_data()
    assert next(iter(data.test_dataloader()))["image"].shape == (3, 3, 224, 224)
    with pytest.raises(InputError, match=r"^root: no bright_bolts data in .*data/bright_bolts\n"):
        AnomalyDataModule(BrightBolts())


def test_light_classes_import_no_torch() -> None:
    code = (
        "import sys, occ_lab.data, occ_lab.data.listing\n"
        "from occ_lab.data.datasets import mvtec, textures, cifar, celeba\n"
        "found = {'torch', 'hydra', 'albumentations', 'lightning'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_named_modules_are_documented() -> None:
    for each in (*NAMED.values(), AnomalyDataModule):
        assert each.__doc__
