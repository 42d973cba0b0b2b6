"""The speed of exported detectors compared with PyTorch: a part of the benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.whole_runs import CLOSED_FORM, Effort, caches, fitted, job_of, least_seconds
from occ_lab.data.images import read_image
from occ_lab.deploy.export import INPUTS, as_tensor, traced
from occ_lab.deploy.formats import FORMATS
from occ_lab.inference.predictor import Predictor


def measure_export(dataset: list[str], effort: Effort, work: Path) -> dict[str, Any]:
    """Images per second of a closed form in each format, for each kind of input.

    All formats are timed in turn on the CPU, with as many threads as PyTorch. Raw images are
    decoded in memory before, and the time of PyTorch includes Pillow's resize. A format that is not
    installed has no value.
    """
    with caches(work) as cache:
        overrides = [*dataset, *CLOSED_FORM, cache, "trainer.accelerator=cpu"]
        detector, _ = fitted(overrides, 1)
    benchmark = job_of(dataset).benchmark
    task = benchmark.tasks()[0]
    predictor = Predictor(detector, task)
    image = read_image(benchmark.split(task).test[0].path)
    cases = [(given, count) for given in INPUTS for count in effort.batches]
    return {
        f"{given}, {count} at once": images_per_second(
            predictor, np.stack([image] * count), given == "raw", effort.seconds / 4
        )
        for given, count in cases
    }


def images_per_second(
    predictor: Predictor, images: np.ndarray, raw: bool, seconds: float
) -> dict[str, float | None]:
    """The speed of PyTorch and of each format, for raw images ``[N, h, w, 3]`` or resized ones."""
    pixels = np.stack([predictor.seen(image).pixels for image in images])
    given = images if raw else as_tensor(pixels)
    ready = torch.from_numpy(as_tensor(pixels))

    @torch.inference_mode()
    def eager() -> object:
        if raw:
            seen = [predictor.seen(image) for image in images]
            sizes = [each.size for each in seen]
            return predictor.score_pixels(np.stack([each.pixels for each in seen]), sizes)
        return predictor.detector(ready)

    steps: dict[str, Callable[[], object]] = {"PyTorch": eager}
    with tempfile.TemporaryDirectory() as folder:
        program = traced(predictor, raw, len(images))
        for name, form in FORMATS.items():
            if form.installed:
                path = Path(folder) / f"exported{form.suffix}"
                form.write(program, {}, path)
                run = form.run(path, torch.get_num_threads())
                steps[name] = lambda run=run: run(given)  # type: ignore[misc]
        least = least_seconds(list(steps.values()), seconds)
    speeds = {name: len(images) / each for name, each in zip(steps, least, strict=True)}
    return {name: speeds.get(name) for name in ("PyTorch", *FORMATS)}
