"""CelebA's lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.celeba import CelebA
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save

# file, partition, Eyeglasses, Smiling
FACES = [
    ("000001.jpg", 0, -1, 1),
    ("000002.jpg", 0, 1, 1),
    ("000003.jpg", 0, -1, -1),
    ("000004.jpg", 1, -1, -1),
    ("000005.jpg", 2, 1, -1),
    ("000006.jpg", 2, -1, 1),
]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "celeba"
    for place, (name, *_) in enumerate(FACES):
        save(folder / "img_align_celeba" / name, noise(place, 40))
    attributes = [f"{name} {glasses:2d} {smile:2d}" for name, _, glasses, smile in FACES]
    lines = ["6", "Eyeglasses Smiling ", *attributes, ""]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines))
    parts = "\n".join(f"{name} {part}" for name, part, *_ in FACES)
    (folder / "list_eval_partition.txt").write_text(parts + "\n")
    return tmp_path


def test_no_glasses_are_normal(faces: Path) -> None:
    benchmark = CelebA(faces, name="celeba", resize=32, crop=32)
    assert benchmark.kind == "semantic"
    assert benchmark.tasks() == ["no_Eyeglasses"]
    data = AnomalyDataModule(benchmark, "no_Eyeglasses", 2)
    data.prepare_data()
    assert [item.path.name for item in data.split.train] == ["000001.jpg", "000003.jpg"]
    assert [item.label for item in data.split.test] == [1, 0]


def test_another_attribute(faces: Path) -> None:
    benchmark = CelebA(faces, "Smiling", "present", name="celeba")
    assert benchmark.tasks() == ["Smiling"]
    split = benchmark.split("Smiling")
    assert [item.path.name for item in split.train] == ["000001.jpg", "000002.jpg"]
    assert [item.label for item in split.test] == [1, 0]
    with pytest.raises(InputError, match=r"no Hat; there are Eyeglasses, Smiling"):
        CelebA(faces, "Hat", name="c").split("no_Hat")
    with pytest.raises(ValueError, match=r"^normal must be absent or present"):
        CelebA(faces, normal="no", name="c")  # type: ignore[arg-type]
    (faces / "celeba" / "list_eval_partition.txt").unlink()
    assert CelebA(faces, name="c").available() == []
