"""Scores of new images, as a table and as pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from lightning import Fabric
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from occ_lab.config.composition import check_value
from occ_lab.data.base import IMAGE_SUFFIXES
from occ_lab.features.extraction import one_ahead
from occ_lab.inference.predictor import TrainedDetector, load
from occ_lab.metrics.calibration import fewest
from occ_lab.reporting.pictures import strip
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_file

COLUMNS = ("path", "score", "p_value", "anomalous")
TABLE = "predictions.csv"


T = TypeVar("T")


@dataclass(frozen=True)
class Readings(Generic[T]):
    """A batch of images, as far as they could be read.

    Attributes:
        sources: of those that could.
        pixels: uint8 ``[N, h, w, 3]``.
        failed: the others, and why.
    """

    sources: list[T]
    pixels: np.ndarray
    failed: dict[T, str]


def predict(cfg: DictConfig, directory: Path) -> dict[Path, str]:
    """Score every image that ``cfg.input`` names, and write all into ``directory``.

    Returns:
        The files that could not be read, and why.

    Raises:
        InputError: a value out of range, no such run, no images; before any work.
    """
    check_value(cfg, "batch_size", at_least=1, integer=True)
    check_value(cfg, "workers", at_least=0, integer=True)
    paths = image_paths(str(cfg.input))
    device = Fabric(**accelerator_of(cfg.device)).device
    detector = load(str(cfg.run), None if cfg.task is None else str(cfg.task), device)
    set_overkill(cfg, detector)
    failed: dict[Path, str] = {}
    scored = anomalous = 0
    with whole_file(directory / TABLE) as scratch, scratch.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        steps = math.ceil(len(paths) / cfg.batch_size)
        batches = readings(detector.pixels, paths, cfg.batch_size, cfg.workers)
        for batch in track(batches, "scoring", steps, transient=True):
            failed.update(batch.failed)
            if not batch.sources:
                continue
            scores, maps = detector.score_pixels(batch.pixels)
            rows = judgements(detector, scores)
            writer.writerows([path, *row] for path, row in zip(batch.sources, rows, strict=True))
            scored += len(rows)
            anomalous += sum(row[-1] == 1 for row in rows)
            if maps is not None:
                save_pictures(cfg, directory, batch, maps, scores, detector.pixel_threshold)
    console = Console(highlight=False)
    told = f"{scored} of {len(paths)} images scored"
    if detector.overkill is not None:
        told += f", {anomalous} anomalous at {100 * detector.overkill:g} % overkill"
    console.print(f"{told}: {directory / TABLE}", soft_wrap=True)
    for path, reason in failed.items():
        console.print(f"not read: {path}: {reason}", soft_wrap=True, markup=False)
    return failed


def image_paths(given: str) -> list[Path]:
    """The image files that a path or pattern names, sorted; folders are searched to the bottom.

    Raises:
        InputError: there are none.
    """
    place = Path(given).expanduser()
    if place.is_file():
        return [place]
    found = place.rglob("*") if place.is_dir() else matching(place)
    paths = sorted(
        path
        for path in found
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    )
    if not paths:
        raise InputError(
            f"input: no images in {place.absolute()}; name a file, a folder or a pattern. Images "
            f"end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return paths


def matching(pattern: Path) -> Iterator[Path]:
    """The files that a pattern such as ``parts/**/*.png`` names."""
    return Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))


def accelerator_of(device: str) -> dict[str, Any]:
    """``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, as Lightning says it."""
    kind, _, number = str(device).partition(":")
    return {"accelerator": kind, "devices": [int(number)] if number.isdigit() else 1}


def set_overkill(cfg: DictConfig, detector: TrainedDetector) -> None:
    """Let the detector decide at the rate of false alarms that is asked for.

    Raises:
        InputError: a decision or mask is asked for that the run cannot give.
    """
    calibration = detector.calibration
    if calibration is None:
        asked = [key for key in ("overkill", "masks") if cfg.get(key)]
        if asked:
            raise InputError(
                f"{asked[0]}: {cfg.run} was not calibrated; train it with calibration.share=0.1"
            )
        return
    if cfg.overkill is not None:
        check_value(cfg, "overkill", above=0, at_most=0.5)
        detector.overkill = float(cfg.overkill)
    overkill = detector.overkill
    assert overkill is not None
    if len(calibration.scores) < fewest(overkill):
        raise InputError(
            f"overkill: {overkill:g} needs at least {fewest(overkill)} calibration images, "
            f"{cfg.run} has {len(calibration.scores)}; take a higher rate"
        )


def readings(
    read: Callable[[T], np.ndarray], sources: Sequence[T], batch_size: int, workers: int
) -> Iterator[Readings[T]]:
    """Images in order, a batch at a time, the next one read while one is scored.

    Args:
        read: gives the pixels of a source, uint8 ``[h, w, 3]``, all of one size.
        sources: such as paths.
        batch_size: images in a batch.
        workers: threads that read; 0 is as many as torch computes with.
    """
    with ThreadPoolExecutor(workers or torch.get_num_threads()) as pool:
        batches = (
            [(source, pool.submit(read, source)) for source in sources[at : at + batch_size]]
            for at in range(0, len(sources), batch_size)
        )
        for batch in one_ahead(batches):
            pixels: dict[T, np.ndarray] = {}
            failed: dict[T, str] = {}
            for source, reading in batch:
                try:
                    pixels[source] = reading.result()
                except (OSError, ValueError, SyntaxError) as error:  # Pillow's, of damaged files
                    failed[source] = str(error).splitlines()[0]
            yield Readings(list(pixels), np.array(list(pixels.values())), failed)


def judgements(detector: TrainedDetector, scores: Tensor) -> list[list[float | int | str]]:
    """Score, p-value and decision of each image; the latter two empty without calibration."""
    told = [f"{score:.7g}" for score in scores.tolist()]
    p_values, anomalous = detector.judge(scores)
    if p_values is None or anomalous is None:
        return [[score, "", ""] for score in told]
    judged = zip(told, p_values.tolist(), anomalous.int().tolist(), strict=True)
    return [[score, f"{p:.6g}", decision] for score, p, decision in judged]


def save_pictures(
    cfg: DictConfig,
    directory: Path,
    batch: Readings[Path],
    maps: Tensor,
    scores: Tensor,
    threshold: float | None,
) -> None:
    """Save the pictures that are asked for, pixels above ``threshold`` marked, by their paths."""
    for path, pixels, heat, score in zip(
        batch.sources, batch.pixels, maps.numpy(), scores.tolist(), strict=True
    ):
        name = "_".join(path.absolute().parts[-3:]).rsplit(".", 1)[0] + ".png"
        if cfg.heatmaps:
            # In one scale for all images where there is one: 1 is twice the pixel threshold.
            top = heat.max() if threshold is None else 2 * threshold
            shown = np.clip(heat / max(top, np.finfo(np.float32).tiny), 0, 1)
            marked = None if threshold is None else heat > threshold
            picture = strip(pixels, marked, shown, f"{path.name}   score {score:.4g}")
            save(picture, directory / "heatmaps" / name)
        if cfg.masks and threshold is not None:
            mask = Image.fromarray(((heat > threshold) * 255).astype(np.uint8))
            save(mask, directory / "masks" / name)


def save(picture: Image.Image, path: Path) -> None:
    """Save a picture, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)
