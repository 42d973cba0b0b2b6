"""Thresholds from folds, by three rules: ``python -m experiments.calibration_folds.study --help``.

The following was fixed before any result was seen: the sets, the methods with their defaults, and
the numbers of images, folds, draws and rates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.whole_runs import job_of
from experiments.trial import at, command_line, record, table
from occ_lab.data.items import Item, Split
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job
from occ_lab.engine.single_fit import fit_without
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
TEXTURES = ["dataset=textures", "dataset.train=260"]
SETS = {  # overrides, and the number of images of one draw
    "brick": ([*TEXTURES, "dataset.category=brick"], 60),
    "transistor": (["dataset=mvtec", "dataset.root=DIR/mvtec_256"], 100),
    "magnetic_tile": (["dataset=magnetic_tile", "dataset.root=DIR/magnetic_tile"], 100),
}
NEW = 200  # the largest number of further training images that nothing was fitted to
METHODS = {
    "norm": ["loss=norm"],
    "gaussian": ["loss=gaussian"],
    "padim": ["loss=padim"],
}
FOLDS = 5
DRAWS = 3
RATES = (0.05, 0.1)  # α
RULES = {"pooled": "pooled", "plus": "CV+", "split": "split"}
RULES_PAGE = f"""# Thresholds from folds

A small set is calibrated on all of its training images, by {FOLDS} folds. Three rules for the
p-value of a new image are compared, with the same detectors:

- **pooled**: the score of the detector fitted to all images, among the held-out scores of all
  folds. One detector and one threshold in use; no guarantee without assumptions.
- **CV+** (Barber et al. 2021, arXiv 1905.02928): for each fold, the score of the detector fitted
  without it, among its held-out scores. The false-positive rate is at most about twice the
  requested rate, whatever the method; {FOLDS} detectors in use, and no single threshold.
- **split**: the detector fitted without the first fold, which calibrates it. This is exact, but few
  images are left to calibrate on. If they cannot guarantee the rate, nothing is rejected.

There are {DRAWS} draws of training images of each set. *New* are up to {NEW} further training
images that no detector has seen. They are exchangeable with the draw, so the false-positive rate on
them tests the rules. The rate on the normal test images also depends on how similar the test set
is. For anomalous test images, the fraction of rejected images is shown. Per cent, means of the
draws.

