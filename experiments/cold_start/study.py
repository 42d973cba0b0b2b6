"""How few normal images are enough: ``python -m experiments.cold_start.study --help``.

A stream of normal images in five random orders. After 1, 2, 4, … images each method is tested: the
closed form goes on learning from the same stream, the others are fitted again to what has come.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.whole_runs import job_of
from experiments.trial import (
    TEXTURES,
    at,
    cached_data,
    command_line,
    record,
    spread,
    table,
)
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.fit import fit_without
from occ_lab.engine.job import Job
from occ_lab.engine.online import Online
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
ORDERS = range(5)
NORM = "norm, online"
ONE_PROJECTOR = "norm, one projector, online"
METHODS = {
    NORM: ["loss=norm", "loss.time=integrated"],  # the default of occ_lab.stream
    ONE_PROJECTOR: ["loss=norm", "loss.cell=null", "loss.bias=flow", "loss.time=10"],
    "nearest neighbours": ["loss=knn", "loss.bank=1000"],
    "PaDiM": ["loss=padim"],
    "CFA": ["loss=cfa", "loss.half_selection=true"],
}
ADAPTED = 128  # images that CFA's adaptation goes over, however often each
SETS = {
    "transistor": ["dataset=mvtec", "dataset.root=DIR/mvtec_256"],
    **{name: ["dataset=textures", f"dataset.category={name}"] for name in TEXTURES},
    **{
        f"MNIST {digit}": ["dataset=mnist", "dataset.root=DIR", f"dataset.category={digit}"]
        for digit in (3, 4, 7)
    },
    **{
        name: [
            "dataset=cats_and_dogs",
            "dataset.root=DIR/cats_and_dogs_subset",
            f"dataset.category={name}",
        ]
        for name in ("cat", "dog")
    },
}
STRUCTURED = ("transistor", *TEXTURES)
TESTED = 2000  # images at most, evenly taken from the test set
BATCH = 32
FEW = 16  # images of the figure that was asked for
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def main() -> None:
    """Run what is not recorded yet, then draw and write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials: list[tuple[str, Callable[[], Any]]] = [
        (f"{name} | {method} | {order}", partial(curve, name, method, order, data))
        for method in METHODS
        for name in SETS
        for order in ORDERS
        if method != "CFA" or name in STRUCTURED
    ]
    results = record(HERE / "results.json", trials)
    draw(results)
    write_whole(HERE / "README.md", report(results))


@dataclass
class Task:
    """A task, the order its normal images come in, and its test images.

    Attributes:
        job: the method.
        data: with features in place of images.
        order: indices of the training images.
        tests: batches of test images, as features.
    """

    job: Job
    data: AnomalyDataModule
    order: list[int]
    tests: list[dict[str, Any]]

    def figures(self, detector: Detector) -> dict[str, float]:
        """Image and pixel AUROC of the test images."""
        image, pixel = ImageAUROC(), PixelAUROC()
        detector.eval()
        with torch.no_grad():
            for batch in self.tests:
                _, maps, scores = detector.batch_scores(batch)
                image.update(scores, batch["label"])
                if "mask" in batch and maps is not None:
                    pixel.update(maps, batch["mask"])
        found = {"image_auroc": float(image.compute())}
        if "mask" in batch:
            found["pixel_auroc"] = float(pixel.compute())
        del image, pixel
        gc.collect()  # a metric refers to itself and would keep its pixels for long
        return found


