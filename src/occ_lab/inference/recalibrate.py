"""A new threshold for a detector whose model stays unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from occ_lab.engine.calibrate import CALIBRATION, write_calibration
from occ_lab.inference.predict import UNUSABLE, decide_at, readings
from occ_lab.inference.predictor import Predictor
from occ_lab.metrics.calibration import RATE, Calibration, smallest_rate
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import write_whole


@dataclass(frozen=True)
class Recalibrated:
    """The result of `recalibrate`.

    Attributes:
        predictor: the predictor with the new calibration.
        earlier: the previous calibration; None if there was none.
        kept: the file that it was moved to; None likewise.
        failed: the files that could not be read or judged, with the reasons.
    """

    predictor: Predictor
    earlier: Calibration | None
    kept: Path | None
    failed: dict[Path, str]


def recalibrate(
    predictor: Predictor,
    paths: Sequence[Path],
    folder: Path,
    *,
    overkill: float | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Recalibrated:
    """Calibrate a detector on normal images that it was not trained on, such as those of a new lot.

    The model does not change. The scores of these images replace those in ``calibration.json``; the
    earlier scores are kept in ``calibration-1.json``, ``calibration-2.json``, …

    Args:
        predictor: see `occ_lab.load`.
        paths: image files, all of them normal, see `occ_lab.inference.predict.image_paths`.
        folder: the folder of the task in the run directory.
        overkill: the false-positive rate for decisions, above 0 and at most 0.5. None keeps that of
            the predictor; if that was only the smallest rate that the earlier images could
            guarantee, None means 1 %. If there are too few images for it, the smallest rate that
            they can guarantee is used.
        batch_size: the number of images that pass through the network at once.
        workers: the number of threads that read images; 0 uses torch's number of threads.

    Raises:
        ValueError: a number is out of range.
        InputError: no image could be scored, or too few for the rate; nothing is changed then.
    """
    check_number("batch_size", batch_size, at_least=1, integer=True)
    check_number("workers", workers, at_least=0, integer=True)
    scores, peaks = [], []
    failed: dict[Path, str] = {}
    for batch in readings(predictor.seen, paths, batch_size, workers):
        failed.update(batch.failed)
        if not batch.sources:
            continue
        found, maps = predictor.score_pixels(batch.pixels, batch.sizes)
        usable = found.isfinite()
        failed.update(
            {path: UNUSABLE for path, ok in zip(batch.sources, usable, strict=True) if not ok}
        )
        scores.append(found[usable])
        peaks.append(scores[-1] if maps is None else maps[usable].flatten(1).amax(dim=1))
    if not sum(map(len, scores)):
        raise InputError(f"input: none of {len(paths)} images could be scored")
    earlier, rate = predictor.calibration, predictor.overkill
    if earlier is None or rate is None or rate == smallest_rate(len(earlier.scores)):
        rate = RATE
    calibration = Calibration.of(torch.cat(scores), torch.cat(peaks))
    after = Predictor(predictor.detector, predictor.task, calibration, rate)
    decide_at(after, overkill)
    assert after.overkill is not None
    present, kept = folder / CALIBRATION, None
    if present.is_file():
        numbered = (present.with_name(f"{present.stem}-{n}.json") for n in count(1))
        kept = next(path for path in numbered if not path.exists())
        write_whole(kept, present.read_text(encoding="utf-8"))
    write_calibration(present, calibration, after.overkill)
    return Recalibrated(after, earlier, kept, failed)
