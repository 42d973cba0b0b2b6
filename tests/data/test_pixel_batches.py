"""Batches of pixels are the images in order, whoever reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from occ_lab.data import pixel_batches
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.pixel_batches import (
    image_batches,
    main_hidden,
    processes_pay,
    read_by_processes,
    read_by_threads,
)
from occ_lab.utils.memo import Memo
from tests.data.trees import mvtec_tree

CPU = torch.device("cpu")


def images_in(root: Path, crop: int = 64) -> TaskImages:
    benchmark = MVTec(root=root, resize=64, crop=crop)
    return TaskImages(benchmark, benchmark.split(benchmark.tasks()[0]).test)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 2]), (3, [3, 3]), (9, [6])])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_images_in_order(
    tmp_path: Path, batch_size: int, sizes: list[int], workers: int
) -> None:
    mvtec_tree(tmp_path, side=80)
    images = images_in(tmp_path, crop=48)
    read = list(image_batches(images, CPU, batch_size, workers))
    assert [len(image) for image in read] == sizes
    expected = torch.stack([images[index]["image"] for index in range(len(images))])
    assert torch.equal(torch.cat(read), expected)


def test_processes_read_what_threads_read(tmp_path: Path) -> None:
    """Up to the image that cannot be read, which they name in the same way."""
    mvtec_tree(tmp_path)
    images = images_in(tmp_path)
    images.memo = Memo(limit_mb=1)  # holds a lock, and masks that need not be sent
    whole = [list(read(images, 4, 2)) for read in (read_by_threads, read_by_processes)]
    assert [batch.dtype for batch in whole[1]] == [torch.uint8] * 2
    torch.testing.assert_close(*whole, rtol=0, atol=0)

    images.items[5].path.write_bytes(b"no image")
    messages = []
    for read in (read_by_threads, read_by_processes):
        batches: Iterator[Tensor] = read(images, 4, 2)
        assert torch.equal(next(batches), whole[0][0])
        with pytest.raises(OSError, match=images.items[5].path.name) as raised:
            next(batches)
        messages.append((type(raised.value), str(raised.value)))
    assert messages[0] == messages[1]


def test_processes_pay_for_many_images_of_an_importable_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mvtec_tree(tmp_path)
    images = images_in(tmp_path)
    assert not processes_pay(images, 4, workers=2)
    monkeypatch.setattr(pixel_batches, "PROCESSES_FROM", len(images))
    assert processes_pay(images, 4, workers=2)
    assert not processes_pay(images, 4, workers=1)
    assert not processes_pay(images, 10**9, workers=2)  # no room

    class Own(MVTec):
        """A class that other processes cannot import."""

    images.benchmark = Own(root=tmp_path, resize=64, crop=64)
    assert not processes_pay(images, 4, workers=2)
    Own.__qualname__, Own.__module__ = "Own", "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    assert not processes_pay(images, 4, workers=2)


def test_the_users_script_is_hidden_and_comes_back() -> None:
    own = sys.modules["__main__"]
    with main_hidden():
        assert not hasattr(sys.modules["__main__"], "__file__")
    assert sys.modules["__main__"] is own


@pytest.mark.parametrize("read", [read_by_threads, image_batches])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, read: Callable) -> None:
    folder = mvtec_tree(tmp_path) / "test" / "good"
    (folder / "001.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"001\.png"):
        list(read(images_in(tmp_path), *([CPU, 2] if read is image_batches else [2, 1])))
