"""The files of a run directory, each task written completely or not at all."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_folder, write_whole
from occ_lab.utils.plain import read_json, read_yaml
from occ_lab.utils.scratch import clean, visible
from occ_lab.utils.whole_zip import is_whole

log = logging.getLogger(__name__)

# Configuration keys that do not affect the metrics of a task.
NOT_COMPARED = (
    "resume",
    "maps",
    "gallery",
    "explain",
    "dataset.category",
    "save_every",
    "checkpoint_every",
    "logger",
    "callbacks.progress_bar",
    "published",
    "task",
)
METRICS = (  # in the order of tables
    *("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_aupro", "pixel_aupro_005"),
    *("pixel_ap", "pixel_f1max", "pixel_segf1", "pixel_aupimo", "pixel_spro", "pixel_spro_005"),
)


class RunRecord:
    """The directory of a run.

    Each finished task is a folder ``tasks/NAME`` with its ``metrics.json``, ``scores.csv``,
    ``maps/`` and ``checkpoints/``, which appears by a single rename. After each task,
    ``metrics.json`` and ``scores.csv`` of the run are written again from the finished tasks;
    likewise if a resumed run lacks them or they are out of date. A damaged task is run again.

    In a distributed run, only rank 0 writes.

    Args:
        directory: the run directory.
        header: the header of ``metrics.json``: dataset, loss, backbone, seed, version.
        settings: all settings of the run as plain data; they are stored as ``config.yaml``.
        resume: whether to complete a run that has finished tasks.

    Attributes:
        leads: whether this process is the one that writes.
        damaged: the tasks with incomplete or changed files, which are run again.

    Raises:
        InputError: ``directory`` has finished tasks and ``resume`` is off, or they were made with
            other settings.
    """

    def __init__(
        self,
        directory: Path,
        header: Mapping[str, Any],
        settings: Mapping[str, Any],
        resume: bool = False,
    ) -> None:
        self.directory = directory
        self.header = dict(header)
        self.leads = leads()
        self.damaged: set[str] = set()
        if self.leads:
            begun = holds_tasks(directory) or bool(visible(directory, "training/*/*.ckpt"))
            keep_settings(directory, settings, resume, begun)
            for path in task_files(directory):
                if problem := self._problem_of(path.parent):
                    log.warning("%s: %s; the task is not finished", path.parent, problem)
                    self.damaged.add(path.parent.name)
            if self.finished and not self._summary_is_current():
                self._write_summary()

    @property
    def finished(self) -> dict[str, dict[str, Any]]:
        """The figures of each finished task, by name.

        Raises:
            InputError: the figures of a task are damaged.
        """
        found = {path.parent.name: path for path in task_files(self.directory)}
        return {name: figures_in(path) for name, path in found.items() if name not in self.damaged}

    def _problem_of(self, task: Path) -> str:
        """A problem with the files of a finished task; empty if there is none."""
        try:
            figures = figures_in(task / "metrics.json")
            rows = self.scores(task.name)
        except (InputError, OSError, ValueError, csv.Error) as error:
            return str(error)
        if any(None in row or None in row.values() for row in rows) or len(rows) != figures.get(
            "n_test", len(rows)
        ):
            return "scores.csv is damaged"
        for checkpoint in sorted(task.glob("checkpoints/*.ckpt")):
            if not is_whole(checkpoint):
                return f"checkpoints/{checkpoint.name} is damaged"
        return ""

    @contextmanager
    def task(self, name: str) -> Iterator[Path]:
        """A temporary folder for the outputs of a task; it is renamed if the block succeeds.

        In a distributed run, the folder of rank 0 is kept and those of other ranks are dropped.
        """
        if not self.leads:
            with tempfile.TemporaryDirectory() as dropped:
                yield Path(dropped)
            return
        target = self.directory / "tasks" / name
        if target.exists() and name not in self.finished:
            (target / "metrics.json").unlink(missing_ok=True)  # so the rest is not a finished task
            shutil.rmtree(target)
            self.damaged.discard(name)
        with whole_folder(target) as folder:
            yield folder
        self._write_summary()

    def state(self, task: str, name: str) -> Path:
        """The file with the state that the training of a task is resumed from."""
        return self.directory / "training" / task / f"{name}.ckpt"

    def drop_state(self, task: str) -> None:
        """Remove the states of a finished task."""
        if self.leads:
            shutil.rmtree(self.directory / "training" / task, ignore_errors=True)
            with suppress(OSError):  # the folder has states of other tasks, or does not exist
                (self.directory / "training").rmdir()

    def _summary(self) -> tuple[dict[str, Any], str]:
        """The content of ``metrics.json`` below its header, and the text of ``scores.csv``."""
        tasks = self.finished
        rows = [row for name in tasks for row in self.scores(name)]
        return {"tasks": tasks, "mean": mean_metrics(tasks)}, to_csv(rows)

    def _write_summary(self) -> None:
        figures, scores = self._summary()
        write_whole(self.directory / "metrics.json", to_json({**self.header, **figures}))
        write_whole(self.directory / "scores.csv", scores)

    def _summary_is_current(self) -> bool:
        """Whether both files exist and agree with the finished tasks."""
        figures, scores = self._summary()
        try:
            there = figures_in(self.directory / "metrics.json")
            text = (self.directory / "scores.csv").read_text(encoding="utf-8")
        except (InputError, OSError, ValueError):
            return False
        there = {key: there.get(key) for key in figures}
        return to_json(there) == to_json(figures) and text == scores

    def scores(self, name: str) -> list[dict[str, Any]]:
        """The rows of a finished task's ``scores.csv``, with the task's name added."""
        path = self.directory / "tasks" / name / "scores.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            return [{**row, "task": name} for row in csv.DictReader(stream)]


def task_files(directory: Path) -> list[Path]:
    """The ``metrics.json`` of each finished task of a run directory, in order."""
    return visible(directory, "tasks/*/metrics.json")


def holds_tasks(directory: Path) -> bool:
    """Whether a run directory has a finished task."""
    return bool(task_files(directory))


def figures_in(path: Path) -> dict[str, Any]:
    """The content of a ``metrics.json``.

    Raises:
        InputError: the file is damaged.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no figures")
    return found


