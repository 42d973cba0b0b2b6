"""One model for all tasks: fitted once, tested and calibrated on each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import occ_lab
from occ_lab.backbones import TimmBackbone
from occ_lab.data.datasets.mnist import MNIST
from occ_lab.data.datasets.textures import Textures
from occ_lab.data.datasets.visa import VisA
from occ_lab.engine import fit
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.held_out import HeldOut
from occ_lab.engine.job import Job, NoWatcher
from occ_lab.engine.run import run
from occ_lab.engine.stream import Streams
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.features.cache import FeatureCache
from occ_lab.features.joined import JoinedLevel, joined
from occ_lab.objectives import CFA, Mixture, Norm
from occ_lab.reporting.record import RunRecord, keep_settings
from occ_lab.utils.errors import InputError

HEADER = {"dataset": "textures", "loss": "norm", "backbone": "test_resnet", "seed": 0}
NAMES = ["brick", "grass", "gravel"]
SIZES = {"train": 6, "normal": 3, "defective": 5, "resize": 64, "crop": 64}


def textures(folder: Path, protocol: str = "unified", **given: Any) -> Textures:
    return Textures(root=folder / "data", protocol=protocol, **{**SIZES, **given})


def job(folder: Path, benchmark: Textures, **settings: Any) -> Job:
    common = {"objective": Norm, "cache": FeatureCache(folder / "cache"), "maps": 1}
    return Job([benchmark], TimmBackbone("test_resnet", weights="random"), **{**common, **settings})


def entries(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache").iterdir() if path.is_dir()}


def test_one_detector_is_fitted_and_every_task_has_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    without = fit.fit_without
    monkeypatch.setattr(
        fit, "fit_without", lambda aside, *rest: fits.append(len(aside)) or without(aside, *rest)
    )
    calibrated = {"calibration": CalibrationPlan(folds=2, overkill=0.2)}
    separate = job(tmp_path, textures(tmp_path, "separate"))
    run(separate, RunRecord(tmp_path / "separate", HEADER, {}), NoWatcher())
    assert fits == [0, 0, 0]
    kept = entries(tmp_path)

    fits.clear()
    unified = job(tmp_path, textures(tmp_path), **calibrated)
    figures = run(unified, RunRecord(tmp_path / "run", HEADER, {}), NoWatcher())
    assert fits == [9, 9, 0]
    assert entries(tmp_path) == kept  # the features are those of the separate models
    assert list(figures) == NAMES
    assert [each["n_train"] for each in figures.values()] == [18] * 3
    assert [each["n_test"] for each in figures.values()] == [8] * 3
    assert figures["grass"]["seconds"]["fit"] == 0
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(summary["tasks"]) == set(NAMES)
    assert 0 <= summary["mean"]["image_auroc"] <= 1

    # The thresholds are those of each task's own images.
    assert {each["calibration"]["images"] for each in figures.values()} == {6}
    assert len({each["calibration"]["threshold"] for each in figures.values()}) == 3

    # Each task can be loaded, and all have the same detector.
    loaded = [occ_lab.load(tmp_path / "run", task=name) for name in NAMES]
    states = [each.detector.state_dict() for each in loaded]
    assert all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    test = unified.benchmark.split("gravel").test
    again = loaded[2].score([item.path for item in test[:2]]).image.tolist()
    rows = RunRecord(tmp_path / "run", HEADER, {}, resume=True).scores("gravel")
    assert again == pytest.approx([float(row["score"]) for row in rows[:2]], rel=1e-3)
    assert loaded[0].calibration.scores.tolist() != loaded[1].calibration.scores.tolist()

    # A resumed run fits the same detector again.
    before = (tmp_path / "run" / "scores.csv").read_text()
    shutil.rmtree(tmp_path / "run" / "tasks" / "grass")
    run(unified, RunRecord(tmp_path / "run", HEADER, {}, resume=True), NoWatcher())
    assert (tmp_path / "run" / "scores.csv").read_text() == before

    # As a pass over all images in a program of one's own.
    data = occ_lab.data.Textures(
        tmp_path / "data", "all", **SIZES, protocol="unified", task="grass"
    )
    result = occ_lab.fit(data, backbone=unified.backbone, cache=unified.cache)
    rows = RunRecord(tmp_path / "run", HEADER, {}, resume=True).scores("grass")
    assert np.allclose(result.scores, [float(row["score"]) for row in rows], rtol=1e-6)


def test_training_by_gradient_and_held_out_images(tmp_path: Path) -> None:
    settings = {"objective": CFA, "max_epochs": 1, "calibration": CalibrationPlan(share=0.34)}
    two = textures(tmp_path, category=["brick", "gravel"])
    figures = run(
        job(tmp_path, two, **settings), RunRecord(tmp_path / "run", HEADER, {}), NoWatcher()
    )
    assert [each["n_train"] for each in figures.values()] == [8, 8]
    assert [each["calibration"]["images"] for each in figures.values()] == [2, 2]
    assert [each["steps"] for each in figures.values()] == [1, 1]


def test_a_mixture_is_calibrated_and_loaded(tmp_path: Path) -> None:
    two = textures(tmp_path, category=["brick", "gravel"])
    settings = {"objective": lambda: Mixture(Norm(), components=2), "maps": 0}
    unified = job(tmp_path, two, calibration=CalibrationPlan(share=0.34), **settings)
    figures = run(unified, RunRecord(tmp_path / "run", HEADER, {}), NoWatcher())
    assert [each["calibration"]["images"] for each in figures.values()] == [2, 2]

    predictor = occ_lab.load(tmp_path / "run", task="gravel")
    test = two.split("gravel").test
    rows = RunRecord(tmp_path / "run", HEADER, {}, resume=True).scores("gravel")
    again = predictor.score([item.path for item in test]).image.tolist()
    assert again == pytest.approx([float(row["score"]) for row in rows], rel=1e-3)


def test_parts_of_the_training_set(tmp_path: Path) -> None:
    benchmark = textures(tmp_path, train_limit=2)
    split = benchmark.split("grass")
    assert [item.path.parts[-4] for item in split.train] == [n for n in NAMES for _ in range(2)]
    assert {item.path.parts[-4] for item in split.test} == {"grass"}
    plan = CalibrationPlan(folds=2)
    parts = HeldOut.of(job(tmp_path, benchmark, calibration=plan), benchmark, "grass").parts
    assert sorted(index for part in parts for index in part) == list(range(6))
    assert all(sorted(index // 2 for index in part) == [0, 1, 2] for part in parts)


def test_suspicious_images_are_left_out_of_each_task(tmp_path: Path) -> None:
    dirty = textures(tmp_path, category=["brick", "gravel"], train=8, contamination=0.25)
    plan = CalibrationPlan(folds=2, overkill=0.2)
    settings = {"trim": 0.5, "calibration": plan}
    job_ = job(tmp_path, dirty, **settings)
    member = fit.fitted(job_, dirty, "brick", [], [], tmp_path / "last.ckpt")
    items = member.data.split.train
    assert [sum("brick" in str(item) for item in items), len(items)] == [4, 8]
    assert sum(item.label for item in items) < 4  # before: 4 of 16
    assert {name: len(each[0].scores) for name, each in member.calibrated.items()} == {
        "brick": 8,
        "gravel": 8,
    }
    assert member.seconds["trim"] > 0


def test_the_highest_scores_with_their_copies() -> None:
    held_out = HeldOut({"a": [[0, 1], [2, 3]], "b": [[4, 5], [6, 7], [8, 9]]}, {})
    scores = torch.tensor([1.0, 9, 2, 0, 3, 0, torch.nan, 0, 1, 9])
    held_out.keep(range(10), range(10), scores, scores, torch.zeros(10, 3))
    assert held_out.highest(0.4) == [2, 3, 6, 7]
    held_out.left_out = [2, 3]
    assert held_out.without([0, 3]) == [0, 2, 3]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="protocol must be .* a model for all classes"):
        MNIST(protocol="unified")
    with pytest.raises(ValueError, match="protocol must be separate or unified, got 'one'"):
        textures(tmp_path, "one")
    assert VisA(protocol="unified").unified
    stream = Streams(StreamPlan(), tmp_path / "streams")
    with pytest.raises(InputError, match="protocol: a stream learns"):
        stream(job(tmp_path, textures(tmp_path)), textures(tmp_path), "brick", [], [], tmp_path)
    of_all = {"dataset": {"protocol": "unified", "category": "all"}}
    keep_settings(tmp_path / "kept", of_all, resume=False, begun=False)
    of_one = {"dataset": {"protocol": "unified", "category": "brick"}}
    with pytest.raises(InputError, match=r"another dataset\.category"):
        keep_settings(tmp_path / "kept", of_one, resume=True, begun=True)


def test_joined_levels() -> None:
    parts = [np.arange(6).reshape(3, 2), np.arange(6, 10).reshape(2, 2)]
    (level,) = joined([[part] for part in parts])
    assert isinstance(level, JoinedLevel)
    whole = np.concatenate(parts)
    rows = np.array([4, 0, 0, 3])
    assert np.array_equal(level[rows], whole[rows])
    assert np.array_equal(level[1:4], whole[1:4])
    assert (len(level), level.nbytes) == (5, whole.nbytes)
    assert joined([parts])[0] is parts[0]
