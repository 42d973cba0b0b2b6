"""The gallery of a stream, which grows while images come."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from occ_lab.data.boxes import cut, fractions
from occ_lab.data.transforms import Seen
from occ_lab.engine.live import Stream, Verdict
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging

log = logging.getLogger(__name__)

PAUSE = 5.0  # seconds between two versions of the page


class StreamGallery:
    """A gallery of the images of a stream; each has the score that it had when it came.

    Args:
        directory: where ``index.html`` goes.
        stream: judges the images.
        task: its name.
        kept: paths of images of an earlier attempt, which stay on the page.
    """

    def __init__(
        self, directory: Path, stream: Stream, task: str, kept: Collection[str] = ()
    ) -> None:
        self.stream = stream
        self.task = task
        self.gallery = Gallery(directory, directory.name, kept=kept)
        self._written = time.monotonic()

    def add(self, path: Path, seen: Seen, verdict: Verdict, heat: Tensor | None) -> None:
        """Add an image and its map ``[h, w]``; write the page now and then."""
        if verdict.score is None:  # the first image of a new detector has nothing to show
            return
        self._judge()
        frame = self.stream.detector.frame
        self.gallery.range = frame.range
        box = frame.box(*seen.size)
        shown = fractions(frame.shown(*seen.size), seen.size)
        entry = Entry(path, verdict.score, None, "", self.task, shown, verdict.decision or "")
        part = None if heat is None else cut(heat.numpy(), box)
        try:
            self.gallery.add(entry, cut(seen.pixels, box), part)
            if time.monotonic() - self._written > PAUSE:
                self.write()
        except OSError as error:  # the image may be gone by now, or the disk be full
            log.warning("no picture of %s: %s", path, error)

    def write(self) -> Path | None:
        """Write the page as it is now, if there is any image."""
        self._written = time.monotonic()
        if not self.gallery.rows:
            return None
        self._judge()
        return self.gallery.write()

    def _judge(self) -> None:
        """Let the page decide as the stream does by now."""
        reference = self.stream.reference
        if reference.decided:
            judging = Judging.of(reference.calibration, self.stream.overkill)
            self.gallery.judging = {self.task: judging}