def leads() -> bool:
    """Whether this process has rank 0, or is the only one."""
    from lightning.pytorch.utilities import rank_zero_only  # imports torch

    return getattr(rank_zero_only, "rank", 0) == 0


def keep_settings(
    directory: Path,
    settings: Mapping[str, Any],
    resume: bool,
    begun: bool,
    not_compared: Sequence[str] = NOT_COMPARED,
) -> None:
    """Write ``settings`` to ``config.yaml``; a resumed run must have the same settings.

    Leftovers of killed processes in the directory are removed.

    Args:
        directory: the run directory.
        settings: plain data.
        resume: whether to complete earlier work.
        begun: whether there is earlier work, made with the existing ``config.yaml``.
        not_compared: keys that do not affect the results.

    Raises:
        InputError: there is earlier work, and ``resume`` is off or its settings differ.
    """
    kept = directory / "config.yaml"
    if (settings.get("dataset") or {}).get("protocol") == "unified":  # all tasks share a model
        not_compared = [key for key in not_compared if key != "dataset.category"]
    if begun:
        if not resume:
            raise InputError(
                f"{directory} already holds results; add resume=true to complete them, or name "
                "another directory"
            )
        try:
            earlier = read_yaml(kept)
            if not isinstance(earlier, dict):
                raise InputError(f"{kept} cannot be read (it holds no settings)")
        except InputError as error:
            raise InputError(f"resume: {error}; name another directory") from error
        changed = differences(earlier, settings, not_compared)
        if changed:
            raise InputError(
                f"resume: {directory} holds a run with another {', '.join(changed)}; "
                "repeat its command, or name another directory"
            )
    clean(directory)
    write_whole(kept, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def differences(
    earlier: Any, present: Any, not_compared: Sequence[str] = NOT_COMPARED, key: str = ""
) -> list[str]:
    """The keys in which two settings differ, except for those in ``not_compared``.

    Example:
        >>> differences({"seed": 0, "loss": {"norm": 1}}, {"seed": 0, "loss": {"norm": 2}})
        ['loss.norm']
    """
    if key in not_compared:
        return []
    if isinstance(earlier, Mapping) and isinstance(present, Mapping):
        names = dict.fromkeys([*earlier, *present])
        return [
            found
            for name in names
            for found in differences(
                earlier.get(name),
                present.get(name),
                not_compared,
                f"{key}.{name!s}".removeprefix("."),
            )
        ]
    return [] if earlier == present else [key]


def mean_metrics(tasks: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The mean over tasks of each metric that any of them has."""
    columns = {
        metric: [figures[metric] for figures in tasks.values() if metric in figures]
        for metric in METRICS
    }
    return {metric: fmean(values) for metric, values in columns.items() if values}


def to_json(content: dict[str, Any]) -> str:
    """Indented JSON text that ends with a newline."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """CSV text of rows with the same keys; by default these are the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def cell(path: object) -> str:
    """A path as text that a spreadsheet cannot mistake for a formula.

    Example:
        >>> cell("=1+1.png"), cell("parts/1.png")
        ('./=1+1.png', 'parts/1.png')
    """
    text = str(path)
    return f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
