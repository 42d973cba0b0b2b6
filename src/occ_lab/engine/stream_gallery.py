"""The gallery of a stream, which grows while images come."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from occ_lab.data.transforms import Seen
from occ_lab.engine.live import Stream
from occ_lab.engine.verdict import Verdict
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging


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

    def add(self, path: Path, seen: Seen, verdict: Verdict, heat: Tensor | None) -> None:
        """Add an image and its map ``[h, w]``; write the page now and then."""
        if verdict.score is None:  # the first image of a new detector has nothing to show
            return
        self._judge()  # a thumbnail's colours follow from the images before, not from the clock
        frame = self.stream.detector.frame
        self.gallery.range = frame.range
        entry = Entry(path, verdict.score, task=self.task, decided=verdict.decision or "")
        self.gallery.show(entry, frame, seen, None if heat is None else heat.numpy())
        self.gallery.write_now_and_then()

    def write(self) -> None:
        """Write the page as it is now, if there is any image."""
        if self.gallery.rows:
            self._judge()  # a stream that goes on may have no image left to add
            self.gallery.write()

    def _judge(self) -> None:
        """Let the page decide as the stream does by now."""
        reference = self.stream.reference
        if reference.decided:
            judging = Judging.of(reference.calibration, self.stream.overkill)
            self.gallery.judging = {self.task: judging}
