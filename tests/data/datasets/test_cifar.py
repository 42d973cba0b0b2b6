"""CIFAR's files are read without running any code in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.datasets.cifar import CIFAR10, CIFAR100, read_pickle
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save

CLASSES = ["airplane", "bird", "cat"]


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def batch(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    for number in range(1, 6):
        write(folder / f"data_batch_{number}", {"data": batch(number, 3), "labels": [2, 0, 1]})
    write(folder / "test_batch", {"data": batch(9, 4), "labels": [0, 1, 2, 0]})
    write(folder / "batches.meta", {"label_names": CLASSES})
    return tmp_path


def test_packed_files(cifar10: Path) -> None:
    benchmark = CIFAR10(cifar10, name="cifar10", resize=32, crop=32)
    assert benchmark.tasks() == CLASSES
    data = AnomalyDataModule(benchmark, "bird", 2)
    data.prepare_data()
    assert len(data.train_images) == 5
    assert [item.label for item in data.split.test] == [1, 0, 1, 1]
    sample = data.train_images[1]
    assert sample["path"].endswith("data_batch_2#2")
    expected = batch(2, 3)[2].reshape(3, 32, 32)
    assert np.array_equal((sample["image"] * 255).round().byte().numpy(), expected)
    assert benchmark.expected("bird") == (16_666, 3_333, 6_666)


def test_folders_of_images(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for seed, name in enumerate(CLASSES):
            save(tmp_path / part / name / "0.png", noise(seed, 32))
    benchmark = CIFAR10(tmp_path, name="cifar10", resize=32, crop=32)
    assert benchmark.tasks() == CLASSES
    assert [item.label for item in benchmark.split("cat").test] == [1, 1, 0]
    assert benchmark.read(benchmark.split("cat").train[0]).shape == (32, 32, 3)


@pytest.mark.parametrize(("classes", "tasks"), [("super", 2), ("fine", 3)])
def test_superclasses(tmp_path: Path, classes: str, tasks: int) -> None:
    folder = tmp_path / "cifar-100-python"
    for part in ("train", "test"):
        labels = {"fine_labels": [0, 1, 2, 0], "coarse_labels": [1, 0, 0, 1]}
        write(folder / part, {"data": batch(0, 4), **labels})
    names = {
        "fine_label_names": ["apple", "bear", "beaver"],
        "coarse_label_names": ["beast", "fruit"],
    }
    write(folder / "meta", names)
    benchmark = CIFAR100(tmp_path, classes, name="c")  # type: ignore[arg-type]
    assert len(benchmark.tasks()) == tasks
    task = "fruit" if classes == "super" else "apple"
    assert len(benchmark.split(task).train) == 2
    with pytest.raises(ValueError, match=r"^classes must be super or fine"):
        CIFAR100(tmp_path, "all", name="c")  # type: ignore[arg-type]


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "evil", {"data": Evil()})
    with pytest.raises(InputError, match=r"evil: not a complete .* \(it would call .*mkdir"):
        read_pickle(tmp_path / "evil")
    assert not (tmp_path / "harm").exists()
    whole = pickle.dumps({"data": batch(0, 2)}, protocol=2)
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="half: not a complete CIFAR file"):
        read_pickle(tmp_path / "half")


def test_the_real_format_of_python_2(tmp_path: Path) -> None:
    """Python 2 wrote arrays by ``numpy.core.multiarray`` and their bytes as text."""
    pixels = b"".join(b"\\x%02x" % value for value in (0, 7, 255))
    text = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
        b"S'b'\np5\ntp6\nRp7\n(I1\n(I3\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n"
        b"(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'" + pixels + b"'\np15\ntp16\nbs."
    )
    (tmp_path / "old").write_bytes(text)
    assert read_pickle(tmp_path / "old")["data"].tolist() == [0, 7, 255]
