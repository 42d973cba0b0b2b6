"""Scoring new images, with the results as a table and pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from occ_lab.data.absent import no_images
from occ_lab.data.files import (
    Found,
    files_below,
    matching_images,
    skipped_line,
)
from occ_lab.data.pixel_batches import one_ahead
from occ_lab.data.tiling import Tiles
from occ_lab.data.transforms import Seen
from occ_lab.inference.pictures import picture_names, save_heatmap, save_mask
from occ_lab.inference.predictor import Predictor
from occ_lab.inference.submission import submission_to
from occ_lab.metrics.calibration import fewest, rounded_up, smallest_rate
from occ_lab.metrics.drift import Drift, drift
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging
from occ_lab.reporting.record import cell, to_csv
from occ_lab.utils.errors import InputError, MissingError, check_number
from occ_lab.utils.files import write_whole
from occ_lab.utils.progress import track

log = logging.getLogger(__name__)

COLUMNS = ("path", "score", "p_value", "anomalous", "decision")
UNUSABLE = "its score is not a finite number"

Sort = Literal["path", "score"]
TABLE = "predictions.csv"

T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """An image with its score.

    Attributes:
        path: the file.
        score: larger is more anomalous; not finite if the detector cannot judge the image.
        p_value: see `Calibration`; None without calibration, NaN if the score is not finite.
        anomalous: the decision; None without calibration.
    """

    path: Path
    score: float
    p_value: float | None
    anomalous: bool | None

    @property
    def decision(self) -> str:
        """``accept`` or ``reject``; ``error`` if the score is not finite; empty if undecided."""
        if not math.isfinite(self.score):
            return "error"
        if self.anomalous is None:
            return ""
        return "reject" if self.anomalous else "accept"

    def named(self, path: Path) -> Scored:
        """The same under another name."""
        return replace(self, path=path)

    def row(self) -> dict[str, Any]:
        """Its row of the table."""
        judged = self.p_value is not None and math.isfinite(self.score)
        return {
            "path": cell(self.path),
            "score": f"{self.score:.7g}",
            "p_value": f"{self.p_value:.6g}" if judged else "",
            "anomalous": int(bool(self.anomalous)) if judged else "",
            "decision": self.decision,
        }


@dataclass(frozen=True)
class Predicted:
    """The result of `predict`.

    Attributes:
        table: the file with the scores.
        images: the images that could be read, in the order of the table.
        failed: the files that could not be read or judged, with the reasons.
        drift: whether the scores resemble those of the calibration; None without calibration.
        page: the gallery; None if it was not requested.
    """

    table: Path
    images: list[Scored]
    failed: dict[Path, str]
    drift: Drift | None = None
    page: Path | None = None

    @property
    def judged(self) -> list[Scored]:
        """The images with a finite score, in the order in which they were scored."""
        return [each for each in self.images if math.isfinite(each.score)]

    @property
    def scored(self) -> int:
        """The number of images with a finite score."""
        return len(self.judged)

    @property
    def anomalous(self) -> int | None:
        """The number of these that are classified as anomalous; None without calibration."""
        return None if self.drift is None else len(self.rejects)

    @property
    def rejects(self) -> list[Scored]:
        """The images that are classified as anomalous, the worst first."""
        return worst_first([each for each in self.judged if each.anomalous])


@dataclass(frozen=True)
class Readings(Generic[T]):
    """A batch of images, without those that could not be read.

    Attributes:
        sources: the images that could be read.
        pixels: their preprocessed pixels, uint8 ``[N, h, w, 3]``.
        sizes: their height and width before preprocessing.
        failed: the other images, with the reasons.
    """

    sources: list[T]
    pixels: np.ndarray
    sizes: list[tuple[int, int]]
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
    gallery: bool = True,
    submission: str | Path | None = None,
    sort: Sort = "path",
    window: int = 50,
    alarm: float = 0.01,
) -> Predicted:
    """Score image files and write the results into a directory.

    Args:
        predictor: see `occ_lab.load`.
        paths: image files, see `image_paths`.
        directory: the results are written there: the pictures, and ``predictions.csv`` with the
            path, score, p-value and decision of each image (p-value and decision are empty without
            calibration).
        batch_size: the number of images that pass through the network at once.
        workers: the number of threads that read images; 0 uses torch's number of threads.
        heatmaps: whether to save pictures of image, anomaly map and overlay in ``heatmaps/``, each
            at the size of the image.
        masks: whether to save the pixels above the calibrated threshold in ``masks/``, likewise.
        gallery: whether to write ``index.html``, a page that shows all images with their maps, and
            on which the threshold can be moved and wrong decisions marked.
        submission: a folder for the maps and masks that MVTec's server evaluates, see
            `occ_lab.inference.submission.Submission`; None writes none. Several categories may
            share it.
        sort: the order of the table: by ``path``, or by ``score``, the worst first.
        window: the number of consecutive images that are tested for drift together, see `drift`.
        alarm: the false-alarm rate of these tests; 0 turns them off.

    Raises:
        ValueError: a number is out of range.
        InputError: masks are requested without calibration, or a submission of other images than
            the private test images of MVTec AD 2, without calibration or without maps.

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
    check_number("window", window, at_least=2, integer=True)
    check_number("alarm", alarm, at_least=0, at_most=0.5)
    if sort not in get_args(Sort):
        raise ValueError(f"sort must be one of {', '.join(get_args(Sort))}, got {sort!r}")
    sent = None
    if submission is not None:
        folder, threshold = Path(submission).expanduser(), predictor.pixel_threshold
        sent = submission_to(folder, paths, predictor.task, threshold)
    table = Path(directory) / TABLE
    names = picture_names(paths) if heatmaps or masks else {}
    album = gallery_of(predictor, Path(directory), Path(directory).name) if gallery else None
    failed: dict[Path, str] = {}
    images: list[Scored] = []
    if isinstance(predictor.detector.frame, Tiles):
        batch_size = 1  # the tiles of a single image form batches
    steps = math.ceil(len(paths) / batch_size)
    batches = readings(predictor.seen, paths, batch_size, workers)
    for batch in track(batches, "scoring", steps):
        failed.update(batch.failed)
        if not batch.sources:
            continue
        scores, maps = predictor.score_pixels(batch.pixels, batch.sizes)
        some = judged(predictor, batch.sources, scores)
        images += some
        failed.update({each.path: UNUSABLE for each in some if not math.isfinite(each.score)})
        if album is not None:
            for index, each in enumerate(some):
                seen = Seen(batch.pixels[index], batch.sizes[index])
                heat = None if maps is None else maps[index].numpy()
                entry = Entry(each.path, each.score, task=predictor.task)
                album.show(entry, predictor.detector.frame, seen, heat)
        if maps is None and sent is not None:
            raise InputError("submission: this detector scores whole images, so it has no maps")
        if maps is None or not (names or sent):
            continue
        threshold, range = predictor.pixel_threshold, predictor.detector.frame.range
        for each, heat in zip(some, full_maps(predictor, batch, maps), strict=True):
            if sent is not None:
                try:
                    sent.save(each.path, heat)
                except OSError as error:  # an incomplete submission must not look complete
                    failed[each.path] = f"no map of it in the submission ({error})"
            if not names:
                continue
            name = names[each.path]
            try:
                if heatmaps:
                    target = table.parent / "heatmaps" / name
                    save_heatmap(target, each.path, heat, each.score, threshold, range)
                if masks and threshold is not None:
                    save_mask(table.parent / "masks" / name, heat > threshold)
            except OSError as error:  # the disk may be full, or the image may be gone
                log.warning("no picture of %s: %s", each.path, error)
    in_order = worst_first(images) if sort == "score" else images
    write_whole(table, to_csv([each.row() for each in in_order], COLUMNS))
    found = Predicted(table, images, failed, page=None if album is None else album.write())
    if predictor.calibration is None:
        return found
    ours, known = [each.score for each in found.judged], predictor.calibration.scores.numpy()
    return replace(found, drift=drift(np.array(ours), known, window, alarm))


