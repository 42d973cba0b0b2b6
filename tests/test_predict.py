"""``python -m occ_lab.predict``, as a user types it, on a calibrated run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.predict import perform_predict
from occ_lab.inference.predict import image_paths
from tests.commands import command
from tests.data.trees import mvtec_tree, noise, save


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibrated run, ``run``, made by the command, and images, ``new``."""
    folder = tmp_path_factory.mktemp("calibrated")
    mvtec_tree(folder / "parts", train=40, good=8)
    small = ["dataset.resize=64", "dataset.crop=64", "maps=0"]
    # One projector: on maps this small, a dent changes the features of every position.
    small += ["loss.time=auto"]
    where = ["dataset=mvtec", "dataset.root=parts", "hydra.run.dir=run"]
    settings = ["calibration.share=0.5", "calibration.overkill=0.1"]
    done = command("train", *small, *where, *settings, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "calibrated threshold and its false-positive rate" in done.stdout
    for index in range(5):
        save(folder / "new" / "deep" / f"{index}.png", noise(500 + index))
    pixels = noise(600).copy()
    pixels[16:40, 16:40] = 255
    save(folder / "new" / "dent.PNG", pixels)
    return folder


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {Path(row["path"]).name: row for row in csv.DictReader(stream)}


def test_the_run_reports_what_its_threshold_does(calibrated: Path) -> None:
    figures = json.loads((calibrated / "run" / "metrics.json").read_text())["tasks"]["bolt"]
    found = figures["calibration"]
    assert figures["n_train"] == 20
    assert found["images"] == 20
    assert found["asked"] == 0.1
    assert 0 <= found["overkill"] <= 1
    assert found["escape"] == 0
    kept = json.loads((calibrated / "run" / "tasks" / "bolt" / "calibration.json").read_text())
    assert len(kept["scores"]) == len(kept["peaks"]) == 20
    assert kept["scores"] == pytest.approx(kept["peaks"])  # the image score is the map's peak


def test_new_images_are_scored_judged_and_shown(calibrated: Path) -> None:
    shown = ["heatmaps=true", "masks=true", "hydra.run.dir=out"]
    done = command("predict", "run=run", "input=new", *shown, cwd=calibrated, fresh=True)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 images scored" in done.stdout
    found = rows(calibrated / "out" / "predictions.csv")
    assert set(found) == {"dent.PNG", *(f"{index}.png" for index in range(5))}
    assert found["dent.PNG"]["anomalous"] == "1"
    assert float(found["dent.PNG"]["p_value"]) == pytest.approx(1 / 21)
    assert max(found, key=lambda name: float(found[name]["score"])) == "dent.PNG"
    masks = list((calibrated / "out" / "masks").glob("*dent.png"))
    with Image.open(masks[0]) as file:
        mask = np.asarray(file)
    assert mask.shape == (64, 64)
    assert mask[20:36, 20:36].mean() > 200
    assert mask[60:, 60:].max() == 0
    assert len(list((calibrated / "out" / "heatmaps").iterdir())) == 6


def test_an_unreadable_file_is_named_and_others_are_scored(
    calibrated: Path, tmp_path: Path
) -> None:
    save(tmp_path / "good.png", noise(1))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = command("predict", f"run={calibrated}/run", f"input='{tmp_path}'", cwd=tmp_path)
    assert done.returncode == 1
    assert "bad.jpg" in done.stdout
    (table,) = tmp_path.glob("outputs/predict/*/predictions.csv")
    assert set(rows(table)) == {"good.png"}


def test_a_new_threshold_is_one_command(calibrated: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated / "run", tmp_path / "run")
    done = command("calibrate", "run=run", f"input='{calibrated}/new/deep'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "from 5 images, a false-positive rate of 16.7 %" in done.stdout
    assert "is kept: run/tasks/bolt/calibration-1.json" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["input=nowhere"], "^input: no images in"),
        (["input=new", "device=cude"], "^device: cude cannot be used"),
        (["input=new", "overkill=0.001"], "needs at least 999 calibration images"),
        (["input=new", "overkill=2"], "overkill must be a number"),
        (["input=new", "task=nut"], "^task: no nut; this run has bolt"),
        (["input=new", "batch_size=0"], "batch_size must be an integer"),
    ],
)
def test_mistakes_are_reported(calibrated: Path, overrides: list[str], said: str) -> None:
    given = [override.replace("input=", f"input={calibrated}/") for override in overrides]
    cfg = composed("predict", [f"run={calibrated}/run", *given])
    with pytest.raises(UserError, match=said), user_messages():
        perform_predict(cfg, calibrated / "out2")
    assert not (calibrated / "out2").exists()


def test_files_folders_and_patterns_are_inputs(tmp_path: Path) -> None:
    wanted = [
        save(tmp_path / "a" / "1.png", noise(1)),
        save(tmp_path / "b" / "c" / "2.png", noise(2)),
    ]
    save(tmp_path / "a" / ".hidden.png", noise(3))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    assert image_paths(str(tmp_path)) == wanted
    assert image_paths(str(wanted[0])) == wanted[:1]
    assert image_paths(f"{tmp_path}/*/1.png") == wanted[:1]
    assert image_paths(f"{tmp_path}/**/*.png") == wanted
