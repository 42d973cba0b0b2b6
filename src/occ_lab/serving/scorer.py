"""One thread that scores images: those that wait while it works become its next batch."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread

import numpy as np

from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Seen
from occ_lab.inference.predict import Scored, judged
from occ_lab.inference.predictor import Predictor
from occ_lab.serving.counters import Counters
from occ_lab.utils.errors import check_number


class BusyError(RuntimeError):
    """As many images wait as may wait; the caller may try again."""


class StoppedError(RuntimeError):
    """The service ends, and takes no more images."""


@dataclass(frozen=True)
class Outcome:
    """What the detector says of an image.

    Attributes:
        scored: score, p-value and decision.
        heat: the map of the frame, float32 ``[h, w]``; None if the detector scores whole images.
    """

    scored: Scored
    heat: np.ndarray | None


@dataclass(frozen=True)
class Waiting:
    """An image that waits to be scored."""

    path: Path
    seen: Seen
    outcome: Future[Outcome]


class Scorer:
    """Scores images in the order in which they come, all that wait as one batch.

    A single image is scored at once; the busier the detector is, the larger are its batches.

    Args:
        predictor: scores and judges; no other thread may use its detector meanwhile.
        batch_size: the largest number of images in a batch; tiled images are scored one by one.
        waiting: the largest number of images that wait.
        counters: count batches and decisions.

    Example:
        >>> from occ_lab import Detector
        >>> from occ_lab.backbones import TimmBackbone
        >>> from occ_lab.data.transforms import Preprocessing
        >>> from occ_lab.objectives import Norm
        >>> backbone = TimmBackbone("resnet10t", weights="random")
        >>> detector = Detector(backbone, Norm(solver="gradient"))
        >>> detector.see(Preprocessing(64, 64))
        >>> scorer = Scorer(Predictor(detector, "parts"))
        >>> seen = scorer.predictor.seen(np.zeros((80, 100, 3), np.uint8))
        >>> outcome = scorer.submit(Path("1.png"), seen).result()
        >>> outcome.heat.shape, outcome.scored.decision
        ((64, 64), '')
        >>> scorer.close()
    """

    def __init__(
        self,
        predictor: Predictor,
        batch_size: int = 32,
        waiting: int = 64,
        counters: Counters | None = None,
    ) -> None:
        check_number("batch_size", batch_size, at_least=1, integer=True)
        check_number("waiting", waiting, at_least=1, integer=True)
        self.predictor = predictor
        self.batch_size = 1 if isinstance(predictor.detector.frame, Tiles) else batch_size
        self.counters = counters or Counters()
        self._queue: Queue[Waiting | None] = Queue(waiting)
        self._stopped = False
        self._thread = Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    def submit(self, path: Path, seen: Seen, patient: bool = False) -> Future[Outcome]:
        """Let an image be scored.

        Args:
            path: its name, for the outcome.
            seen: the image in the frame of the detector.
            patient: whether to wait for a free place in the queue.

        Raises:
            BusyError: there is no free place.
            StoppedError: after `close`.
        """
        if self._stopped:
            raise StoppedError
        one = Waiting(path, seen, Future())
        try:
            self._queue.put(one, block=patient)
        except Full:
            raise BusyError from None
        self.counters.waiting.set(self._queue.qsize())
        return one.outcome

    @property
    def works(self) -> bool:
        """Whether its thread is alive."""
        return self._thread.is_alive()

    @property
    def length(self) -> int:
        """The number of images that wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Score what waits, then end."""
        self._stopped = True
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        last = False
        while not last:
            batch = [self._queue.get()]
            while len(batch) < self.batch_size and batch[-1] is not None:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            last = batch[-1] is None
            self.counters.waiting.set(self._queue.qsize())
            # Whoever has gone away needs no outcome; the others can no longer cancel theirs.
            images = [each for each in batch if each is not None]
            self._answer([each for each in images if each.outcome.set_running_or_notify_cancel()])

    def _answer(self, batch: list[Waiting]) -> None:
        """Give every image its outcome, or the error of this image alone."""
        if not batch:
            return
        try:
            outcomes = self._scored(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].outcome.set_exception(error)
                return
            for each in batch:
                self._answer([each])
            return
        for each, outcome in zip(batch, outcomes, strict=True):
            self.counters.count(outcome.scored.decision)
            each.outcome.set_result(outcome)

    def _scored(self, batch: list[Waiting]) -> list[Outcome]:
        """The outcomes of a batch."""
        with self.counters.batch(len(batch)):
            pixels = np.stack([each.seen.pixels for each in batch])
            sizes = [each.seen.size for each in batch]
            scores, maps = self.predictor.score_pixels(pixels, sizes)
        found = judged(self.predictor, [each.path for each in batch], scores)
        heats = [None] * len(found) if maps is None else list(maps.float().cpu().numpy())
        return [Outcome(*each) for each in zip(found, heats, strict=True)]
