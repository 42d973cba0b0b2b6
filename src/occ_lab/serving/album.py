"""The images of a service on disk: table, page and, where they are kept, the posted files."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from occ_lab.data.images import is_tiff
from occ_lab.data.transforms import Seen
from occ_lab.inference.predict import COLUMNS, TABLE, gallery_of
from occ_lab.inference.predictor import Predictor
from occ_lab.reporting.gallery.gallery import FOLDER, Entry, Gallery, read_rows
from occ_lab.reporting.record import to_csv
from occ_lab.serving.scorer import Outcome
from occ_lab.serving.verdicts import Verdicts
from occ_lab.utils.files import whole_file, write_whole
from occ_lab.utils.names import printable
from occ_lab.utils.scratch import visible

log = logging.getLogger(__name__)

POSTED = "posted"  # the folder of images that were sent


class Album:
    """Records images: a row in ``predictions.csv``, and an entry of the page ``index.html``.

    An album that is there already is continued.

    Args:
        directory: where everything goes.
        predictor: has scored the images.
        title: of the page.

    Attributes:
        verdicts: on its images.
        known: the files that it holds from earlier.
    """

    def __init__(self, directory: Path, predictor: Predictor, title: str) -> None:
        self.directory = directory
        self.predictor = predictor
        self.verdicts = Verdicts(directory)
        rows = self._earlier()
        self.known = [Path(row["path"]) for row in rows]
        # A row of the table whose picture was not saved is left out; its image is scored again.
        write_whole(directory / TABLE, to_csv(rows, COLUMNS))
        kept = {printable(str(path)) for path in self.known}
        self.gallery: Gallery = gallery_of(predictor, directory, title, kept)
        self._ready = len(self.gallery.rows)
        self._paths: dict[int, Path] = {}
        there = visible(directory, f"{POSTED}/*")
        self._posted = max((int(path.stem) for path in there if path.stem.isdecimal()), default=0)
        self._lock = Lock()

    def _earlier(self) -> list[dict[str, str]]:
        """The rows of the table whose images are on the page."""
        try:
            with (self.directory / TABLE).open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("decision") is not None]
        except FileNotFoundError:
            return []
        kept = [printable(row["path"]) for row in rows]
        there = {row["path"] for row in read_rows(self.directory / FOLDER, kept)}
        return [row for row in rows if printable(row["path"]) in there]

    def add(self, path: Path, seen: Seen, outcome: Outcome) -> None:
        """Record an image; what cannot be written is logged, and the rest goes on."""
        with self._lock:
            self._add(path, seen, outcome)

    def _add(self, path: Path, seen: Seen, outcome: Outcome) -> None:
        scored = outcome.scored
        try:
            with (self.directory / TABLE).open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(scored.row())
        except OSError as error:
            log.error("%s is not in %s: %s", path, self.directory / TABLE, error)
        entry = Entry(path, scored.score, task=self.predictor.task, decided=scored.decision)
        self.gallery.show(entry, self.predictor.detector.frame, seen, outcome.heat)
        self._paths[self.gallery.rows[-1]["file"]] = path
        self._ready = len(self.gallery.rows)
        self.gallery.write_now_and_then()

    def store(self, content: bytes) -> Path:
        """Keep the content of an image file that was sent, under the next free number.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            number = self._posted = self._posted + 1
        path = self.directory / POSTED / f"{number:06d}{suffix_of(content)}"
        with whole_file(path) as scratch:
            scratch.write_bytes(content)
        return path

    def close(self) -> None:
        """Write the page as it is now."""
        with self._lock:
            if self.gallery.rows:
                self.gallery.write()

    def source(self, number: int) -> Path | None:
        """The file of an image at full size, in a form that browsers show; None if there is none.

        Args:
            number: ``file`` of its row.
        """
        row = next((row for row in self._rows() if row["file"] == number), None)
        if row is None or not row["source"]:
            return None
        if row["source"].startswith(f"{FOLDER}/"):
            return self.directory / str(row["source"])
        return self._paths.get(number, Path(row["path"]))

    def holds(self, path: str) -> bool:
        """Whether an image of the page has this path."""
        return any(row["path"] == path for row in self._rows())

    def content(self, after: int = 0) -> dict[str, Any]:
        """What the page knows: everything, or what has changed since it had ``after`` rows."""
        task = self.predictor.task
        content = self.gallery.content()
        rows = self._rows()
        content["count"] = len(rows)
        content["rows"] = [
            {**row, "source": row["source"] and f"images/{row['file']}"} for row in rows[after:]
        ]
        content["tasks"] = {task: self.gallery.judging_of(task)}
        content["live"] = True
        if not after:
            content["marks"] = self.verdicts.marks
        return content

    def _rows(self) -> Sequence[dict[str, Any]]:
        """The rows whose pictures are complete."""
        return self.gallery.rows[: self._ready]


def suffix_of(content: bytes) -> str:
    """The suffix of an image file by its content, which has been read as an image before."""
    if is_tiff(content):  # also those that Pillow does not know
        return ".tif"
    with Image.open(io.BytesIO(content)) as image:
        return f".{(image.format or 'image').lower()}"
