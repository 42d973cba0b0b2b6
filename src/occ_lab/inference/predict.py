"""Scores of new images, as a table and as pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from occ_lab.data.base import IMAGE_SUFFIXES
from occ_lab.features.extraction import one_ahead
from occ_lab.inference.predictor import Predictor
from occ_lab.metrics.calibration import fewest
from occ_lab.reporting.pictures import strip
from occ_lab.utils.errors import InputError, MissingError, check_number
from occ_lab.utils.files import whole_file

COLUMNS = ("path", "score", "p_value", "anomalous")
TABLE = "predictions.csv"

T = TypeVar("T")


@dataclass(frozen=True)
class Predicted:
    """What `predict` returns.

    Attributes:
        table: the file with the scores.
        scored: how many images were scored.
        anomalous: how many of these are called anomalous; None without calibration.
        failed: the files that could not be read, and why.
    """

    table: Path
    scored: int
    anomalous: int | None
    failed: dict[Path, str]


@dataclass(frozen=True)
class Readings(Generic[T]):
    """A batch of images, as far as they could be read.

    Attributes:
        sources: those that could be read.
        pixels: their pixels, uint8 ``[N, h, w, 3]``.
        failed: the others, and why.
    """

    sources: list[T]
    pixels: np.ndarray
    failed: dict[T, str]


def predict(
    predictor: Predictor,
    paths: Sequence[Path],
    directory: str | Path,
    *,
    batch_size: int = 32,
    workers: int = 0,
    heatmaps: bool = False,
    masks: bool = False,
) -> Predicted:
    """Score image files and write the results into a directory.

    Args:
        predictor: see `occ_lab.load`.
        paths: image files, see `image_paths`.
        directory: ``predictions.csv`` goes there, with path, score, p-value and decision of each
            image (the latter two are empty without calibration), and the pictures.
        batch_size: images that go through the network at once.
        workers: threads that read images; 0 is as many as torch computes with.
        heatmaps: whether to save pictures of image, anomaly map and overlay in ``heatmaps/``.
        masks: whether to save the pixels above the calibrated threshold in ``masks/``.

    Raises:
        ValueError: a number out of range.
        InputError: masks are asked for without calibration.

    Example:
        >>> import occ_lab
        >>> from occ_lab.inference.predict import image_paths, predict
        >>> predictor = occ_lab.load("outputs/grass")  # doctest: +SKIP
        >>> predict(predictor, image_paths("parts"), "outputs/parts").scored  # doctest: +SKIP
        12
    """
    check_number("batch_size", batch_size, at_least=1, integer=True)
    check_number("workers", workers, at_least=0, integer=True)
    if masks and predictor.calibration is None:
        raise not_calibrated("masks")
    table = Path(directory) / TABLE
    failed: dict[Path, str] = {}
    scored = anomalous = 0
    with whole_file(table) as scratch, scratch.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        steps = math.ceil(len(paths) / batch_size)
        batches = readings(predictor.pixels, paths, batch_size, workers)
        for batch in track(batches, "scoring", steps, transient=True):
            failed.update(batch.failed)
            if not batch.sources:
                continue
            scores, maps = predictor.score_pixels(batch.pixels)
            rows = judgements(predictor, scores)
            writer.writerows([path, *row] for path, row in zip(batch.sources, rows, strict=True))
            scored += len(rows)
            anomalous += sum(row[-1] == 1 for row in rows)
            if maps is not None:
                threshold = predictor.pixel_threshold
                if heatmaps:
                    save_heatmaps(table.parent / "heatmaps", batch, maps, scores, threshold)
                if masks and threshold is not None:
                    save_masks(table.parent / "masks", batch, maps > threshold)
    return Predicted(table, scored, None if predictor.overkill is None else anomalous, failed)


def image_paths(given: str | Path) -> list[Path]:
    """The image files that a path or pattern names, sorted; folders are searched to the bottom.

    Args:
        given: a file, a folder, or a pattern such as ``parts/**/*.png``.

    Raises:
        MissingError: there are none.
    """
    named = Path(given).expanduser()
    if named.is_file():
        return [named]
    found = named.rglob("*") if named.is_dir() else matching(named)
    paths = sorted(
        path
        for path in found
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    )
    if not paths:
        raise MissingError(
            f"input: no images in {named.absolute()}; name a file, a folder or a pattern. Images "
            f"end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return paths


def matching(pattern: Path) -> Iterator[Path]:
    """The files that a pattern such as ``parts/**/*.png`` names."""
    return Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))


def decide_at(predictor: Predictor, overkill: float | None) -> None:
    """Let a predictor decide at a false-positive rate, and check that its calibration allows it.

    Args:
        predictor: is changed.
        overkill: the rate, above 0 and at most 0.5; None keeps that of the predictor.

    Raises:
        ValueError: the rate is out of range.
        InputError: the predictor is not calibrated, or on too few images for the rate.
    """
    if overkill is not None:
        check_number("overkill", overkill, above=0, at_most=0.5)
        if predictor.calibration is None:
            raise not_calibrated("overkill")
        predictor.overkill = float(overkill)
    if predictor.calibration is None or predictor.overkill is None:
        return
    needed, there = fewest(predictor.overkill), len(predictor.calibration.scores)
    if there < needed:
        raise InputError(
            f"overkill: {predictor.overkill:g} needs at least {needed} calibration images, the run "
            f"has {there}; choose a higher rate"
        )


def not_calibrated(wanted: str) -> InputError:
    """The error where something needs a threshold that the run does not have."""
    return InputError(
        f"{wanted}: the run was not calibrated, so it has no threshold; train it again with a "
        "calibration, such as on a held-out fraction of 0.1 of the training images"
    )


def readings(
    read: Callable[[T], np.ndarray], sources: Sequence[T], batch_size: int, workers: int
) -> Iterator[Readings[T]]:
    """Images in order, a batch at a time; the next batch is read while one is scored.

    Args:
        read: returns the pixels of a source, uint8 ``[h, w, 3]``, all of one size.
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


