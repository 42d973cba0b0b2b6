"""How a stream judges and learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from occ_lab.engine.online import check_rates
from occ_lab.metrics.calibration import Calibration, fewest
from occ_lab.utils.errors import InputError, check_number


@dataclass(frozen=True)
class StreamPlan:
    """How a stream judges images, and how its detector learns from them.

    Args:
        overkill: the false-positive rate of decisions, above 0 and at most 0.5; None is that of the
            run, or 1 %.
        refuse: the detector does not learn from images with at most this p-value, in 0..0.5. None
            is ``overkill``: it does not learn from rejected images. 0 learns from all images.
        learn: whether the detector learns at all.
        half_life: see `Online`.
        window: see `Reference`.
        refresh: see `Online`.
        states: files of earlier streams to start from; several files are merged.

    Raises:
        ValueError: a value is out of range; the message begins with its name.
    """

    overkill: float | None = None
    refuse: float | None = None
    learn: bool = True
    half_life: float | None = None
    window: int = 200
    refresh: float = 0.1
    states: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        if self.overkill is not None:
            check_number("overkill", self.overkill, above=0, at_most=0.5)
        if self.refuse is not None:
            check_number("refuse", self.refuse, at_least=0, at_most=0.5)
        check_number("window", self.window, at_least=1, integer=True)
        check_rates(self.half_life, self.refresh)


def check_rate(overkill: float, window: int, calibration: Calibration | None) -> None:
    """Refuse a false-positive rate that the number of scores can never guarantee.

    Raises:
        InputError: the calibration, or without one the window, has too few scores.
    """
    needed = fewest(overkill)
    if calibration is None and window < needed:
        raise InputError(
            f"window: a false-positive rate of {overkill:g} needs at least {needed} scores, got "
            f"{window}; choose a larger window or a higher rate"
        )
    if calibration is not None and len(calibration.scores) < needed:
        raise InputError(
            f"overkill: {overkill:g} needs at least {needed} calibration images, the run has "
            f"{len(calibration.scores)}; choose a higher rate"
        )
