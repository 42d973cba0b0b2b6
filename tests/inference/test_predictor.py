"""A detector loaded from a run directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import occ_lab
from occ_lab.data.any_image import as_rgb
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree, noise
from tests.inference.runs import (
    OBJECTIVES,
    change_checkpoint,
    trained,
    trained_on_classes,
    written,
)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closed")
    settings = ["loss.time=3", "calibration.folds=2", "calibration.overkill=0.3"]
    network = "backbone=efficientnet_lite0"  # whose weights are not random
    return trained(folder, network, *OBJECTIVES["closed_form"], *settings)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_scores_as_the_run_did(tmp_path: Path, name: str) -> None:
    directory = trained(tmp_path, *OBJECTIVES[name])
    paths, scores = written(directory, "bolt")
    found = occ_lab.load(directory).score(paths)
    torch.testing.assert_close(found.image, scores, rtol=1e-4, atol=1e-6)
    assert found.maps is not None
    assert found.maps.shape == (len(paths), 64, 64)
    assert found.p_values is None
    assert found.anomalous is None


@pytest.mark.parametrize("more", [[], ["backbone=lenet", "loss=svdd", "pretrain.epochs=1"]])
def test_whole_images_have_no_maps(tmp_path: Path, more: list[str]) -> None:
    directory = trained_on_classes(tmp_path, *more)
    paths, scores = written(directory, "dot")
    found = occ_lab.load(directory).score(paths)
    torch.testing.assert_close(found.image, scores, rtol=1e-4, atol=1e-6)
    assert found.maps is None


def test_all_kinds_of_images_are_the_same_image(closed: Path) -> None:
    detector = occ_lab.load(closed)
    paths, _ = written(closed, "bolt")
    path = Path(paths[0])
    with Image.open(path) as file:
        image = file.convert("RGB")
    pixels = np.asarray(image)
    planar = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    kinds = [path, str(path), image, pixels, planar, planar.float() / 255, pixels / 255]
    found = detector.score(kinds)
    assert torch.unique(found.image).numel() == 1
    assert detector.score(planar[None]).image == found.image[0]
    assert detector.score(path).image == found.image[0]


def test_batches_and_order_change_nothing(closed: Path) -> None:
    detector = occ_lab.load(closed)
    paths, _ = written(closed, "bolt")
    whole = detector.score(paths)
    parts = detector.score(paths[::-1], batch_size=2, maps=False)
    torch.testing.assert_close(parts.image.flip(0), whole.image, rtol=1e-5, atol=1e-6)
    assert parts.maps is None


def test_decisions_follow_the_calibration(closed: Path) -> None:
    detector = occ_lab.load(closed)
    assert detector.calibration is not None
    assert len(detector.calibration.scores) == 6
    found = detector.score([noise(900 + index) for index in range(4)])
    assert found.p_values is not None
    assert found.anomalous is not None
    assert (found.anomalous == (found.p_values <= 0.3 + 1e-9)).all()
    assert (found.p_values >= 1 / 7).all()


def test_a_grey_image_of_any_size_is_taken(closed: Path) -> None:
    found = occ_lab.load(closed).score(np.full((91, 33), 128, np.uint8))
    assert torch.isfinite(found.image).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 2), np.uint8), "colours"),
        (np.zeros((4, 4, 3), np.int32), "more than 8 bits"),
        (np.full((4, 4, 3), 7.0), "outside 0..1"),
        (np.full((4, 4, 3), np.nan), "outside 0..1"),
        (np.zeros(4, np.uint8), "no image"),
        (torch.zeros(4, 4), "no image"),
        (3, "no image"),
    ],
)
def test_what_is_no_image_is_refused(image: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        as_rgb(image)  # type: ignore[arg-type]


def test_a_run_of_several_tasks_wants_a_name(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "parts", "nut")
    directory = trained(tmp_path, *OBJECTIVES["closed_form"])
    with pytest.raises(InputError, match="this run has bolt, nut; name one"):
        occ_lab.load(directory)
    with pytest.raises(InputError, match="no screw"):
        occ_lab.load(directory, task="screw")
    assert occ_lab.load(directory, task="nut").task == "nut"


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no trained detector"):
        occ_lab.load(tmp_path)


def test_other_weights_are_refused(closed: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(closed, tmp_path / "run")

    def weights(given: str) -> None:
        def change(checkpoint: dict[str, Any]) -> None:
            checkpoint["hyper_parameters"]["backbone"]["arguments"]["weights"] = given

        change_checkpoint(directory, "bolt", change)

    weights("random")
    with pytest.raises(InputError, match="another backbone or other weights"):
        occ_lab.load(directory)
    weights(str(tmp_path / "gone.safetensors"))
    with pytest.raises(InputError, match="gone.safetensors"):
        occ_lab.load(directory)


def test_a_damaged_checkpoint_is_named(closed: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(closed, tmp_path / "run")
    (directory / "tasks" / "bolt" / "checkpoints" / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="cannot be read safely"):
        occ_lab.load(directory)


def test_it_keeps_no_gradients(closed: Path) -> None:
    found = occ_lab.load(closed)
    assert not found.score(noise(1)).image.requires_grad
    assert not found.detector.training
