"""The methods of SubspaceAD and AnomalyDINO on the default backbone.

``python -m experiments.today.study --help``. Their own backbones cannot be downloaded here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.few_images.study import drawn
from experiments.trial import command_line, record, sets, spread, table
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
METHODS = {
    "norm": ["loss=norm"],
    "subspace": ["loss=subspace"],
    "subspace, explained 0.9": ["loss=subspace", "loss.explained=0.9"],
    "nearest neighbours, cosine": ["loss=knn", "loss.metric=cosine"],
    "nearest neighbours, cosine, window 8": ["loss=knn", "loss.metric=cosine", "loss.window=8"],
}
WITH_ALL_IMAGES = [method for method in METHODS if "neighbours" not in method]
FULL = ("transistor", "brick", "grass", "gravel", "magnetic_tile")
FEW = FULL[:4]
COUNTS = (1, 2, 4)
DRAWS = range(3)
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
Figures = dict[str, list[float]]


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    logging.getLogger("occ_lab").setLevel(logging.WARNING)
    trials: list[tuple[str, Callable[[], Figures]]] = [
        (key(name, method, None), partial(figures, name, method, None, data))
        for method in WITH_ALL_IMAGES
        for name in FULL
    ]
    trials += [
        (key(name, method, count), partial(figures, name, method, count, data))
        for count in COUNTS
        for method in METHODS
        for name in FEW
    ]
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def key(name: str, method: str, count: int | None) -> str:
    """The key of a trial in results.json; None is all images."""
    return f"{name} | {method} | {count or 'all'}"


def figures(name: str, method: str, count: int | None, data: Path) -> Figures:
    """Each metric, for every draw of the training images."""
    overrides = [*sets(data)[name], *METHODS[method]]
    found = [
        drawn([*overrides, f"dataset.train_limit={count or 'null'}", f"seed={seed}"])
        for seed in (DRAWS if count else [0])
    ]
    return {metric: [each[metric] for each in found if each] for metric in METRICS}


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    lines = [
        "# Methods of SubspaceAD and AnomalyDINO on the default backbone",
        "",
        "Image and pixel AUROC in per cent, EfficientNet-Lite0, the maximum of the map. The",
        "published figures of both methods are with DINOv2, whose weights cannot be downloaded",
        "here: **their presets (`experiment=subspacead`, `experiment=anomalydino`) were not run",
        "with their weights**, and nothing on this page compares with a published figure.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.today.study --data DIR`.",
        "",
        "## All training images",
        "",
        *all_images(results),
        "## 1, 2 and 4 training images",
        "",
        f"Mean ± sample standard deviation over {len(DRAWS)} draws of the images, without rotated",
        "copies. Nearest neighbours have a bank of at most 10,000 features of 3,136 an image.",
        "Methods and numbers without a row are not recorded.",
        "",
    ]
    for metric, title in METRICS.items():
        lines += [f"### {title[0].upper()}{title[1:]}", ""]
        rows = []
        for method in METHODS:
            for count in COUNTS:
                found = [results.get(key(name, method, count)) for name in FEW]
                if all(found):
                    cells = [spread(each[metric], 100) for each in found if each]
                    rows.append([method, str(count), *cells])
        lines += [*table(["method", "images", *FEW], rows), ""]
    return "\n".join(lines)


def all_images(results: dict[str, Any]) -> list[str]:
    """The table of all training images."""
    rows = []
    for method in WITH_ALL_IMAGES:
        found = [results.get(key(name, method, None)) for name in FULL]
        if all(found):
            pairs = [[100 * each[metric][0] for metric in METRICS] for each in found if each]
            cells = [f"{image:.1f} / {pixel:.1f}" for image, pixel in pairs]
            means = [fmean(each) for each in zip(*pairs, strict=True)]
            rows.append([method, *cells, f"{means[0]:.1f} / {means[1]:.1f}"])
    return [*table(["method", *FULL, "mean"], rows), ""]


if __name__ == "__main__":
    main()
