"""The page and the plot of the growth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib.pyplot as plt

from benchmarks.growth.axes import AXES, Case
from benchmarks.growth.fits import UPPER, Exponent, exponent
from experiments.trial import table

Points: TypeAlias = Mapping[str, Mapping[str, float]]  # figures by size

TOLERANCE = 0.15  # of an exponent, beside twice its standard error
BYTES_EACH = 2000  # of memory that a further image, task or job may take: names, labels, scores
FLOOR_MB = 1.0
FAST, FLAT = "as it must", "flat"

HEAD = f"""# How time and memory grow

Every point is one process on one thread, and its time is that of the processor, so that other work
on the machine matters little. The peak of memory is that since before a small piece of the same
work in the same process, and counts files that are mapped. Generated images; whole runs have 32 px
and a tiny random backbone (ResNet-10-T at strides 4 and 8), because what is examined is all around
it. The exponent k of y ∝ sizeᵏ is fitted to the logarithms of the {UPPER} largest sizes by least
squares, with its standard error. *Must*: the exponent that the task itself asks for.

*Each more*: memory for one more image, task or job between the two largest sizes. Memory is
**{FLAT}** if that is at most {BYTES_EACH / 1000:.0f} kB, which are names, labels and scores; the
features of one of these images have 49 kB, and with a backbone at 224 px several hundred. Where the
memory must grow, and for all times, the verdict is **{FAST}** if the exponent is at most
{TOLERANCE} and two standard errors above what it must be; an exponent below it is due to what does
not depend on the size, and to limits of memory.

Runs that test many images have the limits of pixel metrics divided by 49, since so many more pixels
are in an image of 224 px than in one of 32 px; the metrics alone are measured with their own
limits. Images are made when they are read, so that no file is looked at before the run.

Left out, because of their time: 100,000 images for every method but the default, more than 1,408
channels of the local form, whole images above 896 px, more than 16 classes or jobs.
"""


def report(results: Mapping[str, Any]) -> str:
    """The page."""
    lines = [
        HEAD,
        f"Recorded until {results['date']} by `OMP_NUM_THREADS=1 python -m benchmarks.growth` "
        f"(`--only AXIS` measures one axis) on {results['cores']} shared cores with other work, "
        f"torch {results['torch']}.",
        "",
        "![time and memory over each axis](growth.png)",
        "",
    ]
    for axis, cases in complete(results).items():
        rows = [row(AXES[axis][name], name, points) for name, points in cases.items()]
        lines += [f"## {axis.capitalize()}", "", *table(TITLES, rows), ""]
    return "\n".join([*lines, *disk_lines(results), *missing_lines(results)])


TITLES = ["case", "sizes", "seconds", "exponent", "must", "peak MB", "exponent", "must"]
TITLES += ["each more", "why it must", "verdict: time, memory"]


def complete(results: Mapping[str, Any]) -> dict[str, dict[str, Points]]:
    """The cases of each axis with at least two sizes, all in order."""
    return {
        axis: {
            name: dict(sorted(results["points"][axis][name].items(), key=lambda each: int(each[0])))
            for name in cases
            if len(results["points"][axis].get(name, {})) > 1
        }
        for axis, cases in AXES.items()
        if axis in results["points"]
    }


def row(case: Case, name: str, points: Points) -> list[str]:
    """The row of a case."""
    sizes = [int(size) for size in points]
    seconds = [each["seconds"] for each in points.values()]
    peaks = [max(each["peak_mb"], FLOOR_MB) for each in points.values()]
    time, memory = (exponent(sizes, values) for values in (seconds, peaks))
    more = 1e6 * (peaks[-1] - peaks[-2]) / (sizes[-1] - sizes[-2])
    fast = within(time, case.time)
    flat = more <= BYTES_EACH if case.memory == 0 else within(memory, case.memory)
    return [
        name,
        f"{sizes[0]:,} to {sizes[-1]:,}",
        f"{seconds[0]:.2f} to {seconds[-1]:.1f}",
        shown(time),
        f"{case.time:g}",
        f"{peaks[0]:.0f} to {peaks[-1]:.0f}",
        shown(memory),
        f"{case.memory:g}",
        f"{more / 1000:.1f} kB" if case.memory == 0 else "",
        case.why,
        f"{verdict(fast, FAST)}, {verdict(flat, FAST if case.memory else FLAT)}",
    ]


def within(found: Exponent, must: float) -> bool:
    """Whether an exponent is no larger than it must be."""
    error = 0.0 if math.isnan(found.error) else found.error
    return found.value <= must + TOLERANCE + 2 * error


def verdict(good: bool, word: str) -> str:
    """A word, or that it is not so."""
    return word if good else f"**not {word}**"


def shown(found: Exponent) -> str:
    """An exponent with its standard error."""
    error = "" if math.isnan(found.error) else f" ± {found.error:.2f}"
    return f"{found.value:.2f}{error}"


def missing_lines(results: Mapping[str, Any]) -> list[str]:
    """The sizes that are not measured yet."""
    missing = [
        f"{axis}, {name}, {size:,}"
        for axis, cases in AXES.items()
        for name, case in cases.items()
        for size in case.sizes
        if str(size) not in results["points"].get(axis, {}).get(name, {})
    ]
    return [f"Not measured yet: {'; '.join(missing)}.", ""] if missing else []


def disk_lines(results: Mapping[str, Any]) -> list[str]:
    """What the cache takes on disk."""
    lines = []
    for cases in complete(results).values():
        for name, points in cases.items():
            largest = list(points)[-1]
            if "disk_mb" in points[largest]:
                each = 1e3 * points[largest]["disk_mb"] / int(largest)
                lines += [
                    f"The disk must grow with the images, and does: *{name}*, {int(largest):,} "
                    f"images, {points[largest]['disk_mb']:.0f} MB, {each:.1f} kB each (levels in "
                    f"float16); {points[largest]['mapped_mb']:.0f} MB of files were mapped into "
                    "memory at the end.",
                    "",
                ]
    return lines


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Time and memory over each axis, on logarithmic scales."""
    found = complete(results)
    figure, axes = plt.subplots(2, len(found), figsize=(4 * len(found), 8), squeeze=False)
    for column, (axis, cases) in enumerate(found.items()):
        for name, points in cases.items():
            sizes = [int(size) for size in points]
            for place, key in zip(axes[:, column], ("seconds", "peak_mb"), strict=True):
                place.loglog(
                    sizes, [max(each[key], 1e-3) for each in points.values()], "o-", label=name
                )
        ends = sorted({int(size) for points in cases.values() for size in points})
        shown = [ends[0], ends[len(ends) // 2], ends[-1]]
        for place in axes[:, column]:
            place.set_xticks(shown, [f"{size:,}" for size in shown])
            place.xaxis.minorticks_off()
        axes[0, column].set_title(axis)
        axes[1, column].set_xlabel(axis)
        axes[0, column].legend(fontsize=6)
        axes[1, column].set_ylim(bottom=1)
    axes[0, 0].set_ylabel("seconds of the processor")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
