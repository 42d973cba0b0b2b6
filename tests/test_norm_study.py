"""The norm study, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

SMALL = [
    "dataset.train=8",
    "dataset.normal=4",
    "dataset.defective=5",
    "dataset.category=brick",
    "dataset.resize=96",
    "dataset.crop=96",
]


def norm_study(*overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "occ_lab.norm_study", *overrides],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "140", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_a_study_leaves_figures_and_pictures_and_is_not_overwritten(tmp_path: Path) -> None:
    command = [*SMALL, "norms=[0.5,2,8,256]", "times=[1,10]", "hydra.run.dir=out"]
    done = norm_study(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    content = json.loads((out / "norm_study.json").read_text(encoding="utf-8"))
    assert content["norms"] == [0.5, 2, 8, 256]
    figures = content["tasks"]["brick"]
    assert (figures["n_train"], figures["n_test"]) == (8, 9)
    assert [grid["time"] for grid in figures["times"]] == [1, 10]
    for grid in figures["times"]:
        for name in ("image_auroc", "pixel_auroc"):
            assert len(grid[name]) == 4
            assert all(0 <= value <= 1 for value in grid[name])
        assert grid["domain"]["start"] == 0 < grid["domain"]["end"]
        assert grid["agreement"]["auroc_at_best"] == max(grid["image_auroc"])
    assert [row["norm"] for row in figures["pictures"]["position_auroc"]] == [1, 64]
    rows = list(csv.DictReader((out / "norm_study.csv").open(encoding="utf-8")))
    assert [(row["time"], row["norm"]) for row in rows][:5] == [
        *(("1", norm) for norm in ("0.5", "2", "8", "256")),
        ("10", "0.5"),
    ]
    assert {path.name for path in (out / "tasks" / "brick").iterdir()} == {
        "curve.png",
        "histograms.png",
        "polar.png",
    }
    for path in (out / "tasks" / "brick").iterdir():
        assert min(Image.open(path).size) > 400
    assert "${" not in (out / "config.yaml").read_text(encoding="utf-8")
    for text in ("brick", "at norm 1", "measured", "norm_study.json"):
        assert text in done.stdout

    again = norm_study(*command, cwd=tmp_path)
    assert again.returncode == 1
    assert "already holds a study" in again.stderr


def test_absent_data_is_told_in_a_line(tmp_path: Path) -> None:
    done = norm_study("dataset=mvtec", "dataset.root=nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "dataset.root: no mvtec data" in done.stderr
    assert "Traceback" not in done.stderr