def gallery_of(
    predictor: Predictor, directory: Path, title: str, kept: Collection[str] = ()
) -> Gallery:
    """A gallery of images that a predictor scores.

    Args:
        predictor: scores them.
        directory: where it goes.
        title: of its page.
        kept: paths of images of a gallery that is there already, which stay.
    """
    judging = {predictor.task: Judging.of(predictor.calibration, predictor.overkill)}
    return Gallery(directory, title, judging, predictor.detector.frame.range, kept)


def image_paths(given: str | Path) -> list[Path]:
    """The image files that a path or pattern matches, sorted; subfolders are searched too.

    Args:
        given: a file, a folder, or a pattern such as ``parts/**/*.png``.

    Raises:
        MissingError: there are no such images.
    """
    named = Path(given).expanduser()
    if named.is_file():
        return [named]
    found = files_below(named) if named.is_dir() else Found(matching_images(named), [])
    if found.skipped:
        log.warning(skipped_line(found.skipped))
    if not found.images:
        raise MissingError(
            f"input: {no_images(named, found.skipped)}; name a file, a folder or a pattern such as "
            "'parts/*.png'"
        )
    return sorted(found.images)


def decide_at(predictor: Predictor, overkill: float | None) -> None:
    """Set the false-positive rate of a predictor, and check that its calibration allows it.

    Args:
        predictor: the predictor; it is changed.
        overkill: the rate, above 0 and at most 0.5; None keeps that of the predictor, or uses the
            smallest possible rate if there are too few calibration images for it.

    Raises:
        ValueError: the rate is out of range.
        InputError: the predictor is not calibrated, or has too few calibration images for the rate.
    """
    images = 0 if predictor.calibration is None else len(predictor.calibration.scores)
    smallest = smallest_rate(images)
    if overkill is None:
        if images and predictor.overkill is not None:
            predictor.overkill = max(predictor.overkill, smallest)
        return
    check_number("overkill", overkill, above=0, at_most=0.5)
    if not images:
        raise not_calibrated("overkill")
    needed = fewest(overkill)
    if images < needed:
        raise InputError(
            f"overkill: {overkill:g} needs at least {needed} calibration images, the run has "
            f"{images}; {rounded_up(smallest):g} or a higher rate can be kept"
        )
    predictor.overkill = float(overkill)


