"""One to eight training images, with and without rotated copies of them.

``python -m experiments.few_images.study --help``. `experiments.cold_start` goes on to more images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.whole_runs import job_of
from experiments.trial import aurocs, command_line, record, sets, spread, table
from occ_lab.engine.single_fit import fit_without
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
METHODS = {
    "norm": ["loss=norm"],
    "PaDiM": ["loss=padim"],
    "Gaussian": ["loss=gaussian"],
    "nearest neighbours": ["loss=knn", "loss.bank=1000"],
}
TURNS = {
    "none": "[]",
    "±5°": "[-5,5]",
    "quarter turns": "[90,180,270]",
}
NAMES = ("transistor", "brick", "grass", "gravel", "magnetic_tile")
COUNTS = (4, 1, 2, 8)  # in the order in which they are recorded
DRAWS = range(5)
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
ASKED = 95.0  # per cent, image AUROC on transistor with four images


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    logging.getLogger("occ_lab").setLevel(logging.WARNING)
    trials = (
        (
            key(name, method, turns, count),
            partial(
                figures, name, [*METHODS[method], f"dataset.turns={TURNS[turns]}"], count, data
            ),
        )
        for name, method, turns, count in cases()
    )
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Set, method, rotations and number of images of every trial."""
    return (
        (name, method, turns, count)
        for name in NAMES
        for method in METHODS
        for count in COUNTS
        for turns in TURNS
    )


def key(name: str, method: str, turns: str, count: int) -> str:
    """The key of a trial in results.json."""
    return f"{name} | {method} | {turns} | {count}"


def settings(method: str, turns: str) -> list[str]:
    """The overrides of a method and of the rotations."""
    return [*METHODS[method], f"dataset.turns={TURNS[turns]}"]


def figures(
    name: str, overrides: list[str], count: int, data: Path
) -> dict[str, list[float]] | None:
    """Each metric for every draw of the training images; None if the method cannot be fitted."""
    found = [
        drawn([*sets(data)[name], *overrides, f"dataset.train_limit={count}", f"seed={seed}"])
        for seed in DRAWS
    ]
    if None in found:
        return None
    return {metric: [each[metric] for each in found if each] for metric in METRICS}


def drawn(overrides: list[str]) -> dict[str, float] | None:
    """Image and pixel AUROC of one draw."""
    job = job_of(overrides)
    try:
        fitted = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    except InputError:  # a single image has no covariance
        return None
    return aurocs(fitted.detector, fitted.data)


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    lines = [
        "# Few training images",
        "",
        "Image and pixel AUROC (per cent) with 1, 2, 4 and 8 training images",
        "(`dataset.train_limit`), mean ± sample standard deviation over five draws of them",
        "(`dataset.sample_seed`). Default backbone and settings; nearest neighbours with a bank of",
        "1,000 features. Rotations: every training image is also used rotated by these angles",
        "(`dataset.turns`). PaDiM has no covariance of a single image without rotations. A dash",
        "means that the method cannot be fitted; sets, methods and numbers without a row are not",
        "recorded.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.few_images.study --data DIR`.",
        "",
        *asked_text(results),
    ]
    for metric, title in METRICS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for name in NAMES:
            rows = [
                [method, turns, *cells]
                for method in METHODS
                for turns in TURNS
                if any(cells := cells_of(results, name, method, turns, metric))
            ]
            if rows:
                counts = map(str, sorted(COUNTS))
                lines += [*table([name, "rotations", *counts], rows), ""]
    return "\n".join(lines)


def cells_of(results: dict[str, Any], name: str, method: str, turns: str, metric: str) -> list[str]:
    """The cells of a row, by the number of images; empty ones are not recorded."""
    cells = []
    for count in sorted(COUNTS):
        at = key(name, method, turns, count)
        found = results.get(at)
        cells.append(spread(found[metric], 100) if found else "–" if at in results else "")
    return cells


def asked_text(results: dict[str, Any]) -> list[str]:
    """Whether four images were enough on transistor."""
    found = {
        f"{method}, rotations: {turns}": 100 * fmean(recorded["image_auroc"])
        for method in METHODS
        for turns in TURNS
        if (recorded := results.get(key("transistor", method, turns, 4)))
    }
    best = max(found, key=lambda each: found[each])
    reached = "is reached" if found[best] >= ASKED else "is missed"
    return [
        f"With four images of the transistor, a mean image AUROC of {ASKED:g} was the aim. It",
        f"{reached}: the best row has {found[best]:.1f} ({best}). Which row is best is known from",
        "the test images alone, so no default follows from it.",
        "",
    ]


if __name__ == "__main__":
    main()
