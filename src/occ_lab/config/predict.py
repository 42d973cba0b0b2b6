"""From the configuration of ``occ_lab.predict`` to the functions that do the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from rich.console import Console

from occ_lab.config.composition import check_value
from occ_lab.config.errors import UserError
from occ_lab.inference.predict import Predicted, decide_at, image_paths, predict
from occ_lab.inference.predictor import Predictor, load
from occ_lab.reporting.tables.predictions import drift_lines, rejects_table
from occ_lab.utils.names import printable


def perform_predict(cfg: DictConfig, directory: Path) -> Predicted:
    """Score every image that ``cfg.input`` names, write the results and print a summary.

    Args:
        cfg: the configuration of ``occ_lab.predict``.
        directory: where the results go.

    Raises:
        UserError: a value out of range; before any work.
        InputError: no such run or task, or no images; before any work.
    """
    check_value(cfg, "batch_size", at_least=1, integer=True)
    check_value(cfg, "workers", at_least=0, integer=True)
    check_value(cfg, "drift.window", at_least=2, integer=True)
    check_value(cfg, "drift.alarm", at_least=0, at_most=0.5)
    paths = image_paths(str(cfg.input))
    predictor = loaded(cfg, device_named(str(cfg.device)))
    found = predict(
        predictor,
        paths,
        directory,
        batch_size=cfg.batch_size,
        workers=cfg.workers,
        heatmaps=bool(cfg.heatmaps),
        masks=bool(cfg.masks),
        gallery=bool(cfg.gallery),
        submission=cfg.submission,
        sort=cfg.sort,
        window=cfg.drift.window,
        alarm=cfg.drift.alarm,
    )
    report(cfg, predictor, found, len(paths))
    return found


def report(cfg: DictConfig, predictor: Predictor, found: Predicted, images: int) -> None:
    """Print the rejects, what could not be scored, whether there is drift, and where all is."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    rejects = [(each.path, each.score, each.p_value or 0.0) for each in found.rejects]
    if rejects:
        console.print(rejects_table(rejects))
    summary = f"{found.scored} of {images} images scored"
    if found.anomalous is not None and predictor.overkill is not None:
        rate = f"{100 * predictor.overkill:.3g} %"
        summary += f", {found.anomalous} rejected at a false-positive rate of {rate}"
    console.print(f"{summary}: {found.table}")
    for path, reason in found.failed.items():
        console.print(printable(f"error: {path}: {reason}"))
    if found.page is not None:
        console.print(f"gallery: {found.page}")
    if cfg.submission is not None:
        console.print(f"submission: {cfg.submission}")
    again = f"occ-lab calibrate run={cfg.run} input=FOLDER"
    if predictor.calibration is None:
        console.print(
            f"no threshold: the run was not calibrated. Calibrate it on normal images: {again}"
        )
    if found.drift is not None and found.drift.spans:
        decided = [(each.path, bool(each.anomalous)) for each in found.judged]
        for line in drift_lines(found.drift, decided, cfg.drift.alarm):
            console.print(line)
        console.print(
            "Look at some of these images. If they are anomalous, nothing needs to be done. If "
            "they are normal, the camera, the light or the parts have changed: calibrate again on "
            f"normal images like them, which keeps the model: {again}"
        )


def loaded(cfg: DictConfig, device: str | torch.device = "cpu") -> Predictor:
    """The detector of ``cfg.run``, which decides at the false-positive rate ``cfg.overkill``.

    Raises:
        UserError: the rate is out of range.
        InputError: no such run or task, a class that is not trusted, or no calibration that the
            rate could be kept with.
    """
    if cfg.overkill is not None:
        check_value(cfg, "overkill", above=0, at_most=0.5)
    predictor = load(str(cfg.run), task_of(cfg), device, trusted(cfg))
    decide_at(predictor, cfg.overkill)
    return predictor


def task_of(cfg: DictConfig) -> str | None:
    """The task that is asked for, if any."""
    return None if cfg.task is None else str(cfg.task)


def trusted(cfg: DictConfig) -> Sequence[str]:
    """The packages whose classes the run may name: ``trust=mine`` or ``trust=[mine,yours]``."""
    return [cfg.trust] if isinstance(cfg.trust, str) else list(cfg.trust or [])


def device_named(name: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        UserError: there is no such device.
    """
    kind, _, number = name.partition(":")
    try:
        fabric = Fabric(accelerator=kind, devices=[int(number)] if number.isdigit() else 1)
        return fabric.device
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"device: {name} cannot be used ({error})") from error
