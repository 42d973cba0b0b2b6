"""What MVTec's server gets: a run on MVTec AD 2, its threshold, its private test images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.predict import perform_predict
from occ_lab.config.train import perform_run
from occ_lab.inference.predict import predict
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_ad2_tree
from tests.inference.runs import SMALL

RUN = [
    *(*SMALL, "dataset=mvtec_ad2", "dataset.resize=64", "loss=norm", "moments=true"),
    *("backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and a run on it, ``run``, with features of the cache."""
    folder = tmp_path_factory.mktemp("ad2")
    mvtec_ad2_tree(folder / "data")
    cache = ["cache.enabled=true", f"cache.dir='{folder}/cache'"]
    root = f"dataset.root='{folder}/data'"
    perform_run(composed("train", [*RUN, *cache, root]), folder / "run")
    return folder


def predicted(folder: Path, out: Path, given: str, *overrides: str) -> Any:
    asked = [f"run='{folder}/run'", f"input='{folder}/{given}'", "device=cpu", "gallery=false"]
    return perform_predict(composed("predict", [*asked, *overrides]), out)


def test_the_validation_images_give_the_threshold(run: Path) -> None:
    task = run / "run" / "tasks" / "can"
    found = json.loads((task / "metrics.json").read_text())
    assert (found["n_train"], found["n_test"]) == (5, 4), "the public images"
    calibration = found["calibration"]
    assert (calibration["images"], calibration["asked"]) == (4, 0.2)
    with (task / "training.csv").open(newline="") as file:
        uses = [(Path(row["path"]).parts[-3], row["use"]) for row in csv.DictReader(file)]
    assert uses == [("train", "train")] * 5 + [("validation", "calibration")] * 4
    detector = occ_lab.load(run / "run")
    assert detector.calibration is not None
    paths = sorted((run / "data" / "can" / "validation" / "good").iterdir())
    scores = detector.score(paths).image.double().sort().values
    np.testing.assert_allclose(detector.calibration.scores, scores, rtol=1e-2)  # float16 features
    pixels = np.stack(detector.detector.score(paths).map).astype(np.float64)
    threshold = pixels.mean() + 3 * pixels.std()
    assert calibration["segmentation"] == pytest.approx(threshold, rel=1e-2)
    assert 0 <= found["pixel_segf1"] <= found["pixel_f1max"]


def test_maps_and_masks_of_the_private_images(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sent"
    given = "data/can/test_private*/*.png"
    found = predicted(run, tmp_path / "out", given, f"submission='{folder}'")
    assert (found.scored, found.failed) == (3, {})
    assert f"submission: {folder}" in capsys.readouterr().out
    names = ["test_private/000_regular", "test_private/001_regular", "test_private_mixed/000_mixed"]
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.relative_to(folder).as_posix() for path in written] == [
        *(f"anomaly_images/can/{name}.tiff" for name in names),
        *(f"anomaly_images_thresholded/can/{name}.png" for name in names),
    ]
    detector = occ_lab.load(run / "run")
    threshold = detector.pixel_threshold
    assert threshold is not None
    for name, tiff, png in zip(names, written[:3], written[3:], strict=True):
        maps = detector.score([run / "data" / "can" / f"{name}.png"]).maps
        assert maps is not None
        values, mask = tifffile.imread(tiff), np.asarray(Image.open(png))
        assert (values.dtype, values.shape) == (np.float16, (64, 64))
        np.testing.assert_allclose(values, maps[0].numpy() / threshold, rtol=2e-3)
        assert (mask.dtype, mask.shape, set(np.unique(mask)) <= {0, 255}) == ("uint8", (64, 64), 1)
        np.testing.assert_array_equal(mask > 0, maps[0].numpy() > threshold)


def test_what_cannot_be_sent_is_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    to = f"submission='{tmp_path}/sent'"
    with pytest.raises(InputError, match="submission: .* is not an image of can/test_private"):
        predicted(run, tmp_path / "out", "data/can/test_public/bad", to)
    detector = occ_lab.load(run / "run")
    paths = sorted((run / "data" / "can" / "test_private").iterdir())
    for part, value in (("task", "rice"), ("calibration", None)):
        setattr(detector, part, value)
        with pytest.raises(InputError, match="of rice/test_private|no threshold of pixels"):
            predict(detector, paths, tmp_path / "out", submission=tmp_path / "sent")
        detector.task = "can"
    assert not (tmp_path / "sent").exists()
    assert not (tmp_path / "out").exists()


def test_a_map_that_cannot_be_written_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "sent").write_text("a file in place of the folder")
    given = "data/can/test_private_mixed"
    found = predicted(run, tmp_path / "out", given, f"submission='{tmp_path}/sent'")
    assert [reason.partition(" (")[0] for reason in found.failed.values()] == [
        "no map of it in the submission"
    ]


def test_the_rate_must_be_one_that_the_validation_images_can_keep(
    run: Path, tmp_path: Path
) -> None:
    asked = [*RUN, f"dataset.root='{run}/data'", "calibration.overkill=0.1"]
    with pytest.raises(InputError, match=r"overkill: 0.1 needs at least 9 .* keeps 4 apart"):
        perform_run(composed("train", asked), tmp_path / "run")
    perform_run(composed("train", [*asked[:-1], "calibration.folds=0"]), tmp_path / "off")
    assert not (tmp_path / "off" / "tasks" / "can" / "calibration.json").exists()