def judgements(predictor: Predictor, scores: Tensor) -> list[list[float | int | str]]:
    """Score, p-value and decision of each image; the latter two are empty without calibration."""
    written = [f"{score:.7g}" for score in scores.tolist()]
    p_values, anomalous = predictor.judge(scores)
    if p_values is None or anomalous is None:
        return [[score, "", ""] for score in written]
    judged = zip(written, p_values.tolist(), anomalous.int().tolist(), strict=True)
    return [[score, f"{p:.6g}", decision] for score, p, decision in judged]


def save_heatmaps(
    folder: Path, batch: Readings[Path], maps: Tensor, scores: Tensor, threshold: float | None
) -> None:
    """Save a picture of each image with its map; pixels above the threshold are outlined.

    Args:
        folder: where they go.
        batch: N images.
        maps: anomaly maps ``[N, h, w]``.
        scores: image scores ``[N]``.
        threshold: of pixels; with one, all maps have one scale: 1 is twice the threshold.
    """
    for path, pixels, heat, score in zip(
        batch.sources, batch.pixels, maps.numpy(), scores.tolist(), strict=True
    ):
        top = heat.max() if threshold is None else 2 * threshold
        shown = np.clip(heat / max(top, np.finfo(np.float32).tiny), 0, 1)
        marked = None if threshold is None else heat > threshold
        picture = strip(pixels, marked, shown, f"{path.name}   score {score:.4g}")
        save(picture, folder / picture_name(path))


def save_masks(folder: Path, batch: Readings[Path], masks: Tensor) -> None:
    """Save the masks, bool ``[N, h, w]``, of N images as black and white pictures."""
    for path, mask in zip(batch.sources, masks.numpy(), strict=True):
        save(Image.fromarray((mask * 255).astype(np.uint8)), folder / picture_name(path))


def picture_name(path: Path) -> str:
    """The name of an image and of its two innermost folders, as one file name."""
    return "_".join(path.absolute().parts[-3:]).rsplit(".", 1)[0] + ".png"


def save(picture: Image.Image, path: Path) -> None:
    """Save a picture and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)
