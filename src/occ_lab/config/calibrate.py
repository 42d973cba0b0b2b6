"""From the configuration of ``occ_lab.calibrate`` to the functions that do the work."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from occ_lab.config.composition import check_value
from occ_lab.config.predict import device_named, task_of, trusted
from occ_lab.inference.predict import image_paths
from occ_lab.inference.predictor import Predictor, load
from occ_lab.inference.recalibrate import Recalibrated, recalibrate
from occ_lab.inference.stored import stored_run
from occ_lab.metrics.calibration import kept_rate, smallest_rate
from occ_lab.utils.names import printable


def perform_calibrate(cfg: DictConfig) -> Recalibrated:
    """Calibrate the detector of ``cfg.run`` on the images that ``cfg.input`` names.

    Args:
        cfg: the configuration of ``occ_lab.calibrate``.

    Raises:
        UserError: a value out of range; before any work.
        InputError: no such run or task, no images, or too few for the rate; nothing has changed.
    """
    check_value(cfg, "batch_size", at_least=1, integer=True)
    check_value(cfg, "workers", at_least=0, integer=True)
    if cfg.overkill is not None:
        check_value(cfg, "overkill", above=0, at_most=0.5)
    paths = image_paths(str(cfg.input))
    stored = stored_run(Path(str(cfg.run)).expanduser(), task_of(cfg))
    device = device_named(str(cfg.device))
    predictor = load(stored.directory, stored.task, device, trusted(cfg))
    found = recalibrate(
        predictor,
        paths,
        stored.folder,
        overkill=cfg.overkill,
        batch_size=cfg.batch_size,
        workers=cfg.workers,
    )
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{stored.task}: {threshold_line(found.predictor)}")
    if found.kept is not None and found.earlier is not None:
        console.print(f"the earlier calibration is kept: {found.kept}")
    for path, reason in found.failed.items():
        console.print(printable(f"error: {path}: {reason}"))
    return found


def threshold_line(predictor: Predictor) -> str:
    """The threshold of a predictor that is calibrated, and what it stands for."""
    calibration, rate = predictor.calibration, predictor.overkill
    assert calibration is not None
    assert rate is not None
    images = len(calibration.scores)
    return (
        f"threshold {calibration.threshold(rate):.6g} from {images} images, a false-positive rate "
        f"of {100 * kept_rate(images, rate):.3g} %; the smallest that so many images can guarantee "
        f"is {100 * smallest_rate(images):.3g} %"
    )
