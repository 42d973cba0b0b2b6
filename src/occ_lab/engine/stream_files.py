"""The files of a stream: a table with one row for each image, pictures, and its state."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from torch import Tensor

from occ_lab.data.any_image import as_rgb
from occ_lab.engine.live import STREAMS, Stream
from occ_lab.engine.stream_state import (
    DamagedStateError,
    StreamState,
    read_state,
    write_state,
)
from occ_lab.engine.verdict import Verdict
from occ_lab.reporting.pictures import strip
from occ_lab.reporting.record import to_csv, to_json
from occ_lab.utils.files import write_whole
from occ_lab.utils.names import file_name
from occ_lab.utils.png import save_png

log = logging.getLogger(__name__)

Heatmaps = Literal["none", "rejected", "all"]


class StreamFiles:
    """The files of a stream in a run directory.

    A row is added to the table as soon as there is a verdict. The state is written at intervals and
    stores how many rows belong to it. When a stream continues, later rows are written again, unless
    their images are gone. If there is no state yet, or a damaged one, all rows are written again.

    Args:
        directory: the run directory.
        name: the name of the stream.

    Attributes:
        position: the number of images that are done.
        failed: the images that could not be read, with the reasons.
        counts: the number of images with each decision, and of those that were learned from.
        rejected: the rows of rejected images.
        known: paths of the images that an earlier attempt has judged.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.position = 0
        self.failed: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self.known: set[str] = set()
        self._file: TextIO | None = None

    def path(self, suffix: str) -> Path:
        """The file with a suffix such as ``.csv``; the names of tasks may contain dots."""
        return self.directory / STREAMS / (self.name + suffix)

    def state(self, settings: dict[str, Any]) -> StreamState | None:
        """The state that an earlier attempt has saved; a damaged state is logged and removed.

        Raises:
            InputError: it was learned with other settings.
        """
        path = self.path(".safetensors")
        if not path.is_file():
            return None
        try:
            return read_state(path, settings)
        except DamagedStateError as error:
            log.warning("%s; the stream starts again from its first image", error)
            path.unlink()
            return None

    def restore(self, stream: Stream, listed: Iterable[str]) -> None:
        """Take over the results of an earlier attempt, if there are any.

        Args:
            stream: is set to the saved state.
            listed: the existing images, named as in the table. Rows that came after the state are
                written again unless their images are gone.

        Raises:
            InputError: the state was learned with other settings.
        """
        done = 0
        state = self.state(stream.settings)
        if state is not None:
            stream.restore(state)
            self.position, self.failed, done = state.position, state.failed, state.rows
        text, every = table(self.path(".csv"))
        if len(every) < done:
            log.warning("%s: %d rows of %d are left", self.path(".csv"), len(every), done)
        again = set(listed)
        rows = every[:done] + [row for row in every[done:] if row["path"] not in again]
        kept = to_csv(rows) if rows else ""
        if kept != text:
            write_whole(self.path(".csv"), kept)
        for row in rows:
            self._count(row)
        self.known = {row["path"] for row in rows}

    def add(self, columns: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
        """Write the row of an image; it is completely on the disk when the call returns."""
        row = {**columns, **verdict.row}
        if self._file is None:
            path = self.path(".csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = path.is_file() and path.stat().st_size > 0
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
            if not begun:
                self._write(row.keys())
        self._write(row.values())
        self._count(row)
        return row

    def _write(self, values: Any) -> None:
        assert self._file is not None
        csv.writer(self._file, lineterminator="\n").writerow(values)
        self._file.flush()

    def _count(self, row: Mapping[str, Any]) -> None:
        # Rows of earlier versions have no decision.
        self.counts.update(
            images=1,
            accepted=row.get("decision") == "accept",
            rejected=row.get("decision") == "reject",
            learned=int(row["learned"]),
        )
        if row.get("decision") == "reject":
            self.rejected.append(dict(row))

    def save(self, stream: Stream) -> None:
        """Write the state, after its rows have reached the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        rows = self.counts["images"]
        write_state(self.path(".safetensors"), stream.state(self.position, rows, self.failed))

    def write_figures(self, stream: Stream) -> None:
        """Write the figures to the ``.json`` file."""
        write_whole(self.path(".json"), to_json(self.figures(stream)))

    def __enter__(self) -> StreamFiles:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the table; only `save` writes the state, between two images."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def save_heatmap(
        self, image: Path, stream: Stream, heat: Tensor, size: tuple[int, int], verdict: Verdict
    ) -> None:
        """Save a picture of an image and its map, numbered like the rows of the table.

        Args:
            image: the file of the image.
            stream: the stream that has judged it.
            heat: the map ``[h, w]`` of the preprocessed image.
            size: height and width of the image.
            verdict: the verdict.
        """
        name = file_name(f"{self.counts['images']:06d}_{image.stem}", ".png")
        threshold = stream.reference.pixel_threshold
        full = stream.detector.full_map(heat, size).numpy()
        top = float(full.max()) if threshold is None else 2 * threshold
        shown = np.clip(full / max(top, np.finfo(np.float32).tiny), 0, 1)
        marked = None if threshold is None else full > threshold
        title = f"{image.name}   score {verdict.score:.4g}   {verdict.decision or ''}"
        try:
            pixels = as_rgb(image, stream.detector.frame.range)
            target = self.directory / "heatmaps" / self.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            save_png(strip(pixels, marked, shown, title, full.shape), target)
        except OSError as error:  # the file may be gone, or the disk may be full
            log.warning("no heatmap of %s: %s", image, error)

    def figures(self, stream: Stream) -> dict[str, Any]:
        """The numbers of images, and the mean milliseconds of each step."""
        counts = {name: self.counts[name] for name in ("images", "accepted", "rejected", "learned")}
        return {
            **counts,
            "undecided": counts["images"] - counts["accepted"] - counts["rejected"],
            "overkill": stream.overkill,
            "re_solves": stream.re_solves,
            "milliseconds": stream.costs.milliseconds,
        }


def table(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The text of a table and its complete rows; a killed process may have left a partial row.

    Both are empty if there is no table.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "", []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader) if "path" in (reader.fieldnames or ()) else []
    if rows and not text.endswith("\n"):
        rows.pop()
    return text, [row for row in rows if None not in row and None not in row.values()]


def as_written(path: Path) -> str:
    """A path in the form that the table uses."""
    return str(path).encode("utf-8", "backslashreplace").decode()
