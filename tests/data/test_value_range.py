"""The range of stored values of more than 8 bits: given or learned, and reported."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from occ_lab.data import Folder
from occ_lab.data.any_image import as_rgb
from occ_lab.data.datasets.folder import Folder as FolderBenchmark
from occ_lab.data.value_range import Extremes, as_range, eight_bits, range_of
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


def parts(folder: Path, top: int = 4095, kind: str = "uint16", count: int = 5) -> Path:
    """A folder of grey images whose brightest one reaches ``top``."""
    for number in range(count):
        values = np.linspace(0, top * (number + 1) / count, 64 * 64).reshape(64, 64)
        if kind == "uint16":
            save(folder / f"{number}.png", values.astype(kind))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / f"{number}.tif", values.astype(kind))
    return folder


@pytest.mark.parametrize(
    ("high", "found"),
    [
        *((200, 255), (255, 255), (256, 1023), (1023, 1023), (3000, 4095), (9000, 16383)),
        *((20_000, 65535), (70_000, 2**20 - 1), (2**31, 2**32 - 1)),
    ],
)
def test_integers_have_the_bits_of_a_camera(high: int, found: int) -> None:
    assert range_of([Extremes(0, 7, True), Extremes(5, high, True)]) == (0, found)


def test_floats_and_negative_integers_have_their_extremes() -> None:
    assert range_of([Extremes(-0.5, 1.0, False), Extremes(0.0, 2.5, False)]) == (-0.5, 2.5)
    assert range_of([Extremes(-1000, 3000, True)]) == (-1000, 3000)
    assert range_of([Extremes(2.0, 2.0, False)]) == (2.0, 3.0)


@pytest.mark.parametrize(
    "wrong", [[1], [1, 1], [2, 1], "01", ["a", 1], [0, float("inf")], [0, True]]
)
def test_a_wrong_range_is_told(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ValueError, match="^range must be two numbers"):
        as_range(wrong)  # type: ignore[arg-type]


def test_it_is_learned_from_the_training_images_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    data = Folder(parts(tmp_path / "n"), train_share=0.6, resize=64, crop=64)
    data.prepare_data()
    assert data.preprocessing.range == (0, 4095)
    assert "0 to 4095 (12 bits) become 0 to 255, by the training images" in caplog.text
    # The brighter image stays the brighter one.
    tops = [float(data.test_images[index]["image"].max()) for index in range(2)]
    files = [item.path for item in data.split.test]
    stored = [float(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max()) / 4095 for path in files]
    assert tops == pytest.approx(stored, abs=1 / 255)
    caplog.clear()
    Folder(tmp_path / "n", train_share=0.6).prepare_data()
    assert caplog.text.count("become 0 to 255") == 1


def test_it_is_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = Folder(parts(tmp_path / "n"), range=[0, 16383], resize=64, crop=64)
    data.prepare_data()
    assert data.preprocessing.range == (0, 16383)
    assert "0 to 16383 (14 bits) become 0 to 255, as given" in caplog.text
    assert max(float(each["image"].max()) for each in data.train_images) < 65 / 255


@pytest.mark.parametrize("kind", ["int32", "float32", "float64"])
def test_tiffs_of_all_numbers(tmp_path: Path, kind: str) -> None:
    data = Folder(parts(tmp_path / "n", top=3000, kind=kind), resize=64, crop=64)
    data.prepare_data()
    assert data.preprocessing.range is not None
    assert data.preprocessing.range[1] >= 1800
    assert max(len(each["image"].unique()) for each in data.train_images) > 150


def test_eight_bits_stay_as_they_are(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / "n" / f"{number}.png", noise(number))
    data = Folder(tmp_path / "n", range=[0, 100], resize=64, crop=64)
    data.prepare_data()
    assert (data.train_images.pixels(0) == noise(data_number(data))).all()
    assert Folder(tmp_path / "n").preprocessing.range is None


def data_number(data: Folder) -> int:
    return int(data.split.train[0].path.stem)


def test_deep_test_images_of_eight_bit_training_images_need_a_range(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "n" / f"{number}.png", noise(number))
    bad = parts(tmp_path / "bad", count=1)
    data = Folder(tmp_path / "n", bad, train_share=0.5)
    with pytest.raises(InputError, match=rf"^range: {bad}/0.png has values of more than 8 bits"):
        data.prepare_data()
    Folder(tmp_path / "n", bad, train_share=0.5, range=[0, 4095]).prepare_data()


def test_skipped_files_and_pages_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pages = [Image.fromarray(noise(number)) for number in range(4)]
    for number in range(4):
        several = {"save_all": True, "append_images": pages[:2]}
        (tmp_path / "n").mkdir(exist_ok=True)
        pages[number].save(tmp_path / "n" / f"{number}.tif", **(several if number == 2 else {}))
    (tmp_path / "n" / "film.mp4").touch()
    Folder(tmp_path / "n").prepare_data()
    assert f"1 file is not an image and is skipped: {tmp_path}/n/film.mp4" in caplog.text
    assert f"pages or frames: only the first one is used: {tmp_path}/n/2.tif" in caplog.text


def test_given_range_of_a_benchmark_reaches_every_image(tmp_path: Path) -> None:
    benchmark = FolderBenchmark("p", parts(tmp_path / "n"), range=(0, 8190))
    item = benchmark.split("p").train[0]
    assert benchmark.read(item).dtype == np.uint16
    assert benchmark.preprocessing("p").range == (0, 8190)


def test_arrays_and_pillow_images_of_more_bits() -> None:
    values = np.array([[0, 2048, 4095]], np.uint16)
    wanted = np.stack([np.array([[0, 128, 255]], np.uint8)] * 3, -1)
    for image in (values, values.astype(np.int32), Image.fromarray(values), values[..., None]):
        assert np.array_equal(as_rgb(image, (0, 4095)), wanted)
        with pytest.raises(ValueError, match=r"range=\[0, 4095\]"):
            as_rgb(image)
    planes = torch.from_numpy(np.stack([values.astype(np.int32)] * 3))
    assert np.array_equal(as_rgb(planes, (0, 4095)), wanted)
    # Floats are in 0..1, whatever the range is.
    assert np.array_equal(as_rgb(values / 4095, (0, 7)), wanted)
    assert eight_bits(np.array([[-3, 300]], np.int16), (0, 255))[0, :, 0].tolist() == [0, 255]