def curve(name: str, method: str, order: int, data: Path) -> dict[str, Any]:
    """The figures of a method after 1, 2, 4, … images of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = at([*SETS[name], *METHODS[method], "maps=0"], data)
        if name in TEXTURES:
            overrides.append(f"dataset.root='{folder}'")
        task = prepared(job_of(overrides), order)
        counts = doublings(len(task.order))
        if method in (NORM, ONE_PROJECTOR):
            figures = list(online(task, counts))
        else:
            if method == "CFA":
                counts = counts[::2]
            figures = [fitted_again(task, count, method) for count in counts]
    return {"counts": counts, "figures": figures}


def doublings(count: int) -> list[int]:
    """1, 2, 4, … and ``count``."""
    return [2**power for power in range(count.bit_length()) if 2**power < count] + [count]


def prepared(job: Job, order: int) -> Task:
    """A task with its features from the cache."""
    data = cached_data(job, 1)
    count = len(data.test_images)
    indices = np.unique(np.linspace(0, count - 1, min(TESTED, count)).round().astype(int))
    tests = [
        data.test_set.__getitems__(some)  # type: ignore[attr-defined]
        for some in np.array_split(indices, max(1, len(indices) // BATCH))
    ]
    stream = np.random.default_rng(order).permutation(len(data.train_images)).tolist()
    return Task(job, data, stream, tests)


def online(task: Task, counts: Sequence[int]) -> Any:
    """Figures of the closed form while it learns from the stream."""
    detector = task.job.detector(task.job.benchmark)
    learner = Online(detector)
    for index in task.order:
        learner.learn(detector.levels(task.data.train_set.__getitems__([index])))  # type: ignore[attr-defined]
        if learner.images in counts:
            learner.solve()
            yield task.figures(detector)


def fitted_again(task: Task, count: int, method: str) -> dict[str, float] | None:
    """Metrics of a method fitted to the first images of the stream; None where it cannot be."""
    job = replace(task.job, max_epochs=max(1, ADAPTED // count)) if method == "CFA" else task.job
    try:
        fitted = fit_without(task.order[count:], job, job.benchmark, task.data.task)
    except InputError:  # one image has no covariance
        return None
    return task.figures(fitted.detector)


def kept(results: dict[str, Any], name: str, method: str, metric: str) -> dict[int, list[float]]:
    """A metric of every order after so many images, where it is known."""
    trials = [results[f"{name} | {method} | {order}"] for order in ORDERS]
    found: dict[int, list[float]] = {}
    for trial in trials:
        for count, figures in zip(trial["counts"], trial["figures"], strict=True):
            if figures and metric in figures:
                found.setdefault(count, []).append(figures[metric])
    return found


def recorded(results: dict[str, Any]) -> list[str]:
    """The sets that the norm objective was tested with, in every order."""
    last = max(ORDERS)
    return [name for name in SETS if f"{name} | {NORM} | {last}" in results]


def shown(results: dict[str, Any], name: str) -> list[str]:
    """The methods that a set was tested with."""
    last = max(ORDERS)
    return [method for method in METHODS if f"{name} | {method} | {last}" in results]


def draw(results: dict[str, Any]) -> None:
    """Every set: image AUROC, and pixel AUROC where there are masks; mean and spread of orders."""
    panels = [(name, "image_auroc") for name in recorded(results)]
    panels += [(name, "pixel_auroc") for name in STRUCTURED]
    figure, axes = plt.subplots(3, 5, figsize=(15, 8.4), layout="constrained")
    for axis, (name, metric) in zip(axes.flat, panels, strict=False):
        for method in shown(results, name):
            values = kept(results, name, method, metric)
            counts = sorted(values)
            mean = np.array([100 * np.mean(values[count]) for count in counts])
            deviation = np.array([100 * np.std(values[count], ddof=1) for count in counts])
            colour = f"C{list(METHODS).index(method)}"
            axis.plot(counts, mean, marker=".", color=colour, label=method)
            axis.fill_between(counts, mean - deviation, mean + deviation, color=colour, alpha=0.15)
        axis.set_xscale("log", base=2)
        axis.set_title(f"{name}, {METRICS[metric]} (%)", fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].legend(handles, labels, loc="center", fontsize=11, frameon=False)
    figure.supxlabel("normal images seen")
    figure.savefig(HERE / "cold_start.png", dpi=80)
    plt.close(figure)


def report(results: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# Cold start",
        "",
        "Image and pixel AUROC (per cent) after 1, 2, 4, … normal images, mean ± sample standard",
        "deviation over five random orders of the stream. Default backbone and settings. The norm",
        "objective learns online, image by image, as `occ_lab.stream` does: a projector for each",
        "cell, its score integrated over time, or one projector whose bias follows the flow to",
        "t = 10. The others are fitted anew: nearest neighbours",
        f"to a bank of 1,000 features; CFA with adaptation over {ADAPTED} images however few there",
        "are (neighbours picked in bfloat16), at every other count, and for structured sets alone,",
        f"whose positions its bank is made of. Of more than {TESTED:,} test images so many are",
        "taken, evenly. A dash: not tested; PaDiM has no covariance of one image. Sets and methods",
        "without a row are not recorded with the present defaults.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.cold_start.study --data DIR`.",
        "",
        "![AUROC against images seen](cold_start.png)",
        "",
        *asked_text(results),
    ]
    for metric, title in METRICS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for name in recorded(results):
            if not kept(results, name, NORM, metric):
                continue
            counts = sorted(kept(results, name, NORM, metric))
            rows = []
            for method in shown(results, name):
                values = kept(results, name, method, metric)
                cells = [spread(values[count], 100) if count in values else "–" for count in counts]
                rows.append([method, *cells])
            lines += [*table([name, *(str(count) for count in counts)], rows), ""]
    return "\n".join(lines)


def asked_text(results: dict[str, Any]) -> list[str]:
    """AUROC after few images, beside that of all, of the norm objective."""
    rows = []
    for name in recorded(results):
        row = [name]
        for metric in METRICS:
            values = kept(results, name, NORM, metric)
            if values:
                few, full = 100 * fmean(values[FEW]), 100 * fmean(values[max(values)])
                row += [f"{few:.1f}", f"{full:.1f}", f"{100 * few / full:.1f}"]
        rows.append(row + [""] * (1 + 3 * len(METRICS) - len(row)))
    titles = [
        heading
        for title in METRICS.values()
        for heading in (f"{title}, {FEW} images", "all", "fraction (%)")
    ]
    return [
        f"## The norm objective after {FEW} images",
        "",
        "Means over the orders, and the fraction that they are of the figure of all images; asked",
        "on transistor: 98.0 / 98.0.",
        "",
        *table(["set", *titles], rows),
        "",
    ]


if __name__ == "__main__":
    main()
