"""Which images a detector has learned from: a table beside its moments."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.engine.live import STREAMS
from occ_lab.reporting.record import cell, to_csv
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole

TABLE = "training.csv"  # in the folder of a task
Use = Literal["train", "calibration"]


def write_training_images(folder: Path, data: AnomalyDataModule) -> None:
    """Write the table of the images that a detector was fitted to, and of those held out for it.

    Args:
        folder: of the task.
        data: the task, as the detector has seen it.
    """
    write_table(
        folder,
        [str(item.path.absolute()) for item in data.split.train if item.index is None],
        [str(item.path.absolute()) for item in data.calibration_images.items if item.index is None],
    )


def write_table(folder: Path, train: Sequence[str], calibration: Sequence[str]) -> None:
    """Write the table: paths that were learned from, and paths that were held out."""
    rows = [{"path": cell(path), "use": "train"} for path in train]
    rows += [{"path": cell(path), "use": "calibration"} for path in calibration]
    write_whole(folder / TABLE, to_csv(rows, ("path", "use")))


def learned_images(directory: Path, task: str) -> dict[Use, list[Path]]:
    """The images that the detector of a run has learned from, and those it was calibrated on.

    Args:
        directory: the run directory, of a training with moments or of a stream.
        task: its task.

    Raises:
        InputError: the run does not say.
    """
    table = directory / "tasks" / task / TABLE
    stream = directory / STREAMS / f"{task}.csv"
    try:
        if table.is_file():
            with table.open(encoding="utf-8", newline="") as file:
                rows = [(row["path"], row["use"]) for row in csv.DictReader(file)]
        elif stream.is_file():
            with stream.open(encoding="utf-8", newline="") as file:
                learned = [row for row in csv.DictReader(file) if row["learned"] == "1"]
            rows = [(row["path"], "train") for row in learned]
        else:
            raise InputError(
                f"{directory} does not say which images it has learned from; train it with "
                "moments=true",
                part="run",
            )
    except (csv.Error, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{directory}: its table of images is damaged", part="run") from error
    return {
        "train": [Path(path) for path, use in rows if use == "train"],
        "calibration": [Path(path) for path, use in rows if use == "calibration"],
    }
