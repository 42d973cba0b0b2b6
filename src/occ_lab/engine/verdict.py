"""What a stream says of an image, and what its steps cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Decision = Literal["accept", "reject"]


@dataclass(frozen=True)
class Verdict:
    """The result of a stream for one image.

    Attributes:
        score: larger is more anomalous; None for the first image of an untrained detector.
        p_value: the p-value of the score, see `Reference`; None likewise.
        decision: ``accept`` or ``reject``; None while there are too few scores for the rate.
        learned: whether the detector has learned from the image.
        map: the anomaly map at the size of the image, float32 ``[h, w]``; None if there is none, or
            if it was not requested.
    """

    score: float | None
    p_value: float | None
    decision: Decision | None
    learned: bool
    map: Tensor | None = None

    @property
    def row(self) -> dict[str, Any]:
        """The columns of the image in a table."""
        return {
            "score": "" if self.score is None else f"{self.score:.7g}",
            "p_value": "" if self.p_value is None else f"{self.p_value:.6g}",
            "decision": self.decision or "",
            "learned": int(self.learned),
        }


@dataclass
class Costs:
    """The time spent on the steps of a stream.

    Attributes:
        seconds: the total time of each step.
        counts: the number of times each step was done.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add the duration of the block."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.seconds[step] = self.seconds.get(step, 0.0) + spent
        self.counts[step] = self.counts.get(step, 0) + 1

    @property
    def milliseconds(self) -> dict[str, float]:
        """The mean duration of each step."""
        return {step: 1000 * spent / self.counts[step] for step, spent in self.seconds.items()}
