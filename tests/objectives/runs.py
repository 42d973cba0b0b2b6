"""An objective in a whole run, and in two processes."""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from occ_lab.config.composition import composed
from occ_lab.data.datamodule import TaskData
from occ_lab.engine.fit import make_detector
from occ_lab.engine.run import check, run
from tests.data.trees import mvtec_tree


def run_and_load(folder: Path, *overrides: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Image scores ``[N]`` of a small run, and of a new detector with its checkpoint.

    Features come from images both times, so that the two may be compared to the last digits.
    """
    mvtec_tree(folder / "parts")
    small = ["dataset.resize=64", "dataset.crop=64", "maps=0", "logger=none", "cache.enabled=false"]
    where = ["dataset=mvtec", f"dataset.root='{folder}/parts'"]
    cfg = composed("train", [*where, *small, "trainer.accelerator=cpu", *overrides])
    run(cfg, folder / "out")
    with (folder / "out" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        written = torch.tensor([float(row["score"]) for row in csv.DictReader(stream)])

    parts = check(cfg)
    detector = make_detector(cfg, parts, parts.benchmark).eval()
    path = folder / "out" / "tasks" / "bolt" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    detector.on_load_checkpoint(checkpoint)
    detector.load_state_dict(checkpoint["state_dict"])
    scores = []
    with torch.inference_mode():
        for batch in TaskData(parts.benchmark, "bolt", batch_size=4).test_dataloader():
            maps = detector.score(detector.levels(batch))
            upsampled = detector.postprocess.maps(maps, detector.size)
            scores.append(detector.postprocess.image_scores(maps, upsampled))
    return written, torch.cat(scores)


def in_two_processes(work: Callable[[int], None], folder: Path) -> None:
    """Call ``work(rank)``, a function of a module, in each of two processes of a group."""
    store = (folder / "store").as_uri()
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=in_process, args=(1, store, work))
    other.start()
    in_process(0, store, work)
    other.join()
    assert other.exitcode == 0


def in_process(rank: int, store: str, work: Callable[[int], None]) -> None:
    patience = timedelta(seconds=120)  # of one process for the other
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=patience)
    try:
        work(rank)
    finally:
        dist.destroy_process_group()
