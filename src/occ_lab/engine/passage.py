"""Images passing a detector that learns: what is told of each, and what it costs."""

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
    """Images going through a detector that learns.

    Attributes:
        online: what learns.
        detector: what scores.
        refuse: images of a p-value this small are not learned from.
        window: how many scores a score is held against.
        scores: these, of the images learned from last.
        rows: what is told of each image.
        failed: images that could not be read, and why.
        position: how many images were gone through.
        seconds: spent on each part.
        counts: how often each part was done.
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
    def take(self, pixels: np.ndarray) -> dict[str, Any]:
        """Score an image, uint8 ``[h, w, 3]``, then learn from it.

        Returns:
            ``score`` and ``p_value``, empty as long as nothing was learned, and ``learned``, 1 or 0
            where it was refused.
        """
        image = torch.from_numpy(pixels).to(self.detector.device).permute(2, 0, 1)[None]
        with self.timed("backbone"):
            levels = self.detector.backbone(image.float() / 255)
        if self.online.due:
            with self.timed("re-solve"):
                self.online.solve()
        told: dict[str, Any] = {"score": "", "p_value": "", "learned": 1}
        if self.online.weight:
            with self.timed("score"):
                _, scores = self.detector.maps_and_scores(self.detector.score(levels))
                score = float(scores)
            p_value = self.p_value(score)
            learned = int(p_value > self.refuse)
            told = {"score": f"{score:.7g}", "p_value": f"{p_value:.6g}", "learned": learned}
            if learned:
                self.scores = [*self.scores, score][-self.window :]
        if told["learned"]:
            with self.timed("update"):
                self.online.learn(levels)
        return told

    def p_value(self, score: float) -> float:
        """Of a score, among those of the images learned from last, each given before it was."""
        known = torch.tensor(self.scores, dtype=torch.float64)
        return float(Calibration.of(known, known).p_values(torch.tensor([score]).double()))

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note how long the block took."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.seconds[part] = self.seconds.get(part, 0.0) + spent
        self.counts[part] = self.counts.get(part, 0) + 1

    def figures(self) -> dict[str, Any]:
        """Counts of images, and milliseconds of each part whenever it was done."""
        return {
            "images": len(self.rows),
            "learned": sum(row["learned"] for row in self.rows),
            "refused": sum(1 - row["learned"] for row in self.rows),
            "re_solves": self.counts.get("re-solve", 0),
            "milliseconds": {
                part: 1000 * spent / self.counts[part] for part, spent in self.seconds.items()
            },
        }
