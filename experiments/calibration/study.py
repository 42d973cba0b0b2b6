"""False alarms and the guarantee: ``python -m experiments.calibration.study --help``.

The following was fixed before any result was seen: the held-out fractions, one seed, the two rates,
and that a figure is judged by the central 95 % of its beta-binomial distribution, with the 99 % and
the simultaneous interval beside it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from datetime import date
from functools import partial, reduce
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import betabinom, mannwhitneyu

from benchmarks.whole_runs import CLOSED_FORM, job_of
from experiments.trial import at, command_line, record, table
from occ_lab.engine.fit import fitted
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
DIGITS = range(10)
RATES = (0.05, 0.01)  # α
SHARE = 0.2  # of a digit's training images to calibrate on, and the same for the control
SEED = 1  # decides which of the images set aside are the control
AGAIN = {4: range(1, 5), 8: range(1, 5)}  # further seeds of the digits outside, examined afterwards
SOURCES = {"test": "official test images", "control": "control"}
FIGURES = len(DIGITS) * len(RATES)  # judged together, for each of the sources
PRIMARY, WIDER, JOINT = 0.95, 0.99, 1 - 0.05 / FIGURES


class Judged(NamedTuple):
    """A count of false alarms, and its distribution under the guarantee.

    Attributes:
        digit: the normal digit.
        rate: α.
        count: the number of normal images above the threshold.
        images: the number of normal images.
        law: the distribution of the count if all normal images are exchangeable.
    """

    digit: int
    rate: float
    count: int
    images: int
    law: Any

    def interval(self, fraction: float) -> tuple[int, int]:
        """The smallest and the largest count in the central ``fraction``."""
        low, high = self.law.ppf([(1 - fraction) / 2, (1 + fraction) / 2])
        return int(low), int(high)

    def inside(self, fraction: float) -> bool:
        """Whether the count lies in the central ``fraction``."""
        low, high = self.interval(fraction)
        return low <= self.count <= high

    def outside_chance(self, fraction: float) -> float:
        """The probability of a count outside the central ``fraction``: at most 1 − fraction."""
        low, high = self.interval(fraction)
        return float(1 - self.law.cdf(high) + self.law.cdf(low - 1))

    def transform(self) -> float:
        """The quantile of the count in its distribution, 0..1, with half of its own probability."""
        return float(self.law.cdf(self.count) - self.law.pmf(self.count) / 2)


def main() -> None:
    """Run the fits that are not recorded yet, then draw and write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    seeds = [
        *((digit, 0) for digit in DIGITS),
        *((digit, s) for digit in AGAIN for s in AGAIN[digit]),
    ]
    trials = ((key(digit, seed), partial(measured, digit, seed, data)) for digit, seed in seeds)
    results = record(HERE / "results.json", trials)
    draw(HERE / "calibration.png", results)
    write_whole(HERE / "README.md", report(results))


def key(digit: int, seed: int = 0) -> str:
    """The key of a fit in the results."""
    return f"digit {digit} | seed {seed}"


def measured(digit: int, seed: int, data: Path) -> dict[str, Any]:
    """One fit; half of the images set aside give the thresholds, the other half is the control."""
    started = time.perf_counter()
    overrides = [
        "dataset=mnist",
        "dataset.root=DIR",
        f"dataset.category={digit}",
        *CLOSED_FORM,
        f"calibration.share={2 * SHARE}",
        f"seed={seed}",
    ]
    job = job_of(at(overrides, data))
    (task,) = job.benchmark.tasks()
    with tempfile.TemporaryDirectory() as folder:
        member = fitted(job, job.benchmark, task, [], [], Path(folder) / "last.ckpt")
    aside, peaks = member.calibration_scores()
    order = np.random.default_rng(SEED).permutation(len(aside))
    ours, control = np.array_split(order, 2)
    calibration = Calibration.of(aside[ours], peaks[ours])
    scores, labels = (member.recorder.tested(name) for name in ("score", "label"))
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    alarms: dict[str, dict[str, int]] = {}
    for rate in RATES:
        threshold = calibration.threshold(rate)
        alarms[str(rate)] = {
            "test": above(normal, threshold),
            "control": above(aside[control], threshold),
            "escaped": len(anomalous) - above(anomalous, threshold),
        }
    return {
        "train": len(member.data.split.train),
        "calibration": len(calibration.scores),
        "distinct": len(calibration.scores.unique()),
        "test": len(normal),
        "control": len(control),
        "anomalous": len(anomalous),
        "image_auroc": member.recorder.metrics["image_auroc"],
        "higher": float(mannwhitneyu(normal, aside).statistic) / (len(normal) * len(aside)),
        "alarms": alarms,
        "seconds": time.perf_counter() - started,
    }


