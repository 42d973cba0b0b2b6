"""The norm study without a configuration, and parts of it that a run does not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from occ_lab.backbones import LeNet, TimmBackbone
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.engine.norm_figures import NormScores
from occ_lab.engine.norm_study import NormStudy, Pictures, study
from occ_lab.features.cache import FeatureCache
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.utils.errors import InputError
from tests.data.trees import mvtec_tree

HEADER = {"dataset": "mvtec", "backbone": "tiny", "seed": 0, "version": "1"}


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> MVTec:
    root = tmp_path_factory.mktemp("parts")
    mvtec_tree(root, train=8)
    return MVTec(root=root, resize=64, crop=64)


def plan(bolts: MVTec, **settings: Any) -> NormStudy:
    return NormStudy(bolts, TimmBackbone("test_resnet", weights="random"), **settings)


def test_a_study_is_the_same_with_and_without_the_cache(bolts: MVTec, tmp_path: Path) -> None:
    small = {"norms": [1, 4], "times": [10], "pictures": Pictures(10, [2])}
    found = {
        name: study(plan(bolts, cache=cache, **small), tmp_path / name, HEADER, {"seed": 0})
        for name, cache in (("cached", FeatureCache(tmp_path / "cache")), ("computed", None))
    }
    summary = json.loads((tmp_path / "cached" / "norm_study.json").read_text())
    assert summary == {**HEADER, "norms": [1, 4], "tasks": found["cached"]}
    assert (tmp_path / "cached" / "config.yaml").read_text() == "seed: 0\n"
    one, two = (found[name]["bolt"]["times"][0] for name in ("cached", "computed"))
    assert one["domain"]["end"] == pytest.approx(two["domain"]["end"], rel=1e-2)
    assert one["image_auroc"] == pytest.approx(two["image_auroc"], abs=0.12)  # of nine pairs
    with pytest.raises(InputError, match="already holds a study") as error:
        study(plan(bolts), tmp_path / "cached", HEADER, {})
    assert error.value.part == "directory"


def test_what_cannot_be_studied(bolts: MVTec, tmp_path: Path) -> None:
    few = MVTec(root=bolts.root, resize=64, crop=64, train_limit=3)
    with pytest.raises(InputError, match="bolt: the domain needs at least 4 training images"):
        study(plan(few), tmp_path / "few", HEADER, {})
    with pytest.raises(InputError, match="a frozen backbone, not lenet"):
        NormStudy(MVTec(root=bolts.root, resize=28, crop=28), LeNet())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^norms\[1\] must be a number and > 0, got -1"):
        plan(bolts, norms=[1, -1])


def scored(masks: torch.Tensor | None) -> NormScores:
    """Two images, the second anomalous, on a grid of 2 × 2; position k has φ = k + 1 along c."""
    along = torch.arange(8.0).reshape(2, 2, 2) + 1
    drawn = torch.stack([along.square(), along, torch.ones(2, 2, 2)])  # s₁ = 1: φ = p
    empty = torch.zeros(1, 2, 2, 2)
    labels, means = torch.tensor([0, 1]), torch.zeros(2, 1)
    return NormScores(empty, empty, means, drawn, labels, masks, PostProcess(), (8, 8))


def test_positions_of_anomalous_images_outside_their_masks_are_left_out() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[1, 7, 0] = True
    points = scored(masks).cloud(norm=2.0)
    assert points.length.tolist() == [1, 2, 3, 4, 7]
    assert points.anomalous.tolist() == [False] * 4 + [True]
    assert points.cosine.tolist() == pytest.approx([1.0] * 5)


def test_without_masks_all_of_an_anomalous_image_is_anomalous() -> None:
    points = scored(None).cloud(norm=2.0)
    assert points.anomalous.tolist() == [False] * 4 + [True] * 4
    # Lengths 1..4 differ from a target of 2 by 1, 0, 1, 2, lengths 5..8 by 3..6.
    assert points.aurocs == {"angle": 0.5, "length": 1.0, "score": 1.0}
