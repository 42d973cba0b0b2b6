"""One-class tasks made of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.data.datasets.mnist import MNIST, FashionMNIST, read_idx
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for part, count in (("train", 4), ("test", 2)):
        for seed, name in enumerate(("cat", "dog", "owl")):
            for place in range(count):
                save(tmp_path / part / name / f"{place}.png", noise(10 * seed + place, 32))
    return tmp_path


def test_one_vs_rest(classes: Path) -> None:
    benchmark = ClassFolder(classes, name="c", resize=32, crop=32)
    assert benchmark.tasks() == ["cat", "dog", "owl"]
    split = benchmark.split("dog")
    assert {item.path.parent.name for item in split.train} == {"dog"}
    assert [item.label for item in split.test] == [1, 1, 0, 0, 1, 1]
    assert [i.path for i in split.test] == [i.path for i in benchmark.split("cat").test]
    assert not split.has_masks


def test_a_class_may_be_a_number(classes: Path) -> None:
    (classes / "train" / "cat").rename(classes / "train" / "7")
    (classes / "test" / "cat").rename(classes / "test" / "7")
    assert ClassFolder(classes, name="c", category=7).tasks() == ["7"]
    assert ClassFolder(classes, name="c", category=["owl", 7]).tasks() == ["owl", "7"]


def test_leave_one_out(classes: Path) -> None:
    benchmark = ClassFolder(classes, "leave_one_out", name="c", resize=32, crop=32)
    split = benchmark.split("dog")
    assert {item.path.parent.name for item in split.train} == {"cat", "owl"}
    assert [item.label for item in split.test] == [0, 0, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="^protocol must be"):
        ClassFolder(classes, "both", name="c")


def test_real_mnist(shared_data: Path) -> None:
    benchmark = MNIST(shared_data, name="mnist", resize=28, crop=28)
    assert benchmark.tasks() == [str(digit) for digit in range(10)]
    train = [name for name, _, _ in benchmark.classified("train")]
    test = [name for name, _, _ in benchmark.classified("test")]
    assert (len(train), len(test)) == (60_000, 10_000)
    task = AnomalyDataModule(benchmark, "3", batch_size=8)
    assert len(task.train_images) == train.count("3")
    sample = task.test_images[7]
    assert sample["path"].endswith("t10k-images-idx3-ubyte#7")
    assert sample["label"] == int(test[7] != "3")
    digit = read_idx(shared_data / "MNIST" / "raw" / "t10k-images-idx3-ubyte")[7]
    assert np.array_equal((sample["image"][0] * 255).round().byte().numpy(), digit)
    task.prepare_data()


def test_truncated_idx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]))
    assert read_idx(path).tolist() == [1, 2, 3]
    for place, content in enumerate((b"", b"no IDX file", bytes([0, 0, 8, 1, 0, 0, 0, 4, 1]))):
        broken = tmp_path / str(place)
        broken.write_bytes(content)
        with pytest.raises(OSError, match="not a complete IDX file"):
            read_idx(broken)


def test_fashion_mnist_has_its_own_folder_and_names(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, labels in (("train", [9, 0, 0]), ("t10k", [0, 5])):
        count = len(labels)
        header = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
        pixels = np.arange(count * 784).astype(np.uint8).tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels)
        head = bytes([0, 0, 8, 1, 0, 0, 0, count])
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + bytes(labels))
    benchmark = FashionMNIST(tmp_path, name="f", resize=28, crop=28)
    assert len(benchmark.tasks()) == 10
    split = benchmark.split("t-shirt")
    assert [item.index for item in split.train] == [1, 2]
    assert [item.label for item in split.test] == [0, 1]
    assert benchmark.read(split.test[1])[0, :2, 0].tolist() == [784 % 256, 785 % 256]
    assert benchmark.expected("sandal") == (6000, 1000, 9000)
    with pytest.raises(Exception, match=r"no f data in"):
        FashionMNIST(tmp_path / "none", name="f").tasks()


def test_a_damaged_packed_file_is_told(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"^root: .*not a complete IDX file.*get the data again"):
        MNIST(tmp_path, name="m").split("3")