Recorded by `OMP_NUM_THREADS=1 python -m experiments.calibration_folds.study --data DIR`."""
DEFAULT = """\
By their guarantees, the rules rank split, CV+, pooled. Split leaves too few images for small rates.
CV+ needs the detectors of all folds wherever the model is used, even in exported files, and has no
threshold to print. Pooled is the default. If more training images lower the scores of new images,
its p-values are no smaller than those of CV+, and it shares the guarantee of CV+. For nearest
neighbours without a coreset this holds by construction. In every set and method here, the median
score of new images is lower with the detector of all images than with those fitted without a fold.
The price is that the threshold may be too high: PaDiM, whose covariances need many images, rejects
far fewer normal images than it may, and misses more defects than with CV+.
"""
WHERE = """\
Medians of image scores, means of the draws. The detectors fitted without a fold score new images of
the same source much like the held-out images, so the observed rates match the requested ones.
Brick's test images are cut from the other half of its photograph: the same detectors give the
normal ones higher scores than held-out images, and no rule can know that. Its training images
overlap each other, so a threshold from them is too low for images from anywhere else.
"""
KINDS = {"new": "new", "test": "normal test images", "defects": "anomalous test images"}


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials = (
        (f"{name} | {method} | draw {draw}", partial(measured, name, method, draw, data))
        for name in SETS
        for method in METHODS
        for draw in range(DRAWS)
    )
    results = record(HERE / "results.json", trials)
    write_whole(HERE / "README.md", report(results))


def measured(name: str, method: str, draw: int, data: Path) -> dict[str, Any]:
    """The fractions of images that each rule rejects, for one draw of training images."""
    overrides, count = SETS[name]
    job = job_of(at([*overrides, *METHODS[method]], data))
    (task,) = job.benchmark.tasks()
    whole = job.benchmark.split(task)
    test = [replace(item, mask=None) for item in whole.test]  # only images are judged
    order = np.random.default_rng(draw).permutation(len(whole.train)).tolist()
    ours = [whole.train[index] for index in sorted(order[:count])]
    new = [whole.train[index] for index in sorted(order[count : count + NEW])]
    # One pool for all draws: its features are extracted once.
    job = redrawn(job, Split(ours, [*new, *test], whole.train))
    kinds = kinds_of(len(new), test)
    folds = [
        part.tolist() for part in np.array_split(np.random.default_rng(0).permutation(count), FOLDS)
    ]
    held_out, fold_scores = [], []
    for fold in folds:
        member = fit_without(fold, job, job.benchmark, task)
        held_out.append(member.calibration_scores()[0].double())
        fold_scores.append(tested(member))
    final = tested(fit_without([], job, job.benchmark, task))
    pooled = Calibration.of(torch.cat(held_out), torch.cat(held_out))
    counted = sum(
        (own[:, None] >= scores).sum(dim=0)
        for own, scores in zip(held_out, fold_scores, strict=True)
    )
    # A split holds out as many images as a fold, so its detector is that of the first fold.
    split = Calibration.of(held_out[0], held_out[0])
    p_values = {
        "pooled": pooled.p_values(final),
        "plus": (1 + counted).double() / (1 + count),
        "split": split.p_values(fold_scores[0]),
    }
    found = {
        rule: {
            str(rate): {
                kind: float((values[here] <= rate).double().mean()) for kind, here in kinds.items()
            }
            for rate in RATES
        }
        for rule, values in p_values.items()
    }
    medians = {
        "held_out": float(torch.cat(held_out).median()),
        **{
            f"folds_{kind}": fmean(float(each[kinds[kind]].median()) for each in fold_scores)
            for kind in kinds
        },
        **{f"final_{kind}": float(final[kinds[kind]].median()) for kind in kinds},
    }
    return {"images": count, "rates": found, "medians": medians}


def redrawn(job: Job, parts: Split) -> Job:
    """The job with other images."""
    benchmark = copy.copy(job.benchmark)
    benchmark.split = lambda task: parts  # type: ignore[method-assign]
    return replace(job, views=[benchmark])


def kinds_of(new: int, test: Sequence[Item]) -> dict[str, Tensor]:
    """Masks of the tested images: new training images, normal and anomalous test images."""
    labels = torch.tensor([0] * new + [2 + item.label for item in test])
    return {kind: labels == value for kind, value in zip(KINDS, (0, 2, 3), strict=True)}


def tested(member: Fitted) -> Tensor:
    """The image scores of the test, float64 ``[N]``."""
    member.test()
    return member.recorder.tested("score").double()


def report(results: dict[str, Any]) -> str:
    """The page, as Markdown."""
    asked = [line for rate in RATES for line in rate_lines(results, rate)]
    default = ["", "## The default, and why", "", *summary(results), "", DEFAULT]
    where = ["## The level of the scores", "", *medians_table(results), "", WHERE]
    return "\n".join([RULES_PAGE, *asked, *default, *where])


def found(results: dict[str, Any], name: str, method: str) -> list[dict[str, Any]]:
    """The draws of a set and a method."""
    return [results[f"{name} | {method} | draw {draw}"] for draw in range(DRAWS)]


def rate_lines(results: dict[str, Any], rate: float) -> list[str]:
    """The section of one rate."""
    titles = ["set", "images", "method"]
    titles += [f"{rule}: {kind}" for kind in KINDS.values() for rule in RULES.values()]
    rows = []
    for name in SETS:
        for method in METHODS:
            draws = found(results, name, method)
            row = [name, str(draws[0]["images"]), method]
            for kind in KINDS:
                for rule in RULES:
                    values = [each["rates"][rule][str(rate)][kind] for each in draws]
                    row.append(f"{100 * fmean(values):.1f}")
            rows.append(row)
    return ["", f"## Requested rate {100 * rate:g} %", "", *table(titles, rows)]


def summary(results: dict[str, Any]) -> list[str]:
    """The rates on new images over all sets, with their standard deviation."""
    rows = []
    for method in METHODS:
        for rate in RATES:
            row = [method, f"{100 * rate:g}"]
            for rule in RULES:
                values = [
                    each["rates"][rule][str(rate)]["new"]
                    for name in SETS
                    for each in found(results, name, method)
                ]
                row.append(f"{100 * fmean(values):.1f} ± {100 * stdev(values):.1f}")
            rows.append(row)
    return [
        *table(["method", "asked (%)", *(f"{rule}: new" for rule in RULES.values())], rows),
    ]


def medians_table(results: dict[str, Any]) -> list[str]:
    """Medians of scores, by the detectors fitted without a fold and by that of all images."""
    columns = ["held_out", "folds_new", "folds_test", "final_new", "final_test"]
    titles = ["held out", "new, by folds", "normal test, by folds", "new, by all", "test, by all"]
    rows = [
        [
            name,
            method,
            *(
                f"{fmean(each['medians'][column] for each in found(results, name, method)):.4g}"
                for column in columns
            ),
        ]
        for name in SETS
        for method in METHODS
    ]
    return table(["set", "method", *titles], rows)


if __name__ == "__main__":
    main()
