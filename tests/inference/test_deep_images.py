"""Images of more than 8 bits: training, prediction and stream read their values alike."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import occ_lab
from occ_lab.backbones import TimmBackbone
from occ_lab.config.composition import composed
from occ_lab.config.stream import perform_stream
from occ_lab.data.any_image import as_rgb
from occ_lab.inference.predict import predict
from occ_lab.utils.errors import ImageError
from tests.data.trees import noise, save
from tests.inference.runs import change_checkpoint


def deep(seed: int) -> np.ndarray:
    """A texture of 12 bits, uint16 ``[64, 64]``, brighter than 2047 somewhere."""
    return noise(seed)[..., 0].astype(np.uint16) * 13


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    for number in range(8):
        save(folder / "normal" / f"{number}.png", deep(number))
    data = occ_lab.data.Folder(folder / "normal", train_share=0.75, resize=64)
    backbone = TimmBackbone("test_resnet", weights="random")
    objective = occ_lab.objectives.PaDiM()
    occ_lab.fit(data, objective, backbone, cache=False, directory=folder / "run")
    return folder


def test_a_run_keeps_the_range(run: Path, tmp_path: Path) -> None:
    detector = occ_lab.load(run / "run").detector
    assert detector.frame.range == (0, 4095)
    eight = np.rint(deep(3) / 4095 * 255).astype(np.uint8)
    forms = [run / "normal" / "3.png", deep(3), Image.fromarray(deep(3)), eight]
    scores = detector.score(forms).score
    torch.testing.assert_close(scores, scores[:1].expand(4))
    tifffile.imwrite(tmp_path / "3.tif", deep(3).astype(np.float32))
    torch.testing.assert_close(detector.score(tmp_path / "3.tif").score, scores[:1])


def test_predict_reads_with_the_range_of_the_run(run: Path, tmp_path: Path) -> None:
    predictor = occ_lab.load(run / "run")
    paths = [run / "normal" / "3.png", run / "normal" / "4.png"]
    done = predict(predictor, paths, tmp_path, heatmaps=True)
    assert (done.scored, done.failed) == (2, {})
    assert len(list((tmp_path / "heatmaps").rglob("*.png"))) == 2
    table = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    scores = [float(line.split(",")[1]) for line in table]
    assert scores == pytest.approx(predictor.score(paths).image.tolist(), rel=1e-5)


def test_what_is_too_large_or_damaged_is_named_and_the_rest_scored(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (400, 300)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("no image")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    paths = [tmp_path / "huge.png", tmp_path / "text.png", run / "normal" / "3.png"]
    done = predict(occ_lab.load(run / "run"), paths, tmp_path / "out")
    assert done.scored == 1
    assert "more than 100,000 pixels" in done.failed[tmp_path / "huge.png"]
    assert set(done.failed) == set(paths[:2])


def test_a_detector_of_eight_bits_refuses_values_of_more(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    name = occ_lab.load(run / "run").task

    def of_eight_bits(content: dict) -> None:
        content["hyper_parameters"]["preprocessing"]["range"] = None

    change_checkpoint(tmp_path / "run", name, of_eight_bits)
    detector = occ_lab.load(tmp_path / "run").detector
    with pytest.raises(ImageError, match=r"3.png: its values have more than 8 bits .*range=\[0, "):
        detector.score(run / "normal" / "3.png")
    detector.score(noise(3))

    def of_an_earlier_version(content: dict) -> None:
        del content["hyper_parameters"]["preprocessing"]["range"]

    change_checkpoint(tmp_path / "run", name, of_an_earlier_version)
    detector = occ_lab.load(tmp_path / "run").detector
    assert detector.frame.range == (0, 65535)
    assert detector.score(run / "normal" / "3.png").score == pytest.approx(
        float(detector.score(as_rgb(deep(3), (0, 65535))).score)
    )


def test_a_stream_learns_the_range_of_its_files(run: Path, tmp_path: Path) -> None:
    small = ["dataset.resize=64", "dataset.crop=whole", "logger=none", "cache.enabled=false"]
    small += ["backbone.name=test_resnet", "backbone.weights=random", "trainer.accelerator=cpu"]
    given = [f"input={run}/normal", *small]
    perform_stream(composed("stream", given), tmp_path / "stream")
    assert occ_lab.load(tmp_path / "stream").detector.frame.range == (0, 4095)
    given = [*given, "dataset.range=[0,8190]"]
    perform_stream(composed("stream", given), tmp_path / "given")
    assert occ_lab.load(tmp_path / "given").detector.frame.range == (0, 8190)


def test_a_full_disk_costs_pictures_and_no_figures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("occ_lab.inference.predict.save_heatmap", full)
    paths = [run / "normal" / "3.png", run / "normal" / "4.png"]
    done = predict(occ_lab.load(run / "run"), paths, tmp_path, heatmaps=True)
    assert (done.scored, len(done.table.read_text().splitlines())) == (2, 3)
    assert caplog.text.count("No space left") == 2
    monkeypatch.setattr("occ_lab.engine.task_pictures.save_pictures", full)
    data = occ_lab.data.Folder(run / "normal", train_share=0.75, resize=64)
    backbone = TimmBackbone("test_resnet", weights="random")
    occ_lab.fit(data, occ_lab.objectives.PaDiM(), backbone, cache=False, directory=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert "some heatmaps are missing" in caplog.text