def above(scores: torch.Tensor, threshold: float) -> int:
    """The number of scores ``[N]`` classified as anomalous."""
    return int((scores.double() > threshold).sum())


def judged(results: dict[str, Any], source: str, rate: float) -> list[Judged]:
    """The counts of all digits at a rate."""
    return [judge(results[key(digit)], digit, source, rate) for digit in DIGITS]


def judge(fit: dict[str, Any], digit: int, source: str, rate: float) -> Judged:
    """The count of a fit at a rate."""
    beyond = int(rate * (fit["calibration"] + 1) + 1e-9)  # calibration scores, as in `exceeding`
    law = betabinom(fit[source], beyond, fit["calibration"] + 1 - beyond)
    return Judged(digit, rate, fit["alarms"][str(rate)][source], fit[source], law)


def sum_of(chances: Iterable[np.ndarray]) -> np.ndarray:
    """The distribution ``[n + 1]`` of the sum of independent counts from theirs."""
    return reduce(np.convolve, chances)


def draw(path: Path, results: dict[str, Any]) -> None:
    """Draw the observed rates and their intervals over the digits, a panel per rate and source."""
    style = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.hspace": 0.06,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharey="row", sharex=True)
        for row, rate in zip(panels, RATES, strict=True):
            for axes, (source, title) in zip(row, SOURCES.items(), strict=True):
                draw_panel(axes, judged(results, source, rate))
                axes.set_title(f"{title}, α = {rate:g}", fontsize=10)
            row[0].set_ylabel("observed false-positive rate (%)")
        for axes in panels[-1]:
            axes.set_xlabel("normal digit")
        told = panels[0, 0].get_legend_handles_labels()
        figure.legend(*told, loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, dpi=110)


