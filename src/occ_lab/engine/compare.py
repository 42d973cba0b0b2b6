"""Comparison of several methods over the same features: one run for each, and one table."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console

from occ_lab.data.base import Benchmark
from occ_lab.data.tiling import Tiles
from occ_lab.engine.fit import fitted
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job
from occ_lab.engine.pasted import pasted_auroc
from occ_lab.engine.stopping import resumable
from occ_lab.metrics.bootstrap import Difference, Interval, ScoredTask, mean_aurocs
from occ_lab.reporting.record import RunRecord, leads, to_csv, to_json
from occ_lab.reporting.tables.compare import (
    Row,
    closing_lines,
    compare_table,
    suggested,
    thresholds_of,
)
from occ_lab.reporting.tables.results import calibration_table, limit_line
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole
from occ_lab.utils.plain import read_json

METHODS = "methods"  # folder of the run directories, one for each method
MEASURED = "measured.json"  # in the folder of a task: additional figures of a comparison
COMPARED = "compare.json"
IMAGES = 8  # scored at a time to measure the throughput
SECONDS = 1.0  # duration of the measurement, after one warm-up pass

Perform: TypeAlias = Callable[[str, Path, Console], RunRecord]


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        rows: the rows of the methods in order; empty on non-zero ranks.
        failed: for each method that could not be run on these images, by name, the reason.
    """

    rows: list[Row]
    failed: dict[str, str]


def compare(
    methods: Mapping[str, Perform], directory: Path, header: Mapping[str, Any]
) -> Comparison:
    """Run every method that is not finished, then print and write one table of all methods.

    A method that cannot be run on these images, for example because it needs more of them, is left
    out.

    Args:
        methods: by name, a function that runs a method. It gets the title of its tasks, its run
            directory and the console, and returns the record. Its tasks are fitted by `measured`.
        directory: the directory of the comparison. Runs are in ``methods/NAME``; the table is in
            ``compare.json`` and ``compare.csv``.
        header: ``dataset``, ``backbone``, ``seed``, ``aupro_limit`` and ``version``.

    Raises:
        SystemExit: Ctrl-C; finished methods are kept.
        InputError: no method could be run, or they were not tested on the same images.
    """
    console = Console(quiet=not leads(), highlight=False)
    records: dict[str, RunRecord] = {}
    failed: dict[str, str] = {}

    def done() -> str:
        return f"{len(records)} of {len(methods)} methods are finished."

    with resumable(directory, console, done):
        for name, perform in methods.items():
            try:
                folder = directory / METHODS / folder_of(name)
                records[name] = perform(f"{name}: ", folder, console)
            except InputError as error:
                failed[name] = str(error)
                console.print(f"{name}: {error}", soft_wrap=True, markup=False)
    if not records:
        raise InputError(next(iter(failed.values())))
    if not leads():
        return Comparison([], failed)
    rows, images = rows_of(records), test_images(records)
    listed = [row.figures for row in rows]
    content = {**header, **images, "methods": listed, "failed": failed}
    write_whole(directory / COMPARED, to_json(content))
    write_whole(directory / "compare.csv", to_csv([row.cells for row in rows]))
    print_comparison(rows, directory, header, images, console)
    for name, reason in failed.items():
        console.print(f"error: {name}: {reason}", soft_wrap=True, markup=False)
    return Comparison(rows, failed)


def folder_of(method: str) -> str:
    """The name of the run directory of a method."""
    return method.replace(" ", "_")


def print_comparison(
    rows: Sequence[Row],
    directory: Path,
    header: Mapping[str, Any],
    images: Mapping[str, int],
    console: Console,
) -> None:
    """Print the final table and where to find the results."""
    title = f"{header['dataset']}, {header['backbone']}, seed {header['seed']} (per cent)"
    console.print(compare_table(title, rows))
    thresholds = calibration_table(thresholds_of(rows), "method")
    if thresholds:
        console.print(thresholds)
    limit = limit_line(header["aupro_limit"])
    lines = closing_lines(rows, images["normal"], images["anomalous"])
    for line in [*([limit] if limit else []), *lines]:
        console.print(f"- {line}", markup=False)
    chosen = suggested(rows)
    run = shlex.quote(f"run={chosen.run}")
    task = " task=NAME" if len(chosen.tasks) > 1 else ""
    for line in (
        f"table:       {directory}/compare.csv, {COMPARED}",
        f"runs:        {directory / METHODS}/*",
        f"new images:  occ-lab predict {run}{task} input=FOLDER",
    ):
        console.print(line, soft_wrap=True, markup=False)


