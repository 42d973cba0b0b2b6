"""Images that pass through a detector one by one: each is scored, then it updates the detector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from occ_lab.detector import Detector
from occ_lab.engine.online import Online
from occ_lab.metrics.calibration import Calibration


@dataclass
class Passage:
    """The images that have passed through a detector, and what each step has cost.

    Attributes:
        online: updates the detector.
        detector: scores the images.
        refuse: images of at most this p-value do not update the detector.
        window: how many of the latest scores a p-value refers to.
        scores: these scores, each given before its image was learned from.
        rows: of the table, one for each image.
        failed: images that could not be read, and why.
        position: how many images of the stream are done.
        seconds: spent on each step.
        counts: how often each step was done.
    """

    online: Online
    detector: Detector
    refuse: float
    window: int
    scores: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    position: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @torch.no_grad()
    def take(self, pixels: np.ndarray, size: tuple[int, int] | None = None) -> dict[str, Any]:
        """Score an image, then update the detector with it.

        Args:
            pixels: the preprocessed image, uint8 ``[h, w, 3]``.
            size: its height and width before; None where all of the pixels are of the image.

        Returns:
            ``score`` and ``p_value``, empty for the first image, and ``learned``: 1, or 0 where the
            image was refused.
        """
        image = torch.from_numpy(pixels).to(self.detector.device).permute(2, 0, 1)[None]
        box = None if size is None else torch.tensor([self.detector.frame.box(*size)])
        batch = {"image": image.float() / 255, "box": box}
        with self.timed("backbone"):
            levels = self.detector.levels(batch)
        if self.online.due:
            with self.timed("re-solve"):
                self.online.solve()
        row: dict[str, Any] = {"score": "", "p_value": "", "learned": 1}
        if self.online.weight:
            with self.timed("score"):
                patches = self.detector.score_levels(levels)
                _, scores = self.detector.maps_and_scores(patches, None, box)
                score = float(scores)
            p_value = self.p_value(score)
            learned = int(p_value > self.refuse)
            row = {"score": f"{score:.7g}", "p_value": f"{p_value:.6g}", "learned": learned}
            if learned:
                self.scores = [*self.scores, score][-self.window :]
        if row["learned"]:
            with self.timed("update"):
                self.online.learn(levels, self.detector.valid(batch, levels[0]))
        return row

    def p_value(self, score: float) -> float:
        """The p-value of a score among those of the latest images that were learned from."""
        known = torch.tensor(self.scores, dtype=torch.float64)
        return float(Calibration.of(known, known).p_values(torch.tensor([score]).double()))

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long the block took."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.seconds[step] = self.seconds.get(step, 0.0) + spent
        self.counts[step] = self.counts.get(step, 0) + 1

    def figures(self) -> dict[str, Any]:
        """Numbers of images, and the mean milliseconds of each step."""
        return {
            "images": len(self.rows),
            "learned": sum(row["learned"] for row in self.rows),
            "refused": sum(1 - row["learned"] for row in self.rows),
            "re_solves": self.counts.get("re-solve", 0),
            "milliseconds": {
                step: 1000 * spent / self.counts[step] for step, spent in self.seconds.items()
            },
        }
