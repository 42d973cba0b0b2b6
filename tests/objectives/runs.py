"""An objective in a whole run."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from occ_lab.config.composition import composed
from occ_lab.config.job import make_job
from occ_lab.config.train import perform_run
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from tests.data.trees import mvtec_tree


def run_and_load(folder: Path, *overrides: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Image scores ``[N]`` of a small run, and of a detector from its checkpoint.

    Features come from images both times, so that the two may be compared to the last digits.
    """
    mvtec_tree(folder / "parts")
    small = ["dataset.resize=64", "dataset.crop=64", "maps=0", "logger=none", "cache.enabled=false"]
    where = ["dataset=mvtec", f"dataset.root='{folder}/parts'"]
    cfg = composed("train", [*where, *small, "trainer.accelerator=cpu", *overrides])
    perform_run(cfg, folder / "out")
    with (folder / "out" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        written = torch.tensor([float(row["score"]) for row in csv.DictReader(stream)])

    path = folder / "out" / "tasks" / "bolt" / "checkpoints" / "last.ckpt"
    detector = Detector.load_from_checkpoint(path, map_location="cpu").eval()
    data = AnomalyDataModule(make_job(cfg).views[0], "bolt", eval_batch_size=4)
    with torch.inference_mode():
        predictions = [detector.predict_step(batch, 0) for batch in data.test_dataloader()]
    return written, torch.cat([prediction.score for prediction in predictions])