def rows_of(records: Mapping[str, RunRecord]) -> list[Row]:
    """The row of each method in the table.

    Raises:
        InputError: the methods were not tested on the same images.
    """
    values, drawn = image_aurocs(records)
    best = int(np.argmax(values)) if len(values) else 0
    rows = []
    for number, (name, record) in enumerate(records.items()):
        tasks = record.finished
        interval, difference = None, None
        if len(values):
            interval = Interval.of(values[number], drawn[number])
            if number != best:
                difference = Difference.of(
                    values[number] - values[best], drawn[number] - drawn[best]
                )
        folders = [record.directory / "tasks" / task for task in tasks]
        measures = [read_json(each / MEASURED) for each in folders]
        sizes = [(each / "checkpoints" / "last.ckpt").stat().st_size for each in folders]
        pasted = [each["pasted_auroc"] for each in measures if each["pasted_auroc"] is not None]
        rows.append(
            Row(
                name=name,
                run=record.directory,
                tasks=tasks,
                image_auroc=interval,
                difference=difference,
                fit_seconds=sum(figures["seconds"]["fit"] for figures in tasks.values()),
                images_per_second=fmean(each["images_per_second"] for each in measures),
                size_mb=fmean(sizes) / 1e6,
                pasted_auroc=fmean(pasted) if pasted else None,
            )
        )
    return rows


def image_aurocs(records: Mapping[str, RunRecord]) -> tuple[np.ndarray, np.ndarray]:
    """The image AUROC of each method ``[M]`` and of each resample ``[M, R]``.

    These are means over the tasks with anomalous images; without such tasks, both are empty.

    Raises:
        InputError: the methods were not tested on the same images.
    """
    tasks = []
    for task in next(iter(records.values())).finished:
        tables = [record.scores(task) for record in records.values()]
        images = [[(row["path"], row["label"]) for row in table] for table in tables]
        if any(each != images[0] for each in images):
            raise InputError(
                f"{task}: the test images have changed since some methods were run; start again "
                "in another directory"
            )
        labels = np.array([int(row["label"]) for row in tables[0]])
        scores = np.array([[float(row["score"]) for row in table] for table in tables])
        if len(np.unique(labels)) == 2:
            tasks.append(ScoredTask(labels, scores))
    return mean_aurocs(tasks) if tasks else (np.empty(0), np.empty((0, 0)))


def test_images(records: Mapping[str, RunRecord]) -> dict[str, int]:
    """The numbers of ``normal`` and ``anomalous`` test images, over all tasks."""
    record = next(iter(records.values()))
    labels = [row["label"] for task in record.finished for row in record.scores(task)]
    return {"normal": labels.count("0"), "anomalous": labels.count("1")}


def measured(
    job: Job,
    benchmark: Benchmark,
    task: str,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    checkpoint: Path,
    state: Path | None = None,
    earlier: Fitted | None = None,
) -> Fitted:
    """As `fitted`; also writes ``measured.json`` beside the checkpoints for the comparison.

    It contains ``images_per_second``, from decoded images in memory to maps and scores, and
    ``pasted_auroc``, see `pasted_auroc`.
    """
    member = fitted(job, benchmark, task, loggers, callbacks, checkpoint, state, earlier)
    detector, before = member.detector, member.detector.device
    was_training = detector.training
    detector.to(member.trainer.strategy.root_device).eval()
    with member.trainer.precision_plugin.forward_context():
        found = {
            "images_per_second": images_per_second(member),
            "pasted_auroc": pasted_auroc(detector, member.data),
        }
    detector.to(before).train(was_training)
    if leads():
        write_whole(checkpoint.parents[1] / MEASURED, to_json(found))
    return member


@torch.inference_mode()
def images_per_second(member: Fitted) -> float:
    """The number of test images that a detector scores in a second, the best of several passes."""
    images, frame = member.data.test_images, member.detector.frame
    count = 1 if isinstance(frame, Tiles) else min(IMAGES, len(images))
    seen = [images.seen(index) for index in range(count)]
    pixels, sizes = np.stack([each.pixels for each in seen]), [each.size for each in seen]
    member.detector.score_pixels(pixels, sizes)
    least, end = float("inf"), time.perf_counter() + SECONDS
    while least == float("inf") or time.perf_counter() < end:
        started = time.perf_counter()
        member.detector.score_pixels(pixels, sizes)
        least = min(least, time.perf_counter() - started)
    return count / least
