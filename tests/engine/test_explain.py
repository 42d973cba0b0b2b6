"""Explanations of the scores of any objective, and a run that draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation

from benchmarks.whole_runs import fitted, job_of
from occ_lab.config.composition import composed, conf_dir
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.job import make_job
from occ_lab.config.train import perform_run
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.explain import with_nearest
from occ_lab.explain.attribution import IntegratedGradients, Occlusion, Score
from tests.data.trees import mvtec_tree

CPU = torch.device("cpu")
LOCAL = ["loss.solver=closed_form", "loss.cell=4", "loss.bias=solved", "loss.time=integrated"]
NEEDS_ITS_OWN_BACKBONE = "rotation_classifier"
OBJECTIVES = [
    *(
        [f"loss={path.stem}"]
        for path in sorted(Path(conf_dir(), "loss").glob("*.yaml"))
        if path.stem != NEEDS_ITS_OWN_BACKBONE
    ),
    ["loss=norm", "loss.solver=closed_form"],
    ["loss=norm", *LOCAL],
    ["loss=knn", "loss.metric=cosine", "scoring.image=top"],
    ["loss=svdd", "backbone=lenet", "dataset.resize=28", "dataset.crop=28"],
    ["loss=norm", "backbone.output=pooled"],
]
TINY = ["backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"]


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("parts")
    mvtec_tree(root, "bolt")
    small = ["dataset.resize=64", "dataset.crop=64", "logger=none", "trainer.accelerator=cpu"]
    return ["dataset=mvtec", f"dataset.root='{root}'", *small, "loss.fit.epochs=1"]


def detector_and_data(overrides: list[str]) -> tuple[Detector, AnomalyDataModule]:
    detector, _ = fitted(overrides, 1)
    return detector, AnomalyDataModule(job_of(overrides).benchmark, "bolt", batch_size=4)


def scores_by(detector: Detector) -> Score:
    return lambda image: detector(image).score


@pytest.mark.parametrize("objective", OBJECTIVES, ids=" ".join)
def test_the_score_of_any_objective_is_explained(bolts: list[str], objective: list[str]) -> None:
    tiny = [] if "backbone=lenet" in objective else TINY
    detector, data = detector_and_data([*bolts, *tiny, *objective])
    ((image, nearest),) = with_nearest(data, [1], CPU)
    assert data.split.test[1].label == 1
    side = image.shape[-1]
    with torch.no_grad():
        here, there = scores_by(detector)(torch.stack([image, nearest]))
    parts = IntegratedGradients(128)(scores_by(detector), image, nearest)
    assert parts.shape == (side, side)
    assert parts.isfinite().all()
    assert parts.abs().max() > 0
    assert float(parts.sum()) == pytest.approx(float(here - there), rel=0.1)
    falls = Occlusion(0.25, 0.25)(scores_by(detector), image, nearest)
    assert falls.shape == (side, side)
    assert falls.isfinite().all()
    assert falls.abs().max() > 0


def test_occlusion_peaks_at_a_drawn_defect(bolts: list[str]) -> None:
    detector, data = detector_and_data([*bolts, "loss=gaussian"])
    defects = [index for index, item in enumerate(data.split.test) if item.label]
    for index, (image, nearest) in zip(defects, with_nearest(data, defects, CPU), strict=True):
        falls = Occlusion()(scores_by(detector), image, nearest)
        reach = round(0.125 * image.shape[-1])  # of the hidden square beyond the defect
        mask = binary_dilation(data.test_images[index]["mask"].numpy(), iterations=reach)
        assert falls.max() > 0
        assert mask.flatten()[int(falls.argmax())]


def test_the_nearest_is_of_the_training_images(bolts: list[str]) -> None:
    data = AnomalyDataModule(job_of(bolts).benchmark, "bolt", batch_size=4)
    training = torch.stack([data.train_images[index]["image"] for index in range(6)])
    for index, (image, nearest) in enumerate(with_nearest(data, range(6), CPU)):
        assert torch.equal(image, data.test_images[index]["image"])
        distances = (training - image).flatten(1).norm(dim=1)
        assert torch.equal(nearest, training[distances.argmin()])


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_a_run_draws_what_it_explains(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["dataset.train=8", "dataset.normal=3", "dataset.defective=5", "dataset.category=grass"]
    sizes = ["dataset.resize=96", "dataset.crop=96", f"dataset.root='{tmp_path}/data'"]
    chosen = [f"explain={method}", "explain.count=3", "maps=3", *LOCAL]
    cfg = composed("train", [*small, *sizes, *chosen, "logger=none", "trainer.accelerator=cpu"])
    perform_run(cfg, tmp_path / "out")
    task = tmp_path / "out" / "tasks" / "grass"
    drawn = sorted((task / "explanations").iterdir())
    assert [path.name for path in drawn] == sorted(path.name for path in (task / "maps").iterdir())
    assert len(drawn) == 3
    for path in drawn:
        assert np.ptp(np.asarray(Image.open(path)).astype(int), axis=2).max() > 50  # of grey grass
    assert "tasks/*/explanations/*.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["explain.count=8"], "^explain.count: by no method; take explain=occlusion or"),
        (["explain=occlusion", "explain.count=-1"], "^explain.count must be an integer and >= 0"),
        (["explain=integrated_gradients", "explain.steps=0"], "^explain.steps must be"),
        (["explain=occlusion", "explain.window=2"], "^explain.window must be"),
        (["explain=occlusion", "explain.stride=0.5"], "^explain.stride must be"),
        (
            ["explain=occlusion", "ensemble=[{resize:64,crop:64},{resize:72,crop:64}]"],
            "^explain: the score of an ensemble",
        ),
    ],
)
def test_what_cannot_be_explained_is_reported_before_any_work(
    bolts: list[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message), user_messages():
        make_job(composed("train", [*bolts, *overrides]))
