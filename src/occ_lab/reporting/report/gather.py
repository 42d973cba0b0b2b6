"""Find run directories and read them."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from occ_lab.metrics.curves import auroc
from occ_lab.reporting.report.training import LOG, Curve, read_curves
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import FAILURE
from occ_lab.utils.plain import read_json, read_yaml
from occ_lab.utils.scratch import visible

MARKS = ("metrics.json", "config.yaml", ".hydra")  # any of these identifies a run's folder
AGREE = 1e-4  # the largest difference between the AUROCs from scores.csv and metrics.json
# Keys that depend on the seed, for runs whose .hydra/config.yaml does not say so.
FOLLOW_SEED = frozenset({"loss.seed", "dataset.sample_seed"})


@dataclass(frozen=True)
class Task:
    """The record of one task of a run, with N test images.

    Attributes:
        name: its name.
        figures: as in ``metrics.json``: metrics in 0..1, counts, seconds.
        paths: the paths of the test images, all different.
        labels: int ``[N]``, 1 anomalous.
        scores: float64 ``[N]``, higher is more anomalous; no NaN.
        pictures: pictures of the worst misses, the worst first.
        calibration: the scores of normal images that were not trained on; may be empty.
        curves: what was logged of the training, see `read_curves`.
    """

    name: str
    figures: dict[str, Any]
    paths: list[str]
    labels: np.ndarray
    scores: np.ndarray
    pictures: list[Path]
    calibration: list[float] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)

    def metric(self, name: str) -> float | None:
        """A metric in 0..1; None if it is missing."""
        value = self.figures.get(name)
        return None if value is None or math.isnan(value) else float(value)


@dataclass(frozen=True)
class Run:
    """The content of a run directory.

    Attributes:
        directory: the run directory.
        header: dataset, loss, backbone, seed, version.
        config: all values by their full key, such as ``loss.norm``.
        derived: keys whose values follow from other keys.
        overrides: the overrides of the command; None if they are not recorded.
        tasks: the finished tasks by name.
        written: when the figures were written, in seconds since 1970.
    """

    directory: Path
    header: dict[str, Any]
    config: dict[str, Any]
    derived: frozenset[str]
    overrides: list[str] | None
    tasks: dict[str, Task]
    written: float

    @property
    def seed(self) -> int:
        """The seed of all random numbers."""
        return int(self.header["seed"])


@dataclass(frozen=True)
class LeftOut:
    """A directory that looks like a run but cannot be used, and the reason."""

    directory: Path
    reason: str


@dataclass(frozen=True)
class Gathered:
    """All runs that were found, in the order of the directories."""

    runs: list[Run] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


class UnreadableError(Exception):
    """The reason why a directory is left out."""


def gather(directories: Sequence[Path]) -> Gathered:
    """Read every run in the directories and their subfolders.

    Raises:
        InputError: one of the directories does not exist.
    """
    found = Gathered()
    for folder in run_folders(directories):
        try:
            found.runs.append(read_run(folder))
        except UnreadableError as error:
            found.left_out.append(LeftOut(folder, str(error)))
    return without_partial(found)


def run_folders(directories: Sequence[Path]) -> Iterator[Path]:
    """Each folder that may be a run, once, in natural order: ``2`` comes before ``10``."""
    seen = set()
    for directory in directories:
        if not directory.is_dir():
            raise InputError(f"{directory} is not a directory; name one that contains runs")
        for folder, inside, files in os.walk(directory):
            is_run = any(mark in files or mark in inside for mark in MARKS)
            inside[:] = sorted((name for name in inside if name[0] != "."), key=natural)
            if is_run and "tasks" in inside:
                inside.remove("tasks")  # its metrics.json files are those of tasks
            resolved = Path(folder).resolve()
            if is_run and resolved not in seen:
                seen.add(resolved)
                yield Path(folder)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that compares numbers in names by value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def read_run(folder: Path) -> Run:
    """Read one run directory.

    Raises:
        UnreadableError: it is unfinished, damaged, or not a run.
    """
    failure = folder / FAILURE
    if failure.is_file():
        lines = failure.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UnreadableError(f"failed: {lines[0] if lines else 'without a message'}")
    if (folder / "norm_study.json").is_file():
        raise UnreadableError("is a norm study, not a run")
    if (folder / "compare.json").is_file():
        raise UnreadableError("is a comparison, whose runs are in its folder methods")
    if not (folder / "metrics.json").is_file():
        raise UnreadableError("no metrics.json: none of its tasks is finished, or it is not a run")
    try:
        run = parse_run(folder)
    except KeyError as error:
        raise UnreadableError(
            f"damaged, or not a run: {error} is missing in its metrics"
        ) from error
    except (
        *(OSError, ValueError, TypeError, AttributeError, RecursionError),
        *(csv.Error, yaml.YAMLError),
    ) as error:
        raise UnreadableError(f"damaged, or not a run: {one_line(error)}") from error
    unfinished = missing_tasks(run)
    if unfinished:
        missing = ", ".join(unfinished)
        raise UnreadableError(f"unfinished: {missing} missing; resume=true completes it")
    return run


def one_line(error: Exception) -> str:
    """The message of an error in one line, shortened if it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"


