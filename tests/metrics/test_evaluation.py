"""All metrics of a test pass together."""

from __future__ import annotations

import torch

from occ_lab.metrics import Evaluation, ImageAUROC, PixelAUPRO, PixelAUROC, PixelSegF1

IMAGE = {"image_auroc", "image_ap", "image_f1max"}
PIXELS = {"pixel_auroc", "pixel_aupro", "pixel_aupro_005", "pixel_ap", "pixel_f1max"}


def batch(seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(4, 8, 8, generator=generator)
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[:2, 2:5, 2:5] = True
    return maps.amax(dim=(1, 2)), torch.tensor([1, 1, 0, 0]), maps, masks


def test_every_metric_of_all_batches() -> None:
    evaluation, auroc, pixel, aupro = Evaluation(), ImageAUROC(), PixelAUROC(), PixelAUPRO()
    for seed in (0, 1):
        scores, labels, maps, masks = batch(seed)
        evaluation.update(scores, labels, maps, masks)
        auroc.update(scores, labels)
        pixel.update(maps, masks)
        aupro.update(maps, masks)
    values = evaluation.compute()
    assert set(values) == IMAGE | PIXELS | {"pixel_aupimo"}
    assert values["image_auroc"] == auroc.compute()
    assert values["pixel_auroc"] == pixel.compute()
    assert values["pixel_aupro"] == aupro.compute()


def test_the_limit_is_that_of_aupro_alone() -> None:
    usual, strict = Evaluation(), Evaluation(aupro_limit=0.05)
    for evaluation in (usual, strict):
        evaluation.update(*batch(0))
    values, expected = strict.compute(), usual.compute()
    assert values["pixel_aupro"] == values["pixel_aupro_005"] < expected["pixel_aupro"]
    assert {**values, "pixel_aupro": 0} == {**expected, "pixel_aupro": 0}


def test_what_cannot_be_told_is_absent() -> None:
    evaluation = Evaluation()
    scores, labels, maps, masks = batch(0)
    evaluation.update(scores, labels, None, None)
    assert set(evaluation.compute()) == IMAGE
    evaluation.reset()
    evaluation.update(scores, torch.ones(4, dtype=torch.long), maps, masks)
    assert set(evaluation.compute()) == PIXELS  # AUPIMO needs normal images


def test_reset_forgets() -> None:
    evaluation = Evaluation()
    evaluation.update(*batch(0))
    evaluation.reset()
    scores, labels, _, _ = batch(1)
    evaluation.update(scores, labels, None, None)
    assert set(evaluation.compute()) == IMAGE


def test_f1_at_a_threshold_of_all_and_of_groups() -> None:
    evaluation, metric = Evaluation(), PixelSegF1(0.5, groups=1)
    evaluation.segment(0.5)
    evaluation.group({"dent": [1]}, 4)
    scores, labels, maps, masks = batch(0)
    evaluation.update(scores, labels, maps, masks, torch.arange(4))
    metric.update(maps, masks, torch.tensor([-1, 0, -1, -1]))
    assert evaluation.compute()["pixel_segf1"] == metric.compute()
    assert evaluation.pixels_of("dent")["pixel_segf1"] == metric.of(0)
    evaluation.reset()
    evaluation.update(scores, labels, maps, masks)
    assert evaluation.compute()["pixel_segf1"] == metric.compute()
    evaluation.segment(None)
    evaluation.update(scores, labels, maps, masks)
    assert "pixel_segf1" not in evaluation.compute()
