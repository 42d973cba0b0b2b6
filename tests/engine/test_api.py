"""The whole job from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import occ_lab
from occ_lab.backbones import TimmBackbone
from occ_lab.features.cache import FeatureCache
from occ_lab.objectives import Norm, PaDiM
from occ_lab.utils.errors import InputError

SIZES = {"train": 8, "normal": 4, "defective": 5, "resize": 64, "crop": 64}


@pytest.fixture
def data(tmp_path: Path) -> occ_lab.data.Textures:
    return occ_lab.data.Textures(root=tmp_path / "data", category="brick", batch_size=4, **SIZES)


def backbone() -> TimmBackbone:
    return TimmBackbone("test_resnet", weights="random")


def test_a_run_is_recorded_and_loaded(data: occ_lab.data.Textures, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    plan = occ_lab.CalibrationPlan(folds=2, overkill=0.25)
    run = tmp_path / "run"
    limit = 0.2
    result = occ_lab.fit(
        *(data, PaDiM(), backbone()),
        aupro_limit=limit,
        cache=cache,
        calibration=plan,
        directory=run,
    )
    summary = json.loads((run / "metrics.json").read_text())
    assert summary["aupro_limit"] == limit
    assert summary["tasks"]["brick"]["image_auroc"] == result.metrics["image_auroc"]
    assert (len(result.scores), result.labels.sum(), len(result.paths)) == (9, 5, 9)

    loaded = occ_lab.load(run)
    judged = loaded.score(result.paths)
    torch.testing.assert_close(
        judged.image, torch.from_numpy(result.scores), rtol=2e-2, atol=1e-3
    )  # cached features are float16
    assert judged.anomalous is not None
    assert loaded.overkill == 0.25
    with pytest.raises(InputError, match="already holds results"):
        occ_lab.fit(data, PaDiM(), backbone(), cache=cache, directory=run)


def test_nothing_is_recorded_unless_asked_for(data: occ_lab.data.Textures, tmp_path: Path) -> None:
    result = occ_lab.fit(
        data, Norm(solver="gradient"), backbone(), cache=False, max_epochs=2, aupro_limit=0.1
    )
    assert result.directory is None
    assert result.detector.evaluation.aupro_limit == 0.1
    assert result.detector.objective.one_pass is False
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_the_same_seed_gives_the_same_scores(data: occ_lab.data.Textures) -> None:
    first, again, other = (
        occ_lab.fit(
            data, Norm(solver="gradient"), backbone(), cache=False, max_epochs=1, seed=seed
        ).scores
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_objective_that_is_given_is_left_alone(data: occ_lab.data.Textures) -> None:
    objective = PaDiM()
    occ_lab.fit(data, objective, backbone(), cache=False)
    assert len(objective.state_dict()) == len(PaDiM().state_dict())


def test_what_does_not_fit_is_refused(data: occ_lab.data.Textures) -> None:
    with pytest.raises(ValueError, match="max_epochs must be an integer"):
        occ_lab.fit(data, Norm(solver="gradient"), backbone(), max_epochs=0)
    plan = occ_lab.CalibrationPlan(folds=2, overkill=0.01)
    with pytest.raises(InputError, match="overkill: 0.01 needs at least 99 images"):
        occ_lab.fit(data, PaDiM(), backbone(), calibration=plan, cache=False)
