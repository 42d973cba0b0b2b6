"""Write the folder of a gallery: the page, thumbnails, maps, and a table of all images."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from occ_lab import __version__
from occ_lab.data.any_image import as_rgb
from occ_lab.data.boxes import cut, fractions
from occ_lab.data.headers import header
from occ_lab.data.transforms import Frame, Seen
from occ_lab.data.value_range import Range
from occ_lab.metrics.calibration import Calibration
from occ_lab.reporting.gallery.maps import stored_map, thumbnail
from occ_lab.reporting.gallery.page import page
from occ_lab.reporting.gallery.scale import Scale
from occ_lab.utils.errors import ImageError
from occ_lab.utils.files import write_whole
from occ_lab.utils.names import printable

log = logging.getLogger(__name__)

PAGE, FOLDER, DATA = "index.html", "gallery", "data.js"
BEFORE, AFTER = "window.occGallery = ", ";\n"  # the content of DATA without its JSON
PAUSE = 5.0  # seconds between two versions of a page that grows
# What browsers show, as Pillow calls it; other images are copied as JPEG files.
SHOWN = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP")


@dataclass(frozen=True)
class Entry:
    """An image of a gallery.

    Attributes:
        path: the file.
        score: larger is more anomalous.
        label: 1 anomalous, 0 normal; None where it is not known.
        kind: of the defect, such as ``scratch``, or empty.
        task: what the detector was trained on.
        shown: the part of the image that has a map: top, left, height and width as fractions.
        decided: what was decided when the image came, ``accept`` or ``reject``; empty where the
            threshold of the page decides.
    """

    path: Path
    score: float
    label: int | None = None
    kind: str = ""
    task: str = ""
    shown: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    decided: str = ""


@dataclass(frozen=True)
class Judging:
    """How the images of a task are judged.

    Attributes:
        threshold: of image scores; None where the detector is not calibrated.
        rate: the false-positive rate that the threshold was chosen for.
        calibration: the scores of normal images, rising; empty where there are none.
        scale: the colours of maps; None chooses them when the page is written.
    """

    threshold: float | None = None
    rate: float | None = None
    calibration: list[float] = field(default_factory=list)
    scale: Scale | None = None

    @classmethod
    def of(cls, calibration: Calibration | None, rate: float | None) -> Judging:
        """How a detector judges at a false-positive rate; both are None if it is not calibrated."""
        if calibration is None or rate is None:
            return cls()
        scores = calibration.scores.tolist()
        scale = Scale.of_calibration(calibration, rate)
        return cls(calibration.threshold(rate), rate, scores, scale)


class Gallery:
    """Collects images and writes their page.

    Args:
        directory: ``index.html`` goes there, and all else into ``gallery/`` beside it.
        title: of the page.
        judging: by task; tasks that are not named are not calibrated.
        range: the stored values of images of more than 8 bits that are shown as black and white,
            see `occ_lab.data.any_image.as_rgb`.
        kept: paths of the images to keep of a gallery that is there already; it is removed if none
            are given.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     gallery = Gallery(Path(folder), "parts")
        ...     gallery.add(Entry(Path("1.png"), 0.5), np.zeros((8, 8, 3), np.uint8), None)
        ...     print(gallery.write().name)
        index.html
    """

    def __init__(
        self,
        directory: Path,
        title: str,
        judging: dict[str, Judging] | None = None,
        range: Range | None = None,
        kept: Collection[str] = (),
    ) -> None:
        self.directory = directory
        self.title = title
        self.judging = judging or {}
        self.range = range
        self.rows: list[dict[str, Any]] = read_rows(self.folder, kept) if kept else []
        self._next = 1 + max((row["file"] for row in self.rows), default=-1)
        if not self.rows:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._written = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where everything but the page is."""
        return self.directory / FOLDER

    def show(self, entry: Entry, frame: Frame, seen: Seen, heat: np.ndarray | None) -> None:
        """Add an image as a detector has seen it; a picture that cannot be written is named.

        Args:
            entry: what is known of it, but for ``shown``, which follows from the frame.
            frame: how the detector sees images.
            seen: the image in this frame.
            heat: the map of the frame, float ``[h, w]``; None where there is none.
        """
        box = frame.box(*seen.size)
        entry = replace(entry, shown=fractions(frame.shown(*seen.size), seen.size))
        try:
            self.add(entry, cut(seen.pixels, box), None if heat is None else cut(heat, box))
        except OSError as error:  # the disk may be full, or the image gone by now
            log.warning("no picture of %s: %s", entry.path, error)

    def add(self, entry: Entry, pixels: np.ndarray, heat: np.ndarray | None) -> None:
        """Add an image.

        Args:
            entry: what is known of it.
            pixels: the part of it that has a map, at any size, uint8 ``[h, w, 3]``.
            heat: the map of that part, at any size, float ``[H, W]``; None where there is none.
                A map with a value that is not finite is not shown.

        Raises:
            OSError: a file cannot be written. The image is on the page nevertheless.
        """
        number, self._next = self._next, self._next + 1
        if heat is not None and not np.isfinite(heat).all():
            heat = None
        stored = None if heat is None else stored_map(heat)
        row = {
            **vars(entry),
            "path": printable(str(entry.path)),
            "score": entry.score if math.isfinite(entry.score) else None,
            "file": number,
            "range": None if stored is None else (stored.low, stored.high),
            "source": "",
        }
        self.rows.append(row)
        scale = self.judging.get(entry.task, Judging()).scale
        for name in ("thumbs", "maps"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        thumb = self.folder / "thumbs" / f"{number}.jpg"
        thumb.write_bytes(thumbnail(pixels, heat, scale))
        if stored is not None:
            text = f"occMap({number}, {json.dumps(stored.url)})\n"
            (self.folder / "maps" / f"{number}.js").write_text(text, encoding="utf-8")
        row["source"] = self._source(entry.path, number)

    def _source(self, path: Path, number: int) -> str:
        """The address of an image at full size, as seen from the page; empty if there is none."""
        try:
            found = header(path)
        except ImageError:  # made in memory, or gone by now
            return ""
        if found.deep or found.format not in SHOWN:
            copy = self.folder / "images" / f"{number}.jpg"
            copy.parent.mkdir(exist_ok=True)
            Image.fromarray(as_rgb(path, self.range)).save(copy, quality=90)
            return f"{FOLDER}/images/{number}.jpg"
        try:
            relative = os.path.relpath(path.absolute(), self.directory.absolute())
        except ValueError:  # on another drive
            return path.absolute().as_uri()
        return quote(os.fsencode(relative.replace(os.sep, "/")))

    def write(self) -> Path | None:
        """Write the page and its table.

        Returns:
            The page; None if it cannot be written, which is logged: no work is lost for it.
        """
        self._written = time.monotonic()
        text = json.dumps(self.content(), allow_nan=False, separators=(",", ":"))
        try:
            write_whole(self.folder / DATA, f"{BEFORE}{text}{AFTER}")
            write_whole(self.directory / PAGE, page(self.title))
        except OSError as error:
            log.warning("no gallery in %s: %s", self.directory, error)
            return None
        return self.directory / PAGE

    def write_now_and_then(self) -> None:
        """Write the page if the last version is some seconds old, while images are added."""
        if time.monotonic() - self._written > PAUSE:
            self.write()

    def content(self) -> dict[str, Any]:
        """All that the page knows, as plain data."""
        tasks = dict.fromkeys(row["task"] for row in self.rows)
        return {
            "title": self.title,
            "version": __version__,
            "tasks": {name: self.judging_of(name) for name in tasks},
            "rows": self.rows,
        }

    def judging_of(self, task: str) -> dict[str, Any]:
        """Threshold, calibration and colours of a task, as plain data."""
        judging = self.judging.get(task, Judging())
        threshold = judging.threshold
        if threshold is not None and not math.isfinite(threshold):
            threshold = None
        return {
            "threshold": threshold,
            "rate": judging.rate,
            "calibration": judging.calibration,
            "scale": vars(judging.scale or self._scale_of(task)),
        }

    def _scale_of(self, task: str) -> Scale:
        """Colours for a task without calibration: most of its images are taken for good."""
        peaks = [
            row["range"][1]
            for row in self.rows
            if row["task"] == task and row["range"] and row["label"] in (None, 0)
        ]
        return Scale.of(np.array(peaks or [0.0]))


def read_rows(folder: Path, kept: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a gallery that is there already, of the images at some paths.

    A gallery that is absent or damaged has none.
    """
    try:
        text = (folder / DATA).read_text(encoding="utf-8")
        rows = json.loads(text[len(BEFORE) : -len(AFTER)])["rows"]
        return [row for row in rows if row["path"] in kept]
    except (OSError, ValueError, KeyError, TypeError):
        return []