def parse_run(folder: Path) -> Run:
    """Read all files of a run; damaged files raise errors of Python, YAML or CSV."""
    summary = read_json(folder / "metrics.json")
    if not isinstance(summary, dict) or not isinstance(summary.get("tasks"), dict):
        raise ValueError("metrics.json has no tasks")
    if not summary["tasks"]:
        raise ValueError("metrics.json has no finished task")
    if not isinstance(summary["seed"], int):
        raise ValueError(f"metrics.json: seed is {summary['seed']!r}")
    header = {
        **{key: str(summary[key]) for key in ("dataset", "loss", "backbone", "version")},
        "seed": summary["seed"],
    }
    rows = read_scores(folder / "scores.csv")
    if set(rows) != set(summary["tasks"]):
        raise ValueError("scores.csv and metrics.json have different tasks")
    config = flat(content(folder / "config.yaml"))
    return Run(
        folder,
        header,
        config,
        derived_keys(folder / ".hydra" / "config.yaml"),
        read_overrides(folder / ".hydra" / "overrides.yaml"),
        {
            name: read_task(folder, name, figures, rows[name])
            for name, figures in summary["tasks"].items()
        },
        (folder / "metrics.json").stat().st_mtime,
    )


def read_scores(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of ``scores.csv`` by task."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != ["path", "label", "score", "task"]:
            raise ValueError("scores.csv: its columns are not path, label, score, task")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"scores.csv: line {reader.line_num} is cut off or too long")
            rows.setdefault(row["task"], []).append(row)
    return rows


def read_task(folder: Path, name: str, figures: Any, rows: list[dict[str, str]]) -> Task:
    """Read one task, and check its scores against its metrics."""
    numbers = [figures["peak_memory_mb"] or 0.0, *figures["seconds"].values(), figures["n_test"]]
    numbers += [figures[key] for key in figures if key.startswith(("image_", "pixel_"))]
    if not all(isinstance(value, int | float) for value in numbers):
        raise ValueError(f"metrics.json: a value of {name} is not a number")
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"metrics.json: {name!r} is not the name of a task")
    paths = [row["path"] for row in rows]
    labels = np.array([int(row["label"]) for row in rows])
    scores = np.array([float(row["score"]) for row in rows])
    if len(rows) != figures["n_test"]:
        raise ValueError(f"{name}: {len(rows)} scores for {figures['n_test']} test images")
    if len(set(paths)) < len(paths):
        raise ValueError(f"{name}: scores.csv names an image twice")
    if np.isnan(scores).any() or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"{name}: scores.csv has a score that is NaN, or a label besides 0 and 1")
    own = folder / "tasks" / name
    task = Task(
        *(name, figures, paths, labels, scores, pictures_in(own / "maps")),
        calibration=read_calibration(own / "calibration.json"),
        curves=read_curves(own / LOG),
    )
    recorded = task.metric("image_auroc")
    if recorded is not None and abs(auroc(scores, labels) - recorded) > AGREE:
        raise ValueError(
            f"{name}: image AUROC {recorded:.4f} in metrics.json, but {auroc(scores, labels):.4f} "
            "from scores.csv"
        )
    return task


def read_calibration(path: Path) -> list[float]:
    """The scores of the calibration images; empty where there are none."""
    scores = read_json(path)["scores"] if path.is_file() else []
    if not all(isinstance(score, int | float) for score in scores):
        raise ValueError(f"{path.name}: a score is not a number")
    return list(scores)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of the worst misses, by the rank at the start of their names."""
    return sorted(visible(folder, "*.png"), key=lambda path: natural(path.name))


def read_overrides(path: Path) -> list[str] | None:
    """The overrides of the command; None if they are not recorded."""
    if not path.is_file():
        return None
    return [str(each) for each in content(path) or []]


def derived_keys(path: Path) -> frozenset[str]:
    """Keys whose value in the composed configuration is an interpolation such as ``${seed}``."""
    if not path.is_file():
        return FOLLOW_SEED
    values = flat(content(path))
    return frozenset(key for key, value in values.items() if "${" in str(value))


def content(path: Path) -> Any:
    """The content of a YAML file; interpolations remain text."""
    return read_yaml(path)


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by their full key; lists are leaves.

    Example:
        >>> flat({"seed": 0, "loss": {"norm": 1}})
        {'seed': 0, 'loss.norm': 1}
    """
    if not isinstance(node, dict):
        return {key: node}
    return {
        name: value
        for part, child in node.items()
        for name, value in flat(child, f"{key}.{part}".removeprefix(".")).items()
    }


def missing_tasks(run: Run) -> list[str]:
    """The tasks that a run was to do or has started but has not finished."""
    asked = run.config.get("dataset.category", "all")
    names = [str(name) for name in (asked if isinstance(asked, list) else [asked])]
    begun = [  # the temporary folders of `whole_folder`
        path.name[1:].rpartition(".")[0]
        for path in sorted((run.directory / "tasks").glob(".*"))
        if path.is_dir()
    ]
    wanted = [*([] if names == ["all"] else names), *begun]
    return [name for name in dict.fromkeys(wanted) if name not in run.tasks]


def without_partial(found: Gathered) -> Gathered:
    """Leave out runs that lack tasks which another run over all tasks of the same data has.

    Such a run was stopped, so its mean is over fewer tasks than the means of the others.
    """
    present: dict[str, set[str]] = {}
    for run in found.runs:
        present.setdefault(data_of(run), set()).update(run.tasks)
    runs, left_out = [], list(found.left_out)
    for run in found.runs:
        lacking = sorted(present[data_of(run)] - set(run.tasks), key=natural)
        if lacking and run.config.get("dataset.category", "all") in ("all", ["all"]):
            reason = (
                f"unfinished, or its data had fewer tasks: {', '.join(lacking)} missing, which "
                "other runs have; resume=true completes it"
            )
            left_out.append(LeftOut(run.directory, reason))
        else:
            runs.append(run)
    return Gathered(runs, left_out)


def data_of(run: Run) -> str:
    """The settings of the dataset that determine which tasks exist."""
    keys = ("name", "root", "_target_", "protocol", "classes", "attribute", "seed")
    return repr([run.config.get(f"dataset.{key}") for key in keys])
