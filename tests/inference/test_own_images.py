"""A run on a user's own images: its threshold, its decisions, and its use without the images."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import occ_lab
from occ_lab.config.calibrate import perform_calibrate
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.predict import perform_predict
from occ_lab.config.train import perform_run
from occ_lab.inference.predict import UNUSABLE, predict
from tests.data.trees import noise, save
from tests.inference.runs import SMALL

RUN = [*SMALL, "dataset=folder", "dataset.normal=good", "dataset.abnormal=bad", "dataset.resize=64"]


def dented(seed: int, size: int = 24) -> np.ndarray:
    pixels = noise(seed).copy()
    pixels[16 : 16 + size, 16 : 16 + size] = 255
    return pixels


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 normal and 3 anomalous parts, and a run on them, ``run``."""
    folder = tmp_path_factory.mktemp("parts")
    for index in range(30):
        save(folder / "good" / f"{index:02}.png", noise(index))
    for index in range(3):
        save(folder / "bad" / f"{index}.png", dented(100 + index))
    before = Path.cwd()
    os.chdir(folder)
    try:
        perform_run(composed("train", RUN), folder / "run")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def copied(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with all that the fixture above has made."""
    shutil.copytree(parts, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predicted(folder: Path, *overrides: str) -> Any:
    cfg = composed("predict", [f"run='{folder}/run'", *overrides])
    with user_messages():
        return perform_predict(cfg, folder / "out")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_on_own_images_is_calibrated_on_all_of_them(parts: Path) -> None:
    figures = json.loads((parts / "run" / "metrics.json").read_text())["tasks"]["folder"]
    assert figures["n_train"] == figures["calibration"]["images"] == 24
    assert figures["calibration"]["asked"] == 1 / 25
    assert figures["seconds"]["calibration"] > 0
    found = occ_lab.load(parts / "run")
    assert found.overkill == 1 / 25
    assert found.calibration is not None
    assert found.calibration.threshold(1 / 25) == float(found.calibration.scores[-1])


def test_calibration_changes_nothing_of_the_model(copied: Path) -> None:
    perform_run(composed("train", [*RUN, "calibration.folds=0"]), copied / "plain")
    assert not (copied / "plain" / "tasks" / "folder" / "calibration.json").exists()
    first, second = (occ_lab.load(copied / name).score(noise(500)) for name in ("plain", "run"))
    assert torch.equal(first.image, second.image)


def test_the_run_says_what_its_threshold_stands_for(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perform_run(composed("train", [*RUN, "resume=true"]), copied / "run")
    said = capsys.readouterr().out
    assert "threshold" in said
    assert "24 images can guarantee no false-positive rate below 4 %" in said
    assert "needs 99 images" in said
    assert f"occ-lab predict run={copied}/run input=FOLDER" in said


def test_a_rate_that_was_asked_for_and_cannot_be_kept_is_refused(copied: Path) -> None:
    cfg = composed("train", [*RUN, "calibration.overkill=0.01"])
    with pytest.raises(ValueError, match=r"0\.04 or higher, with folds=5"):
        perform_run(cfg, copied / "other")
    cfg = composed("train", [*RUN, "calibration.overkill=0.04"])
    assert perform_run(cfg, copied / "other")["folder"]["calibration"]["asked"] == 0.04


def test_a_run_directory_is_enough(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "good").rename(copied / "gone")
    (copied / "bad").rename(copied / "gone too")
    resumed = perform_run(composed("train", [*RUN, "resume=true"]), copied / "run")
    assert resumed["folder"]["image_auroc"] > 0
    assert "none can be added: dataset.abnormal: no images in" in capsys.readouterr().out
    with pytest.raises((UserError, ValueError)), user_messages():
        perform_run(composed("train", [*RUN, "resume=true", "seed=1"]), copied / "run")
    (copied / "elsewhere").mkdir()
    os.chdir(copied / "elsewhere")
    (copied / "run").rename("run")
    found = predicted(copied / "elsewhere", f"input='{copied}/gone'")
    assert found.scored == 30


def test_rejects_are_printed_worst_first_and_decisions_written(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(30):
        save(copied / "new" / f"{index:02}.png", dented(300 + index, 4 + index))
    for index in range(4):
        save(copied / "new" / f"z{index}.png", noise(400 + index))
    found = predicted(copied, "input=new")
    table = rows(found.table)
    assert [Path(row["path"]).name for row in table[:2]] == ["00.png", "01.png"]
    decisions = {row["path"]: row["decision"] for row in table}
    assert set(decisions.values()) == {"accept", "reject"}
    assert all((row["anomalous"] == "1") == (row["decision"] == "reject") for row in table)
    worst = [each.path for each in found.rejects]
    scores = [each.score for each in found.rejects]
    assert scores == sorted(scores, reverse=True)
    assert len(worst) > 20
    said = capsys.readouterr().out
    shown = [
        line.split()[-1] for line in said.splitlines() if ".png" in line and "drift" not in line
    ]
    assert shown == [str(path) for path in worst[:20]]
    assert f"and {len(worst) - 20} more" in said
    assert "drift: images 1 to 34" in said
    assert "occ-lab calibrate" in said
    by_score = [
        float(row["score"]) for row in rows(predicted(copied, "input=new", "sort=score").table)
    ]
    assert by_score == sorted(by_score, reverse=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error_and_never_normal(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    predictor = occ_lab.load(parts / "run")
    score = predictor.detector.score_pixels

    def spoilt(*arguments: Any) -> Any:
        found = score(*arguments)
        found.score[1] = value
        return found

    monkeypatch.setattr(predictor.detector, "score_pixels", spoilt)
    paths = sorted((parts / "good").iterdir())[:3]
    found = predict(predictor, paths, tmp_path, heatmaps=True, masks=True)
    assert found.failed == {paths[1]: UNUSABLE}
    assert found.scored == 2
    assert [row["decision"] for row in rows(found.table)] == ["accept", "error", "accept"]
    assert rows(found.table)[1]["p_value"] == ""
    by_score = rows(predict(predictor, paths, tmp_path, sort="score").table)
    assert by_score[0]["decision"] == "error"
    p_values, anomalous = predictor.judge(torch.tensor([value, 0.0]))
    assert p_values is not None
    assert anomalous is not None
    assert bool(p_values[0].isnan())
    assert anomalous.tolist() == [True, False]


def test_a_new_lot_is_calibrated_on_and_the_model_stays(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(25):
        save(copied / "lot2" / f"{index}.png", noise(700 + index) // 2)
    before = occ_lab.load(copied / "run")
    model = (copied / "run/tasks/folder/checkpoints/last.ckpt").read_bytes()
    old = (copied / "run/tasks/folder/calibration.json").read_text()
    assert predicted(copied, "input=lot2").anomalous > 5
    for number in (1, 2):
        with user_messages():
            perform_calibrate(composed("calibrate", ["run=run", "input=lot2"]))
        assert (copied / f"run/tasks/folder/calibration-{number}.json").is_file()
    assert "a false-positive rate of 3.85 %" in capsys.readouterr().out
    assert (copied / "run/tasks/folder/calibration-1.json").read_text() == old
    assert (copied / "run/tasks/folder/checkpoints/last.ckpt").read_bytes() == model
    after = occ_lab.load(copied / "run")
    assert after.overkill == 1 / 26
    assert torch.equal(after.score(noise(1)).image, before.score(noise(1)).image)
    found = predicted(copied, "input=lot2")
    assert found.anomalous == 0
    assert not found.drift.spans
    cfg = composed("calibrate", ["run=run", "input=lot2", "overkill=0.01"])
    with (
        pytest.raises(UserError, match=r"needs at least 99 .* 0\.039 or a higher rate"),
        user_messages(),
    ):
        perform_calibrate(cfg)
    assert occ_lab.load(copied / "run").overkill == 1 / 26


def test_every_image_has_a_row_and_a_picture(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "=1+1.png",
        "+1.png",
        "-1.png",
        "@a.png",
        "a.png",
        "a.jpg",
        "b\nc.png",
        "x" * 251 + ".png",
    ]
    for index, name in enumerate(names):
        save(copied / "in" / name, noise(index))
    odd = os.fsencode(copied / "in") + b"/\xff\xfe.png"
    shutil.copy(copied / "in" / "a.png", os.fsdecode(odd))
    for name in ("l1/c/g/0.png", "l2/c/g/0.png"):
        save(copied / "in" / name, noise(3))
    monkeypatch.chdir(copied / "in")
    found = predicted(copied, "input='*'", "heatmaps=true", "masks=true")
    top = len(names) + 1
    assert found.scored == top
    table = rows(found.table)
    assert len({row["path"] for row in table}) == top
    assert not any(row["path"].startswith(("=", "+", "-", "@")) for row in table)
    assert len(list((copied / "out" / "heatmaps").iterdir())) == top
    assert len(list((copied / "out" / "masks").iterdir())) == top
    shutil.rmtree(copied / "out")
    assert predicted(copied, f"input='{copied}/in'", "heatmaps=true").scored == top + 2
    assert len(list((copied / "out" / "heatmaps").iterdir())) == top + 2
