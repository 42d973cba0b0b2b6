"""What the jobs of a sweep in one process share, and what they must not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data import images_dataset
from occ_lab.data.mask_reading import read_mask
from occ_lab.detector import Detector
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.prediction import Prediction
from occ_lab.utils.memo import Memo
from tests.data.trees import mvtec_tree, noise, save

RANDOM = ["backbone.model=test_resnet", "backbone.weights=random", "backbone.strides=[4]"]
HERE = ["dataset=mvtec", "dataset.resize=64", "dataset.crop=64", "maps=2", *RANDOM]
ONE = ["loss.cell=null", "loss.bias=flow"]
FORMS = {
    "local": ["loss.cell=4"],
    "local with flow": ["loss.cell=4", "loss.bias=flow"],
    "one projector": ONE,
    "one time": [*ONE, "loss.time=3"],
    "a chosen time": [*ONE, "loss.time=auto"],
}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    mvtec_tree(tmp_path / "parts")
    return tmp_path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each batch that an objective has seen in a pass."""
    counts: list[int] = []
    observe = Norm.observe

    def counted(self: Norm, levels: list[Tensor], valid: Tensor | None = None) -> None:
        counts.append(len(levels[0]))
        observe(self, levels, valid)

    monkeypatch.setattr(Norm, "observe", counted)
    return counts


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the test batches that detectors have scored."""
    batches: list[int] = []
    step = Detector.test_step

    def counted(self: Detector, batch: Any, batch_index: int) -> Prediction:
        batches.append(batch_index)
        return step(self, batch, batch_index)

    monkeypatch.setattr(Detector, "test_step", counted)
    return batches


def job(folder: Path, shared: Memo | None, *given: str) -> dict[str, Any]:
    """What a run has written, but for times and memory."""
    cfg = composed("train", [*HERE, f"dataset.root='{folder}/parts'", *given])
    out = folder / "out"
    perform_run(cfg, out, shared=shared)
    task = out / "tasks" / "bolt"
    figures = json.loads((task / "metrics.json").read_text())
    for name in ("seconds", "peak_memory_mb"):
        del figures[name]
    state = torch.load(task / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    written = {
        "figures": figures,
        "scores": (task / "scores.csv").read_text(),
        "logged": (task / "metrics.csv").read_text(),
        "learned": {name: value.tolist() for name, value in state.items()},
        "pictures": {path.name: path.read_bytes() for path in task.glob("maps/*.png")},
    }
    shutil.rmtree(out)
    return written


@pytest.mark.parametrize("form", FORMS)
def test_jobs_that_share_a_pass_equal_single_runs(parts: Path, seen: list[int], form: str) -> None:
    jobs = [
        [*FORMS[form], *varied]
        for varied in ([], ["loss.norm=4", "loss.target=rand"], ["loss.p=1", "loss.norm=2"])
    ]
    shared = Memo(limit_mb=100)
    together = [job(parts, shared, *each) for each in jobs]
    assert sum(seen) == 6, "one pass over six images"
    assert 0 < shared.held <= 100e6
    assert together == [job(parts, None, *each) for each in jobs]
    assert sum(seen) == 4 * 6


def test_seeds_and_times_share_where_nothing_is_drawn(parts: Path, seen: list[int]) -> None:
    shared = Memo(limit_mb=100)
    first = job(parts, shared)
    assert job(parts, shared, "seed=1") == first
    assert sum(seen) == 6
    job(parts, shared, *ONE, "loss.time=3")
    job(parts, shared, *ONE, "loss.time=30", "seed=1")
    assert sum(seen) == 12


class Mine(Norm):
    """An objective whose further settings `Norm` does not know."""


def test_jobs_that_learn_the_same_share_a_test(parts: Path, tested: list[int]) -> None:
    shared = Memo(limit_mb=100)
    first = job(parts, shared)
    again = job(parts, shared, "seed=1", "loss.norm=5", "maps=3")
    assert tested == [0]
    assert again == job(parts, None, "seed=1", "loss.norm=5", "maps=3")
    assert len(again["pictures"]) == 3
    assert {**again, "pictures": None} == {**first, "pictures": None}
    other = job(parts, shared, "loader.eval_batch_size=4")
    assert tested == [0, 0, 0, 1]
    assert len(other["pictures"]) == 2


TESTS = [
    ["scoring.sigma=2"],
    ["scoring.image=top"],
    ["scoring.aupro_limit=0.05"],
    ["loss.time=3"],
    ["loss.squared=true"],
    ["loss.bias=flow"],
    ["cache.enabled=false"],
    ["dataset.crop=48"],
    ["+callbacks.timer._target_=lightning.pytorch.callbacks.Timer"],
    [f"loss._target_={__name__}.Mine"],
]


def test_other_tests_are_not_shared(parts: Path, tested: list[int]) -> None:
    shared = Memo(limit_mb=100)
    before = job(parts, shared, "loss.norm=3")
    for given in TESTS:
        del tested[:]
        found = job(parts, shared, *given)["figures"]
        assert tested == [0], given
        strict = given == ["scoring.aupro_limit=0.05"]
        assert (found["pixel_aupro"] == found["pixel_aupro_005"]) == strict
    del tested[:]
    assert job(parts, shared, "loss.norm=2") == before
    flow = job(parts, None, "loss.bias=flow", "seed=1")
    assert flow == job(parts, shared, "loss.bias=flow", "seed=2")
    assert tested == [0], "that of the job which shares nothing"
    del tested[:]
    anomalous = parts / "parts" / "bolt" / "test"
    (anomalous / "dent" / "000.png").rename(anomalous / "good" / "900.png")
    (parts / "parts" / "bolt" / "ground_truth" / "dent" / "000_mask.png").unlink()
    assert job(parts, shared) != before
    assert tested == [0]


def changed_image(folder: Path) -> None:
    """An image is replaced by another one of the same size and time of change."""
    path = folder / "parts" / "bolt" / "train" / "good" / "000.png"
    before = path.stat()
    save(path, noise(77))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


OTHERS = [
    ["seed=1", *ONE, "loss.time=auto"],
    ["dataset.train_limit=5"],
    ["dataset.contamination=0.2"],
    ["dataset.crop=48"],
    ["dataset.random_crop=true", "dataset.crop=48"],
    ["calibration.share=0.5", "calibration.overkill=0.3"],
    ["loss.fit.batch_size=4"],
    ["loss.cell=2"],
    ["loss.normalize=true"],
    ["backbone.seed=1"],
    ["cache.enabled=false"],
    ["trainer.precision=bf16-mixed"],
    ["+trainer.limit_train_batches=2", "loss.fit.batch_size=2"],
    ["+trainer.overfit_batches=1"],
    ["+callbacks.timer._target_=lightning.pytorch.callbacks.Timer"],
    [f"loss._target_={__name__}.Mine"],
]


def test_other_passes_are_not_shared(parts: Path, seen: list[int]) -> None:
    shared = Memo(limit_mb=100)
    job(parts, shared, *ONE, "loss.time=auto")
    job(parts, shared, "loss.fit.batch_size=2")
    before = job(parts, shared)
    for given in OTHERS:
        del seen[:]
        job(parts, shared, *given)
        assert sum(seen) > 0, given
    changed_image(parts)
    del seen[:]
    assert job(parts, shared) != before
    assert sum(seen) == 6


def test_folds_share_their_passes(parts: Path, seen: list[int]) -> None:
    folds = ["calibration.folds=3", "calibration.overkill=0.3"]
    shared = Memo(limit_mb=100)
    job(parts, shared, *folds)
    assert sum(seen) == 3 * 4 + 6
    together = job(parts, shared, *folds, "calibration.overkill=0.4")
    assert sum(seen) == 3 * 4 + 6
    assert together == job(parts, None, *folds, "calibration.overkill=0.4")


def test_masks_are_read_once(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return read_mask(path)

    monkeypatch.setattr(images_dataset, "read_mask", counted)
    shared = Memo(limit_mb=100)
    first = job(parts, shared)
    assert sorted(path.name for path in read) == ["000_mask.png", "001_mask.png", "002_mask.png"]
    assert job(parts, shared) == first
    assert len(read) == 3
    save(read[0], 255 - np.asarray(Image.open(read[0])))
    changed = job(parts, shared)
    assert len(read) == 4
    assert changed["figures"] != first["figures"]
    assert job(parts, None) == changed


def test_nothing_larger_than_the_limit_is_kept(parts: Path, seen: list[int]) -> None:
    shared = Memo(limit_mb=0.01)
    assert job(parts, shared) == job(parts, shared)
    assert shared.held <= 10e3
    assert sum(seen) == 12


def test_a_program_sees_changed_files(parts: Path, seen: list[int]) -> None:
    def scores() -> list[float]:
        data = occ_lab.data.MVTecAD(root=parts / "parts", category="bolt", resize=64, crop=64)
        backbone = occ_lab.backbones.TimmBackbone("test_resnet", weights="random")
        return list(occ_lab.fit(data, backbone=backbone).scores)

    before = scores()
    changed_image(parts)
    assert scores() != before
    assert sum(seen) == 12
