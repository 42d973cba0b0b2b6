"""The comparison with another library, without the library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

from benchmarks.peers.__main__ import FIGURES, report
from benchmarks.peers.prepared import ABOUT, LAYERS, SIDE, WEIGHTS, prepare
from occ_lab.backbones.presets import create
from tests.data.trees import mvtec_tree


def test_images_and_weights_are_those_of_the_default(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "data", train=4)
    prepare(tmp_path / "data", "bolt", 3, tmp_path / "images")
    images = tmp_path / "images" / "bolt"
    assert len(list((images / "train" / "good").iterdir())) == 3
    defects = sorted(path for path in images.glob("test/*/*.png") if path.parent.name != "good")
    assert defects
    for path in defects:
        assert Image.open(path).size == (SIDE, SIDE)
        mask = images / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        assert set(np.unique(np.asarray(Image.open(mask)))) == {0, 255}
    about = json.loads((tmp_path / "images" / ABOUT).read_text())
    assert about["layers"] == list(LAYERS)
    assert create("efficientnet_lite0").channels == list(LAYERS.values())
    assert "conv_stem.weight" in load_file(tmp_path / "images" / WEIGHTS)


def test_the_page_gives_ratios_within_a_round() -> None:
    def found(seconds: float) -> dict[str, object]:
        return {
            "fit_seconds": seconds,
            "test_seconds": seconds,
            "peak_mb": 100.0,
            "metrics": dict.fromkeys(FIGURES, 0.5),
        }

    names = ("anomalib | PaDiM", "OCC Lab | PaDiM", "anomalib | PatchCore", "OCC Lab | PatchCore")
    names += ("anomalib | CFA", "OCC Lab | CFA")
    one = dict(zip(names, map(found, (10.0, 2.0, 30.0, 3.0, 8.0, 1.0)), strict=True))
    one["OCC Lab | norm (default)"] = found(4.0)
    about = {"category": "bolt", "train": 3, "threads": 2, "packages": ["x==1"]}
    page = report({**about, "rounds": [one]})
    rows = [line.split(" | ") for line in page.splitlines() if "OCC Lab |" in line]
    assert [(row[0][2:], row[4]) for row in rows] == [
        ("PaDiM", "5.0"),
        ("PatchCore", "10.0"),
        ("CFA", "8.0"),
        ("norm (default)", "2.5"),
    ]
