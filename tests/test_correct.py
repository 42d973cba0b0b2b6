"""``occ_lab.correct``: verdicts on the decisions of a run, and what becomes of them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from occ_lab.config.composition import composed
from occ_lab.config.correct import beside, perform_correct
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.train import perform_run
from occ_lab.inference.predictor import load
from tests.commands import command
from tests.data.trees import noise, save

SMALL = [
    *("dataset=folder", "dataset.resize=64", "dataset.tile=null", "loss.time=3", "maps=0"),
    *("backbone.model=test_resnet", "backbone.weights=random", "gallery=false"),
    *("dataset.train_share=0.8", "calibration.overkill=0.1", "logger=none"),
]


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on good parts, of which two are defective; new parts; and runs that lack something."""
    folder = tmp_path_factory.mktemp("factory")
    for number in range(20):
        pixels = noise(number)
        if number in (3, 11):
            pixels = pixels.copy()
            pixels[16:40, 16:40] = 255
        save(folder / "good" / f"{number:02}.png", pixels)
    for number in range(4):
        pixels = noise(100 + number).copy()
        pixels[:, 40:] = 90  # another background, which is no defect
        save(folder / "new" / f"{number}.png", pixels)
    run(folder, "model", "calibration.folds=2")
    run(folder, "share", "calibration.share=0.6")
    run(folder, "bare", "moments=false", "calibration.folds=0")
    run(folder, "knn", "loss=knn", "calibration.folds=0")
    return folder


def run(folder: Path, name: str, *more: str) -> None:
    small = [each for each in SMALL if not (name == "knn" and each.startswith("loss."))]
    given = [f"dataset.normal='{folder / 'good'}'", *more]
    perform_run(composed("train", [*small, *given]), folder / name)


def verdicts(folder: Path, rows: dict[str, str]) -> Path:
    path = folder / "verdicts.csv"
    lines = [f"{folder / name},{verdict}" for name, verdict in rows.items()]
    path.write_text("\n".join(["path,verdict", *lines, ""]), encoding="utf-8")
    return path


def learned(directory: Path) -> list[str]:
    with (directory / "tasks" / "folder" / "training.csv").open(encoding="utf-8") as file:
        return [Path(row["path"]).name for row in csv.DictReader(file) if row["use"] == "train"]


def correct(factory: Path, name: str, rows: dict[str, str], *more: str) -> object:
    given = [f"run='{factory / name}'", f"verdicts='{verdicts(factory, rows)}'", *more]
    with user_messages():
        return perform_correct(composed("correct", given))


def scores(directory: Path, paths: list[Path]) -> torch.Tensor:
    return load(directory).score(paths).image


@pytest.mark.parametrize("name", ["model", "share"])
def test_false_alarms_are_learned_and_defects_forgotten(
    factory: Path, tmp_path: Path, name: str
) -> None:
    bad = next(name for name in learned(factory / name) if name in ("03.png", "11.png"))
    new = [factory / "new" / f"{number}.png" for number in range(4)]
    rows = {f"new/{number}.png": "false alarm" for number in range(3)}
    rows[f"good/{bad}"] = "missed"
    out = tmp_path / "corrected"
    found = correct(factory, name, rows, f"out='{out}'")
    assert bad not in learned(out)
    assert {f"{number}.png" for number in range(3)} <= set(learned(out))
    before, after = scores(factory / name, new), scores(out, new)
    assert bool((after < before).all())  # the fourth one as well, which is like them
    defect = [factory / "good" / bad]
    assert float(scores(out, defect)) > float(scores(factory / name, defect))
    kept = json.loads((out / "tasks" / "folder" / "calibration.json").read_text())
    if name == "model":
        assert len(kept["scores"]) == len(learned(out))
    else:
        own = json.loads((factory / name / "tasks/folder/calibration.json").read_text())
        assert len(kept["scores"]) == len(own["scores"])
    with (out / "corrections.csv").open(encoding="utf-8") as file:
        done = {Path(row["path"]).name: row["done"] for row in csv.DictReader(file)}
    assert done == {**{f"{number}.png": "learned" for number in range(3)}, bad: "forgotten"}
    assert found


def test_a_correction_can_be_taken_back(factory: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    correct(factory, "model", {"new/0.png": "false alarm"}, f"out='{once}'")
    given = verdicts(factory, {"new/0.png": "missed"})
    command_line = [f"run='{once}'", f"verdicts='{given}'", f"out='{twice}'"]
    perform_correct(composed("correct", command_line))
    assert learned(twice) == learned(factory / "model")
    paths = sorted((factory / "good").iterdir())
    # The moments are equal to float64 rounding; the scores are those of float32 projectors.
    assert torch.allclose(scores(twice, paths), scores(factory / "model", paths), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "rows", "reason"),
    [
        ("bare", {"new/0.png": "false alarm"}, "train it with moments=true"),
        ("knn", {"new/0.png": "false alarm"}, "its objective is KNN"),
        ("model", {"new/0.png": "missed"}, "holds nothing to correct"),
        ("model", {"new/0.png": "fals alarm"}, "must be one of false alarm, missed, good, defect"),
        ("model", {"new/absent.png": "false alarm"}, "must be where it was"),
        ("model", {}, "holds no verdict"),
    ],
)
def test_what_cannot_be_corrected_says_so(
    factory: Path, tmp_path: Path, name: str, rows: dict[str, str], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        correct(factory, name, rows, f"out='{tmp_path / 'out'}'")
    assert not (tmp_path / "out").exists()


def test_the_command_as_it_is_typed(factory: Path, tmp_path: Path) -> None:
    shutil.copytree(factory / "model", tmp_path / "model")
    given = verdicts(factory, {"new/0.png": "false alarm"})
    done = command("correct", "run=model", f"verdicts='{given}'", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 false alarms learned, 0 defects forgotten" in done.stdout
    assert "calibration images" in done.stdout
    assert (tmp_path / "model-corrected" / "tasks" / "folder" / "calibration.json").is_file()
    assert beside(tmp_path / "model").name == "model-corrected2"
    done = command("correct", "run=model", "verdicts=absent.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "absent.csv does not exist" in done.stderr
