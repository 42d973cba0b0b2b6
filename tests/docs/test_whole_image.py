"""The loop over tiles of docs/whole_image.md gives the scores of the detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from occ_lab.backbones import TimmBackbone
from occ_lab.data.tiling import Tiles
from occ_lab.deploy.export import export
from occ_lab.detector import Detector
from occ_lab.inference.predictor import Predictor
from occ_lab.objectives.norm.objective import Norm
from tests.docs.pages import blocks


def test_the_loop_over_tiles_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    detector = Detector(
        TimmBackbone("resnet10t", weights="random", strides=[4, 8]),
        Norm(solver="gradient"),
        preprocessing=Tiles(64, 20),
    )
    made = export(Predictor(detector, "parts"), "parts_raw.onnx", format="onnx", input="raw")
    assert set(made.differences) == {"map"}
    image = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    Image.fromarray(image).save("part1.png")
    (block,) = blocks("docs/whole_image.md", "python")
    names: dict[str, Any] = {}
    exec(compile(block.text, "docs/whole_image.md", "exec"), names)
    score, heat = names["score"](image)
    with torch.inference_mode():
        expected = detector.score_pixels(image[None])
    assert score == pytest.approx(float(expected.score), rel=1e-4)
    np.testing.assert_allclose(heat, expected.map[0], rtol=1e-4, atol=1e-5)
