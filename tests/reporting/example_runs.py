"""Run directories as `occ_lab.engine.run` writes them, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from occ_lab.metrics.curves import auroc
from occ_lab.reporting.record import RunRecord, to_csv, to_json

COMPOSED = {"seed": 0, "dataset": {"sample_seed": "${seed}"}, "loss": {"seed": "${seed}"}}


def write_run(
    folder: Path,
    *,
    dataset: str = "textures",
    loss: str = "norm",
    seed: int = 0,
    tasks: Iterable[str] = ("brick", "grass"),
    shift: float = 1.5,
    images: int = 40,
    pictures: int = 0,
    overrides: Sequence[str] | None = None,
    category: Any = "all",
    masks: bool = True,
    **settings: Any,
) -> Path:
    """A finished run: half of the images are anomalous and score higher by ``shift`` deviations.

    All runs of a dataset share their test images, and most of the noise of their scores.
    ``settings`` are values of ``loss``, such as ``norm=4``.
    """
    config = {
        "seed": seed,
        "resume": False,
        "dataset": {"name": dataset, "category": category, "root": "data", "sample_seed": seed},
        "loss": {"name": loss, "seed": seed, **settings},
    }
    header = {"dataset": dataset, "loss": loss, "backbone": "b", "seed": seed, "version": "1"}
    record = RunRecord(folder, header, config)
    labels = np.arange(images) % 2
    for name in tasks:
        common = np.random.default_rng([len(name), *name.encode()]).normal(size=images)
        own = np.random.default_rng([seed, *loss.encode()]).normal(size=images)
        scores = np.float32(common + 0.3 * own + np.where(labels, shift, 0)).astype(float)
        with record.task(name) as scratch:
            write_task(scratch, f"data/{dataset}/{name}", labels, scores, masks)
            for rank in range(1, pictures + 1):
                (scratch / "maps").mkdir(exist_ok=True)
                picture = Image.effect_noise((908, 250), 40).convert("RGB")
                picture.save(scratch / "maps" / f"{rank:03d}_defect_hole_{rank}.png")
    hydra = folder / ".hydra"
    hydra.mkdir()
    (hydra / "config.yaml").write_text(yaml.safe_dump(COMPOSED))
    command = overrides or [f"dataset={dataset}", f"loss={loss}", f"seed={seed}"]
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(list(command)))
    return folder


def write_task(
    folder: Path, root: str, labels: np.ndarray, scores: np.ndarray, masks: bool
) -> None:
    """The files of one task."""
    found = auroc(scores, labels)
    figures: dict[str, Any] = {"image_auroc": found, "image_ap": 0.9, "image_f1max": 0.8}
    figures |= {"pixel_auroc": 0.95, "pixel_aupro": 0.7} if masks else {}
    figures |= {
        "n_train": 5,
        "n_test": len(labels),
        "seconds": {"features": 1.0, "fit": 2.0, "test": 0.5},
        "peak_memory_mb": 100.0,
    }
    rows = [
        {"path": f"{root}/{index:05d}.png", "label": int(label), "score": score}
        for index, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True))
    ]
    (folder / "scores.csv").write_text(to_csv(rows), encoding="utf-8")
    (folder / "metrics.json").write_text(to_json(figures), encoding="utf-8")