def not_calibrated(wanted: str) -> InputError:
    """The error for a request that needs a threshold when the run has none."""
    return InputError(
        f"{wanted}: the run was not calibrated, so it has no threshold; calibrate it on normal "
        "images that it was not trained on, or train it again with a calibration"
    )


def readings(
    read: Callable[[T], Seen], sources: Sequence[T], batch_size: int, workers: int
) -> Iterator[Readings[T]]:
    """Images in order, in batches; the next batch is read while the current one is scored.

    Args:
        read: reads and preprocesses a source; all results have the same size.
        sources: the images, for example paths.
        batch_size: the number of images in a batch.
        workers: the number of threads that read; 0 uses torch's number of threads.
    """
    with ThreadPoolExecutor(workers or torch.get_num_threads()) as pool:
        batches = (
            [(source, pool.submit(read, source)) for source in sources[at : at + batch_size]]
            for at in range(0, len(sources), batch_size)
        )
        for batch in one_ahead(batches):
            seen: dict[T, Seen] = {}
            failed: dict[T, str] = {}
            for source, reading in batch:
                try:
                    seen[source] = reading.result()
                except (OSError, ValueError, SyntaxError, MemoryError) as error:
                    # Pillow raises the third for damaged files, and the last for huge ones.
                    failed[source] = (str(error) or type(error).__name__).splitlines()[0]
            pixels = np.array([each.pixels for each in seen.values()])
            yield Readings(list(seen), pixels, [each.size for each in seen.values()], failed)


def judged(predictor: Predictor, paths: Sequence[Path], scores: Tensor) -> list[Scored]:
    """Images with their scores ``[N]``, p-values and decisions."""
    p_values, anomalous = predictor.judge(scores)
    if p_values is None or anomalous is None:
        return [Scored(*each, None, None) for each in zip(paths, scores.tolist(), strict=True)]
    columns = (scores.tolist(), p_values.tolist(), anomalous.tolist())
    return [Scored(*each) for each in zip(paths, *columns, strict=True)]


def worst_first(images: Sequence[Scored]) -> list[Scored]:
    """Images by descending score; those whose score is not finite come first."""
    return sorted(images, key=lambda each: (math.isfinite(each.score), -each.score))


def full_maps(predictor: Predictor, batch: Readings[Path], maps: Tensor) -> Iterator[np.ndarray]:
    """The map of each image at its full size, one at a time: float32 ``[h, w]``.

    Pixels that the network does not see, because images are cropped, are NaN.
    """
    detector = predictor.detector
    for seen, size in zip(maps, batch.sizes, strict=True):
        full = np.full(size, np.nan, np.float32)
        part = detector.frame.shown(*size)
        rows = slice(part.top, part.top + part.height)
        columns = slice(part.left, part.left + part.width)
        full[rows, columns] = detector.full_map(seen, size)[rows, columns].numpy()
        yield full
