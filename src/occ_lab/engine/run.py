"""One run: fit, test and record every one-class task of the dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console

from occ_lab.data.base import Benchmark
from occ_lab.data.sight import sight
from occ_lab.engine.calibrate import ALARM, CALIBRATION, figures_of, write_calibration
from occ_lab.engine.defects import defect_figures
from occ_lab.engine.explain import write_explanations
from occ_lab.engine.fit import fitted
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job, Watcher
from occ_lab.engine.learned import write_training_images
from occ_lab.engine.live import MOMENTS, write_moments
from occ_lab.engine.stopping import resumable
from occ_lab.engine.task_gallery import write_gallery
from occ_lab.engine.task_pictures import write_pictures
from occ_lab.engine.tested import Tested, alone, joined
from occ_lab.metrics.limits import AUPRO_LIMIT
from occ_lab.reporting.learning_curve import save_learning_curve
from occ_lab.reporting.predictions import Predictions
from occ_lab.reporting.record import RunRecord, cell, leads, to_csv, to_json
from occ_lab.reporting.tables.results import (
    accuracy_notes,
    calibration_notes,
    calibration_table,
    limit_line,
    published_line,
    results_table,
)
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak
from occ_lab.utils.scratch import visible

log = logging.getLogger(__name__)

Fit: TypeAlias = Callable[
    [Job, Benchmark, str, Sequence[Logger], Sequence[Callback], Path, Path | None, Fitted | None],
    Fitted,
]


def run(
    job: Job,
    record: RunRecord,
    watcher: Watcher,
    published: Mapping[str, Any] | None = None,
    fit: Fit = fitted,
) -> dict[str, dict[str, Any]]:
    """Fit and test every task of the job's benchmark, and record and print the results.

    Args:
        job: what to do with each task.
        record: stores the results.
        watcher: provides loggers and callbacks.
        published: metrics in 0..1 and their ``source``, to be printed beside ours.
        fit: returns a fitted and tested detector for a task, with the arguments of `fitted`.

    Returns:
        The metrics of each task, as in ``metrics.json``; an empty dict on non-zero ranks.

    Raises:
        InputError: data is missing, or a file cannot be used; raised before any work on the task.
    """
    console = Console(quiet=not record.leads)
    tasks = job.benchmark.tasks()

    def done() -> str:
        return f"{len(record.finished)} of {len(tasks)} tasks are finished."

    with ExitStack() as stack:
        stack.enter_context(resumable(record.directory, console, done))
        for view in job.views:
            stack.enter_context(view.unchanged())
        figures = run_tasks(job, record, watcher, console, fit)
    if record.leads:
        print_results(record, figures, published, console)
    return figures


def print_results(
    record: RunRecord,
    figures: dict[str, dict[str, Any]],
    published: Mapping[str, Any] | None,
    console: Console,
) -> None:
    """Print the final tables and where to find the results."""
    about = record.header
    title = f"{about['loss']} on {about['dataset']}, {about['backbone']}, seed {about['seed']}"
    console.print(results_table(f"{title} (per cent)", figures, published))
    calibrated = calibration_table(figures)
    if calibrated:
        console.print(calibrated)
    for note in [*accuracy_notes(figures), *calibration_notes(figures, ALARM)]:
        console.print(note, soft_wrap=True, markup=False)
    for line in (limit_line(about.get("aupro_limit", AUPRO_LIMIT)), published_line(published)):
        if line:
            console.print(line, soft_wrap=True)
    directory = record.directory
    console.print(f"run directory: {directory}", soft_wrap=True)
    for title, pictures in (
        ("gallery:     ", "tasks/*/index.html"),
        ("heatmaps:    ", "tasks/*/maps/*.png"),
        ("explanations:", "tasks/*/explanations/*.png"),
    ):
        if visible(directory, pictures):
            console.print(f"{title}  {directory}/{pictures}", soft_wrap=True)


def run_tasks(
    job: Job,
    record: RunRecord,
    watcher: Watcher,
    console: Console,
    fit: Fit = fitted,
    title: str = "",
) -> dict[str, dict[str, Any]]:
    """Run every task that is not finished, one after another.

    Args:
        job: what to do with each task.
        record: stores the results.
        watcher: provides loggers and callbacks.
        console: prints the name of each task when it starts.
        fit: as in `run`.
        title: printed before the name of each task.

    Returns:
        As in `run`.
    """
    tasks = job.benchmark.tasks()
    members: Sequence[Fitted] = ()
    for number, task in enumerate(tasks, start=1):
        if task in record.finished:
            console.print(f"{title}{task}: finished before, skipped")
            record.drop_state(task)
            continue
        console.rule(f"{title}{task} ({number} of {len(tasks)})", align="left")
        seen = sight(job.benchmark, task, job.benchmark.preprocessing(task))
        if seen and (task, seen) not in job.benchmark.said:
            job.benchmark.said.add((task, seen))
            console.print(seen, soft_wrap=True)
        earlier = members if job.benchmark.unified else ()
        with record.task(task) as folder:
            members = run_task(job, record, task, folder, watcher, fit, earlier)
        record.drop_state(task)
    if not record.leads:
        return {}
    figures = {task: record.finished[task] for task in tasks}
    watcher.run_ended(figures)
    return figures


def run_task(
    job: Job,
    record: RunRecord,
    task: str,
    folder: Path,
    watcher: Watcher,
    fit: Fit,
    earlier: Sequence[Fitted] = (),
) -> Sequence[Fitted]:
    """Fit and test one task and write its outputs into ``folder``.

    Args:
        job: what to do.
        record: stores the results.
        task: its name.
        folder: for its outputs.
        watcher: provides loggers and callbacks.
        fit: as in `run`.
        earlier: the detectors of an earlier task if they serve this one as well, one for each view.

    Returns:
        The detector of each view.
    """
    reset_peak()
    job = replace(job, backbone=job.backbone.for_task(task))
    loggers = watcher.loggers(task, folder)
    members = []
    for number, benchmark in enumerate(job.views):
        name = f"view{number}" if number else "last"
        checkpoint = folder / "checkpoints" / f"{name}.ckpt"
        logged = [] if number else loggers  # two curves of the same name would be mixed up
        callbacks = watcher.callbacks(task, folder)
        state = record.state(task, name)
        serves = earlier[number] if earlier else None
        members.append(fit(job, benchmark, task, logged, callbacks, checkpoint, state, serves))
        if members[-1].curve and leads():
            suffix = f"_{name}" if number else ""
            picture = folder / f"learning_curve{suffix}.png"
            save_learning_curve(picture, task, members[-1].curve, members[-1].steps)
    tested = joined(job.postprocess, members) if len(members) > 1 else alone(members[0])
    figures = task_figures(tested, members)
    calibration = members[0].calibration
    overkill = members[0].overkill
    if calibration is not None and overkill is not None:
        figures["calibration"] = figures_of(calibration, overkill, tested.scores, tested.labels)
        write_calibration(folder / CALIBRATION, calibration, overkill)
    if job.keeps_moments and len(members) == 1 and leads():
        write_moments(folder / MOMENTS, members[0].detector)
        write_training_images(folder, members[0].data)
    write_scores(folder, tested)
    try:
        pictures = write_pictures(folder / "maps", tested, job)
    except OSError as error:  # a full disk must not lose the figures
        log.warning("%s: some heatmaps are missing: %s", task, error)
        pictures = []
    if job.shows_gallery:
        write_gallery(folder, task, tested, job.postprocess, calibration, overkill)
    watcher.task_ended(
        Predictions(
            task,
            tested.data.split.test,
            tested.scores.numpy(),
            tested.labels.numpy(),
            calibration,
            overkill,
            pictures,
        )
    )
    if job.explanations and leads():
        write_explanations(
            folder / "explanations",
            job.explanations,
            members[0],
            tested.scores.numpy(),
            tested.labels.numpy(),
        )
    write_whole(folder / "metrics.json", to_json(figures))
    return members


def task_figures(tested: Tested, members: Sequence[Fitted]) -> dict[str, Any]:
    """The entry of a task in ``metrics.json``."""
    stages = members[0].seconds
    trained = {item.key: item.label for item in tested.data.split.train}
    figures: dict[str, Any] = {
        **tested.metrics,
        "n_train": len(trained),
        "n_train_anomalous": sum(trained.values()),
        "n_test": len(tested.data.split.test),
        "seconds": {stage: sum(each.seconds[stage] for each in members) for stage in stages},
        "peak_memory_mb": peak_mb(),
        "trainable_parameters": sum(each.detector.trainable for each in members),
    }
    scores, labels = tested.scores.numpy(), tested.labels.numpy()
    defects = defect_figures(tested.data.split.test, scores, labels, tested.pixels)
    if defects:
        figures["defects"] = defects
    if members[0].steps is not None:
        figures["steps"] = members[0].steps
    if members[0].best_epochs is not None:
        figures["oracle_best_epoch"] = members[0].best_epochs
    return figures


def write_scores(folder: Path, tested: Tested) -> None:
    """Write ``scores.csv``: path, label and score of each test image, in the split's order."""
    rows = [
        {"path": cell(item), "label": label, "score": score}
        for item, label, score in zip(
            tested.data.split.test, tested.labels.tolist(), tested.scores.tolist(), strict=True
        )
    ]
    write_whole(folder / "scores.csv", to_csv(rows))
