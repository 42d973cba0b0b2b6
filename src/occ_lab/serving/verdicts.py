"""The verdicts of the people who look at the page, kept in one table."""

from __future__ import annotations

import csv
from pathlib import Path
from threading import Lock
from typing import Any

from occ_lab.reporting.record import cell, to_csv
from occ_lab.utils.files import write_whole

NAME = "verdicts.csv"
COLUMNS = ("path", "verdict", "defect", "score", "threshold", "decision", "task")


class Verdicts:
    """A table with the latest verdict on each image; the file is complete at any time.

    Args:
        directory: ``verdicts.csv`` is there; what it holds is kept.

    Raises:
        InputError: the table that is there cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Verdicts(Path(folder)).put("1.png", {"verdict": "missed", "defect": "scratch"})
        ...     Verdicts(Path(folder)).marks
        {'1.png': {'truth': 'defect', 'kind': 'scratch'}}
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self._lock = Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                self._rows = {row["path"]: row for row in csv.DictReader(file)}

    def put(self, path: str, row: dict[str, Any] | None) -> None:
        """Set the verdict on an image, or remove it with None.

        Raises:
            OSError: the file cannot be written; the table is as before.
        """
        with self._lock:
            rows = {name: each for name, each in self._rows.items() if name != path}
            if row is not None:
                row = {**dict.fromkeys(COLUMNS, ""), **row, "path": cell(path)}
                rows[path] = {**row, "defect": cell(row["defect"])}
            write_whole(self.path, to_csv(list(rows.values()), COLUMNS))
            self._rows = rows

    @property
    def marks(self) -> dict[str, dict[str, str]]:
        """What the page shows: by path, whether the part is good or a defect, and of which type."""
        good = ("good", "false alarm")
        return {
            path: {
                "truth": "good" if row["verdict"] in good else "defect",
                "kind": str(row["defect"]),
            }
            for path, row in self._rows.items()
        }
