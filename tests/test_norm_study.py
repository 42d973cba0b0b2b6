"""The norm study, as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.norm_study import norm_study_plan
from tests.commands import command

SMALL = [
    "dataset.train=8",
    "dataset.normal=4",
    "dataset.defective=5",
    "dataset.category=brick",
    "dataset.resize=96",
    "dataset.crop=96",
]


def test_a_study_leaves_figures_and_pictures(tmp_path: Path) -> None:
    small = [*SMALL, "norms=[0.5,2,8,256]", "times=[1,integrated]", "hydra.run.dir=out"]
    done = command("norm_study", *small, cwd=tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    content = json.loads((out / "norm_study.json").read_text(encoding="utf-8"))
    assert content["norms"] == [0.5, 2, 8, 256]
    figures = content["tasks"]["brick"]
    assert (figures["n_train"], figures["n_test"]) == (8, 9)
    assert [grid["time"] for grid in figures["times"]] == [1, "integrated"]
    assert figures["cells"] == 36  # of 24 × 24 positions
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
        ("integrated", "0.5"),
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("norms=[1,-1]", r"^norms\[1\] must be a number and > 0, got -1"),
        ("norms=[]", "^norms must be a list of numbers"),
        ("norms=[2,1]", "^norms must be in rising order"),
        ("times=10", "^times must be a list of numbers"),
        ("times=[-1]", r"^times\[0\] must be a number and >= 0"),
        ("times=[auto]", r"^times\[0\] must be a number and >= 0"),
        ("cell=0", "^cell must be an integer and >= 1"),
        ("pictures.norms=[0]", r"^pictures\.norms\[0\] must be a number and > 0"),
        ("pictures.time=soon", r"^pictures\.time must be a number"),
        ("loader.workers=-1", r"^loader\.workers must be an integer and >= 0"),
    ],
)
def test_a_value_out_of_range_names_its_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message), user_messages():
        norm_study_plan(composed("norm_study", [override]))


def test_absent_data_is_reported_in_a_line(tmp_path: Path) -> None:
    done = command("norm_study", "dataset=mvtec", "dataset.root=nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "dataset.root: no mvtec data" in done.stderr
    assert "Traceback" not in done.stderr
