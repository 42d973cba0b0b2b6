"""A detector, the images that it gets, and where they are recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore, Event, Thread

import torch

from occ_lab.data.transforms import Seen
from occ_lab.engine.stream_lines import named
from occ_lab.engine.watch import Arrivals
from occ_lab.inference.predictor import Predictor
from occ_lab.serving.album import Album
from occ_lab.serving.counters import Counters
from occ_lab.serving.limits import Limits
from occ_lab.serving.scorer import Outcome, Scorer
from occ_lab.utils.errors import check_number
from occ_lab.utils.names import printable

log = logging.getLogger(__name__)

AHEAD = 2  # batches of the folder that are read, scored or recorded at a time


@dataclass(frozen=True)
class Plan:
    """How a service works.

    Args:
        limits: who may ask, and how much.
        folder: a folder whose images are scored as they come; None follows none.
        keep: whether images that are sent are kept and shown on the page.
        batch_size: see `Scorer`.
        waiting: likewise.
        workers: the number of threads that read images; 0 uses torch's number of threads.
        settle: see `Arrivals`.
        patience: likewise.

    Raises:
        ValueError: a number is out of range; the message begins with its name.
    """

    limits: Limits = field(default_factory=Limits)
    folder: Path | None = None
    keep: bool = False
    batch_size: int = 32
    waiting: int = 64
    workers: int = 0
    settle: float = 0.2
    patience: float = 10.0

    def __post_init__(self) -> None:
        check_number("batch_size", self.batch_size, at_least=1, integer=True)
        check_number("waiting", self.waiting, at_least=1, integer=True)
        check_number("workers", self.workers, at_least=0, integer=True)

    @property
    def readers(self) -> int:
        """The number of threads that read images."""
        return self.workers or torch.get_num_threads()


class Service:
    """Scores images that are sent, and those of a folder, and records them.

    Args:
        predictor: scores and judges.
        directory: table, page, verdicts and kept images are written there.
        plan: how it works.

    Attributes:
        album: the recorded images; None if no images are recorded.
        counters: what it has done.
        failed: files of the folder that could not be read or scored, with the reasons.

    Raises:
        InputError: the folder cannot be followed.
    """

    def __init__(self, predictor: Predictor, directory: Path, plan: Plan) -> None:
        self.predictor = predictor
        self.plan = plan
        self.counters = Counters()
        self.failed: dict[str, str] = {}
        self._broken = ""
        self._stop = Event()
        self._arrivals: Arrivals[Seen] | None = None
        self.album: Album | None = None
        if plan.folder is not None:
            self._arrivals = Arrivals(
                plan.folder, predictor.seen, (), plan.settle, plan.patience, self._stop
            )
            self.album = Album(directory, predictor, plan.folder.name)
            self._arrivals.skip(self.album.known)
        elif plan.keep:
            self.album = Album(directory, predictor, directory.name)
        self.scorer = Scorer(predictor, plan.batch_size, plan.waiting, self.counters)
        self._recorder = ThreadPoolExecutor(1, "recorder")
        self._free = BoundedSemaphore(AHEAD * plan.batch_size)
        self._follower = Thread(target=self._follow, name="folder", daemon=True)

    def start(self) -> None:
        """Begin to follow the folder, if there is one."""
        self._follower.start()

    @property
    def broken(self) -> str:
        """What no longer works, and why; empty if all is well."""
        return self._broken if self.scorer.works else "images are no longer scored"

    def stop(self) -> None:
        """Finish what has begun, and write the page."""
        self._stop.set()
        self._follower.join()
        self.scorer.close()
        self._recorder.shutdown()
        if self.album is not None:
            self.album.close()

    def score(self, name: Path, seen: Seen) -> Future[Outcome]:
        """Let an image be scored that was sent; raises what `Scorer.submit` raises."""
        return self.scorer.submit(name, seen)

    def keep(self, content: bytes, seen: Seen, outcome: Outcome) -> Path | None:
        """Keep an image that was sent, and show it on the page; returns its file.

        None is returned if images are not kept, or if this one cannot be written, which is logged:
        the sender gets its score nevertheless.
        """
        if self.album is None or not self.plan.keep:
            return None
        try:
            path = self.album.store(content)
        except OSError as error:
            log.error("an image that was sent is not kept: %s", error)
            return None
        kept = Outcome(outcome.scored.named(path), outcome.heat)
        self._free.acquire()  # whoever sends waits while the disk is slower than the detector
        self._recorder.submit(self._record, path, seen, kept)
        return path

    def _follow(self) -> None:
        """Score the images of the folder until the service is stopped."""
        try:
            for each in self._arrivals or ():
                if each.content is None:
                    self._lost(each.path, each.error)
                    continue
                self._free.acquire()
                outcome = self.scorer.submit(each.path, each.content, patient=True)
                outcome.add_done_callback(self._recording(each.path, each.content))
        except Exception as error:  # images that are sent are still scored
            self._broken = f"{self.plan.folder} is no longer followed: {error}"
            log.error("%s", self._broken)

    def _recording(self, path: Path, seen: Seen) -> Callable[[Future[Outcome]], None]:
        """What to do once an image of the folder has been scored."""

        def done(outcome: Future[Outcome]) -> None:
            self._recorder.submit(self._record_scored, path, seen, outcome)

        return done

    def _record_scored(self, path: Path, seen: Seen, outcome: Future[Outcome]) -> None:
        error = outcome.exception()
        if error is None:
            self._record(path, seen, outcome.result())
        else:
            self._free.release()
            self._lost(path, str(error))

    def _record(self, path: Path, seen: Seen, outcome: Outcome) -> None:
        try:
            if self.album is not None:
                self.album.add(path, seen, outcome)
        except Exception:  # one image must not end the recording of all others
            log.exception("%s is not on the page", path)
        finally:
            self._free.release()

    def _lost(self, path: Path, reason: str) -> None:
        """Count and name a file that has no score."""
        name = printable(str(path))
        self.failed[name] = reason
        self.counters.unreadable.inc()
        log.warning("not read: %s", named(name, printable(reason)))
