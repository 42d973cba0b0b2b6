"""How fast exported detectors are beside PyTorch: a part of the benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.whole_runs import CLOSED_FORM, Effort, caches, fitted, least_seconds
from occ_lab.config.composition import build, composed
from occ_lab.data.images import read_image
from occ_lab.deploy.export import INPUTS, as_tensor, traced
from occ_lab.deploy.formats import FORMATS
from occ_lab.inference.predictor import TrainedDetector


def measure_export(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Images a second of a closed form in each format, by what a call takes.

    On the CPU, in as many threads as PyTorch has, timed in turn. A raw image lies decoded in
    memory, and PyTorch's time holds Pillow's resize. A format that is not installed has no figure.
    """
    with caches(work) as cache:
        cfg = composed("train", [*dataset, *CLOSED_FORM, cache, "trainer.accelerator=cpu"])
        detector, _ = fitted(cfg, 1)
    benchmark = build(cfg.dataset, "dataset")
    task = benchmark.tasks()[0]
    trained = TrainedDetector(task, cfg, detector, None)
    image = read_image(benchmark.split(task).test[0].path)
    cases = [(given, count) for given in INPUTS for count in effort.batches]
    return {
        f"{given}, {count} at once": images_per_second(
            trained, np.stack([image] * count), given == "raw", effort.seconds / 4
        )
        for given, count in cases
    }


def images_per_second(
    trained: TrainedDetector, images: np.ndarray, raw: bool, seconds: float
) -> dict[str, float | None]:
    """Of PyTorch and of each format, for raw images ``[N, h, w, 3]`` or what is made of them."""
    pixels = np.stack([trained.pixels(image) for image in images])
    given = images if raw else as_tensor(pixels)
    ready = torch.from_numpy(as_tensor(pixels))
    detector = trained.detector

    @torch.inference_mode()
    def eager() -> object:
        if raw:
            return trained.score_pixels(np.stack([trained.pixels(image) for image in images]))
        return detector.maps_and_scores(detector(ready))

    steps: dict[str, Callable[[], object]] = {"PyTorch": eager}
    with tempfile.TemporaryDirectory() as folder:
        program = traced(trained, raw, len(images))
        for name, form in FORMATS.items():
            if form.installed:
                path = Path(folder) / f"exported{form.suffix}"
                form.write(program, {}, path)
                run = form.run(path, torch.get_num_threads())
                steps[name] = lambda run=run: run(given)  # type: ignore[misc]
        least = least_seconds(list(steps.values()), seconds)
    speeds = {name: len(images) / each for name, each in zip(steps, least, strict=True)}
    return {name: speeds.get(name) for name in ("PyTorch", *FORMATS)}