def draw_panel(axes: Axes, found: list[Judged]) -> None:
    """Draw the digits of one rate and source."""
    spans = (
        (JOINT, 2, "#b9c6d6", "95 % of all 20 at once"),
        (PRIMARY, 7, "#8fb0d6", "central 95 %"),
    )
    for fraction, width, colour, label in spans:
        ends = np.array([np.array(one.interval(fraction)) / one.images for one in found]) * 100
        axes.vlines(list(DIGITS), *ends.T, color=colour, lw=width, label=label)
    axes.axhline(100 * found[0].rate, color="#555555", lw=0.8, ls="--", label="asked, α")
    kinds = ((True, "black", "inside central 95 %"), (False, "#d62728", "outside"))
    for inside, colour, label in kinds:
        some = [one for one in found if one.inside(PRIMARY) == inside]
        fractions = [100 * one.count / one.images for one in some]
        axes.plot([one.digit for one in some], fractions, "o", ms=5, color=colour, label=label)
    axes.set_xticks(list(DIGITS))
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    lines = [
        "# False alarms and the guarantee",
        "",
        "Does a calibrated threshold keep the requested false-positive rate α? Each digit of MNIST",
        "in turn is normal, with `loss=norm loss.solver=closed_form` and the default backbone. Of",
        "a digit's training images, a random 60 % are used for training, 20 % give the thresholds",
        "and 20 % are a control. If calibration images and new normal images are exchangeable, the",
        "true false-positive rate of a threshold has the distribution Beta(k, n + 1 − k) over",
        "calibration sets of n images, with k = ⌊α (n + 1)⌋. The number of false alarms among m",
        "new normal images is then Beta-binomial(m, k, n + 1 − k).",
        "",
        "The control is exchangeable with the calibration images by construction, so it tests the",
        "code. The official test images are not quite exchangeable: they are by other writers.",
        "",
        "The following was fixed before any result was seen. A figure is judged by the central 95",
        "% of its distribution. The central 99 % is shown beside it. Since one of twenty figures",
        "is expected outside by chance, there is also an interval that all twenty figures keep",
        "together with 95 % (each 1 − 0.05 / 20, Bonferroni); it is called *simultaneous* below.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.calibration.study --data DIR`.",
        "",
        *(f"- {title}: {verdict(results, source)}" for source, title in SOURCES.items()),
        "",
        "![Observed false-positive rates of all digits, with intervals](calibration.png)",
        "",
        "## All digits at once",
        "",
        *table(*together(results)),
        "",
        "At one rate the digits are independent of each other. The chance of as many digits",
        "outside, and the interval of all digits' false alarms together, are therefore exact. PIT,",
        "here and below, is the quantile of a count in its distribution, including half of its own",
        "probability; it is about uniform on 0 to 1 if the assumption of the guarantee holds.",
        "",
        "Over all ten digits together, the requested rate is kept on the official test images, at",
        "either rate. Single digits deviate more than the assumption predicts: digit 4 has too",
        "many false alarms at both rates, and at 0.01 more than even the simultaneous interval",
        "allows. The same thresholds keep their rate on the control of digit 4. On the control,",
        "two figures are outside, which happens by chance often enough, and none is outside the",
        "simultaneous interval.",
        "",
        "## A second look at the digits outside",
        "",
        "This was examined after the results above were seen and is no part of their verdict: four",
        "more seeds of the two digits that were outside on the official test images. Each seed has",
        "another choice of training, calibration and control images. False-positive rate in per",
        "cent, the mean of all five seeds (minimum to maximum). The test images are the same in",
        "all seeds.",
        "",
        *table(*again(results)),
        "",
        "Digit 4 stays too high: whichever training images are used for calibration, its test",
        "images have about half more false alarms than requested at 0.05 and twice the requested",
        "number at 0.01, while its control has the requested number. So the test images differ;",
        "the threshold does not fail. The first seed was the worst at 0.01: the other four are",
        "inside the simultaneous interval. Digit 8 is a little below the requested rate, and the",
        "first seed was an extreme one.",
        "",
        "The guarantee holds for images like the calibration images. Other writers of the same",
        "digit, the likely reason here, may be enough to break it: a new source of images needs",
        "its own calibration.",
        "",
        "## The detectors",
        "",
        *table(*detectors(results)),
        "",
        "No two calibration scores are equal, as the distribution requires. The miss rate is the",
        "fraction of the other nine digits' test images that is not above the threshold. The last",
        "column is the percentage of pairs in which a normal test image scores higher than a",
        "held-out normal training image, with its standard error; 50 means no difference. The bulk",
        "of the scores hardly moves: the false alarms of digit 4 come from the upper tail.",
    ]
    for source, title in SOURCES.items():
        lines += ["", f"## Each figure: {title}", "", *table(*each_figure(results, source))]
    return "\n".join([*lines, ""])


def verdict(results: dict[str, Any], source: str) -> str:
    """The number of figures inside, and those outside, in words."""
    found = [one for rate in RATES for one in judged(results, source, rate)]
    inside, jointly = (sum(one.inside(fraction) for one in found) for fraction in (PRIMARY, JOINT))
    outside = ", ".join(
        f"digit {one.digit} at {one.rate:g} ({100 * one.count / one.images:.2f} %, central 95 % "
        f"{span(one, PRIMARY)})"
        for one in found
        if not one.inside(PRIMARY)
    )
    return (
        f"{inside} of {len(found)} figures are in their central 95 %, {jointly} in the "
        f"simultaneous interval. Outside the central 95 %: {outside or 'none'}."
    )


