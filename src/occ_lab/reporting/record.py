"""What a run writes into its directory, whole or not at all per task."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_folder, write_whole

# Keys that change no figure of a task.
UNTOLD = ("resume", "maps", "explain", "dataset.category", "save_every")
METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_aupro")


class RunRecord:
    """The directory of a run.

    Each finished task is a folder ``tasks/NAME`` with its ``metrics.json``, ``scores.csv``,
    ``maps/`` and ``checkpoints/``, put there by one rename. ``metrics.json`` and ``scores.csv`` of
    the run are made anew from the finished tasks after each.

    Of the processes of a distributed run the first one alone writes.

    Args:
        directory: the run directory.
        header: what stands above the tasks in ``metrics.json``: dataset, loss, backbone, seed,
            version.
        cfg: the whole configuration, resolved; it is kept as ``config.yaml``.

    Raises:
        InputError: ``directory`` has finished tasks and ``cfg.resume`` is off, or they were made
            with another configuration.
    """

    def __init__(self, directory: Path, header: dict[str, Any], cfg: DictConfig) -> None:
        self.directory = directory
        self.header = header
        self.leads = leads()
        if not self.leads:
            return
        keep_settings(directory, cfg, begun=bool(self.finished))

    @property
    def finished(self) -> dict[str, dict[str, Any]]:
        """The figures of each finished task, by name."""
        found = sorted(self.directory.glob("tasks/*/metrics.json"))
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}

    @contextmanager
    def task(self, name: str) -> Iterator[Path]:
        """A scratch folder for the outputs of a task, which appears when the block ends well.

        Of several processes the first one's appears; those of the others are dropped.
        """
        if not self.leads:
            with tempfile.TemporaryDirectory() as dropped:
                yield Path(dropped)
            return
        with whole_folder(self.directory / "tasks" / name) as folder:
            yield folder
        self._write_summary()

    def _write_summary(self) -> None:
        tasks = self.finished
        summary = {**self.header, "tasks": tasks, "mean": mean_metrics(tasks)}
        write_whole(self.directory / "metrics.json", to_json(summary))
        rows = [row for name in tasks for row in self.scores(name)]
        write_whole(self.directory / "scores.csv", to_csv(rows))

    def scores(self, name: str) -> list[dict[str, Any]]:
        """The rows of a finished task's ``scores.csv``, with the task's name added."""
        path = self.directory / "tasks" / name / "scores.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            return [{**row, "task": name} for row in csv.DictReader(stream)]


def leads() -> bool:
    """Whether this is the first of the processes of a run, or the only one."""
    from lightning.pytorch.utilities import rank_zero_only  # with torch: not for a mere look

    return getattr(rank_zero_only, "rank", 0) == 0


def keep_settings(
    directory: Path, cfg: DictConfig, begun: bool, untold: Sequence[str] = UNTOLD
) -> None:
    """Write ``cfg`` as ``config.yaml``; where work has begun, it must go on with the same.

    Args:
        directory: of the run.
        cfg: the whole configuration, resolved.
        begun: whether there is anything that was made with what is written there now.
        untold: keys that change nothing of it.

    Raises:
        InputError: work has begun and ``cfg.resume`` is off, or it had other settings.
    """
    settings = directory / "config.yaml"
    if begun:
        if not cfg.resume:
            raise InputError(
                f"hydra.run.dir: {directory} already holds results; "
                "add resume=true to go on there, or name another directory"
            )
        changed = differences(OmegaConf.load(settings), cfg, untold)
        if changed:
            raise InputError(
                f"resume: {directory} holds a run with another {', '.join(changed)}; "
                "repeat its command, or name another directory"
            )
    write_whole(settings, OmegaConf.to_yaml(cfg))


def differences(
    earlier: Any, present: Any, untold: Sequence[str] = UNTOLD, key: str = ""
) -> list[str]:
    """The keys in which two configurations differ, but for those that are ``untold``."""
    if key in untold:
        return []
    if isinstance(earlier, DictConfig) and isinstance(present, DictConfig):
        names = dict.fromkeys([*earlier, *present])
        return [
            found
            for name in names
            for found in differences(
                earlier.get(name), present.get(name), untold, f"{key}.{name!s}".removeprefix(".")
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
    """JSON text, indented, with a newline at its end."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_csv(rows: list[dict[str, Any]]) -> str:
    """CSV text of rows with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