def again(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row for each digit and rate: the false-positive rates of all seeds on both sources."""
    rows = []
    for digit, seeds in AGAIN.items():
        fits = [results[key(digit, seed)] for seed in (0, *seeds)]
        for rate in RATES:
            row = [str(digit), f"{rate:g}"]
            for source in SOURCES:
                found = [judge(fit, digit, source, rate) for fit in fits]
                fractions = [100 * one.count / one.images for one in found]
                inside = sum(one.inside(PRIMARY) for one in found)
                row.append(f"{fmean(fractions):.2f} ({min(fractions):.2f} to {max(fractions):.2f})")
                row.append(f"{inside} of {len(found)}")
            rows.append(row)
    titles = ((title, "in their 95 %") for title in SOURCES.values())
    return ["digit", "α", *(title for pair in titles for title in pair)], rows


def together(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row for each source and rate: the number of digits outside, and the sum of all digits."""
    rows = []
    for source, title in SOURCES.items():
        for rate in RATES:
            found = judged(results, source, rate)
            outside = sum(not one.inside(PRIMARY) for one in found)
            missing = [one.outside_chance(PRIMARY) for one in found]
            as_many = sum_of(np.array([1 - chance, chance]) for chance in missing)[outside:].sum()
            total = sum(one.count for one in found)
            law = sum_of(one.law.pmf(np.arange(one.images + 1)) for one in found)
            low, high = np.searchsorted(law.cumsum(), [0.025, 0.975])
            images = sum(one.images for one in found)
            rows.append(
                [
                    title,
                    f"{rate:g}",
                    f"{outside} of {len(found)}",
                    f"{sum(missing):.2f}",
                    f"{as_many:.2g}",
                    str(sum(not one.inside(JOINT) for one in found)),
                    f"{100 * total / images:.2f}",
                    f"{100 * low / images:.2f} to {100 * high / images:.2f}",
                    f"{law[:total].sum() + law[total] / 2:.3f}",
                ]
            )
    titles = ["normal images", "α", "outside 95 %", "expected", "chance of as many"]
    titles += ["outside simultaneous", "false-positive rate of all digits (%)", "95 %", "PIT"]
    return titles, rows


def each_figure(results: dict[str, Any], source: str) -> tuple[list[str], list[list[str]]]:
    """One row for each rate and digit."""
    rows = []
    for one in (one for rate in RATES for one in judged(results, source, rate)):
        rows.append(
            [
                f"{one.rate:g}",
                str(one.digit),
                str(results[key(one.digit)]["calibration"]),
                f"{one.count} of {one.images}",
                f"{100 * one.count / one.images:.2f}",
                *(span(one, fraction) for fraction in (PRIMARY, WIDER, JOINT)),
                f"{one.transform():.3f}",
                narrowest(one),
            ]
        )
    titles = ["α", "digit", "calibration images", "false alarms", "false-positive rate (%)"]
    return [*titles, "95 %", "99 %", "simultaneous", "PIT", "narrowest that holds it"], rows


def span(one: Judged, fraction: float) -> str:
    """The interval in per cent of the images."""
    low, high = one.interval(fraction)
    return f"{100 * low / one.images:.2f} to {100 * high / one.images:.2f}"


def narrowest(one: Judged) -> str:
    """The narrowest interval that contains the count; in bold if it is not the primary one."""
    if one.inside(PRIMARY):
        return "95 %"
    wider = {"99 %": WIDER, "simultaneous": JOINT}
    return f"**{next((name for name, fraction in wider.items() if one.inside(fraction)), 'none')}**"


def detectors(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row for each digit: its fit, its miss rates, and how the test images differ."""
    rows = []
    for digit in DIGITS:
        one = results[key(digit)]
        aside = one["calibration"] + one["control"]
        error = ((one["test"] + aside + 1) / (12 * one["test"] * aside)) ** 0.5
        rows.append(
            [
                str(digit),
                str(one["train"]),
                f"{one['calibration']} ({one['distinct']})",
                f"{100 * one['image_auroc']:.2f}",
                *(
                    f"{100 * one['alarms'][str(rate)]['escaped'] / one['anomalous']:.1f}"
                    for rate in RATES
                ),
                f"{100 * one['higher']:.1f} ± {100 * error:.1f}",
            ]
        )
    titles = ["digit", "training images", "calibration scores (distinct)", "image AUROC (%)"]
    titles += [f"miss rate at {rate:g} (%)" for rate in RATES]
    return [*titles, "test above held out (%)"], rows


if __name__ == "__main__":
    main()
