"""Learn what an inspector has said of a detector's decisions, and forget what was wrong."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from occ_lab.data.transforms import Seen
from occ_lab.engine.calibrate import CALIBRATION, FOLDS, write_calibration
from occ_lab.engine.job import plain_trainer
from occ_lab.engine.learned import TABLE as TRAINING
from occ_lab.engine.learned import learned_images, write_table
from occ_lab.engine.live import MOMENTS, Stream, write_moments
from occ_lab.engine.online import Online, Parts, why_frozen
from occ_lab.inference.predict import image_paths
from occ_lab.inference.stored import CHECKPOINT, Stored
from occ_lab.metrics.calibration import RATE, Calibration, smallest_rate
from occ_lab.reporting.record import cell, to_csv
from occ_lab.utils.errors import ImageError, InputError, MissingError
from occ_lab.utils.files import whole_folder, write_whole
from occ_lab.utils.progress import track

FALSE_ALARM, MISSED, GOOD, DEFECT = "false alarm", "missed", "good", "defect"
VERDICTS = (FALSE_ALARM, MISSED, GOOD, DEFECT)
TABLE = "corrections.csv"  # in the run directory


@dataclass(frozen=True)
class Marked:
    """An image that somebody has judged.

    Attributes:
        path: the file.
        verdict: ``false alarm``, ``missed``, ``good`` or ``defect``.
    """

    path: Path
    verdict: str

    @property
    def good(self) -> bool:
        """Whether the part is good."""
        return self.verdict in (FALSE_ALARM, GOOD)


@dataclass(frozen=True)
class Scoring:
    """What a detector says of the images that were judged.

    Attributes:
        scores: by path.
        calibration: the scores of normal images it has not learned from; None without any.
        rate: the false-positive rate of its decisions.
    """

    scores: dict[Path, float]
    calibration: Calibration | None
    rate: float

    @property
    def threshold(self) -> float:
        """An image that scores higher is rejected; infinite without calibration."""
        return math.inf if self.calibration is None else self.calibration.threshold(self.rate)

    def rejected(self, images: Sequence[Marked]) -> int:
        """How many of some images are rejected."""
        return sum(self.scores[each.path] > self.threshold for each in images)


@dataclass(frozen=True)
class Corrected:
    """What `correct` returns.

    Attributes:
        directory: the new run directory.
        marked: the images that were judged.
        learned: those that were learned.
        forgotten: those that were forgotten.
        before: scores and calibration of the run.
        after: those of the new one.
    """

    directory: Path
    marked: list[Marked]
    learned: list[Path]
    forgotten: list[Path]
    before: Scoring
    after: Scoring


def read_verdicts(path: Path) -> list[Marked]:
    """The verdicts in a file that the gallery has saved.

    Args:
        path: a table with the columns ``path`` and ``verdict``.

    Raises:
        InputError: there is no such file, it is no such table, or it names a verdict that does not
            exist.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        found = [Marked(Path(row["path"]), row["verdict"].strip()) for row in rows]
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist", part="verdicts") from error
    except (OSError, csv.Error, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is no table of verdicts; save one from the page of a run, or write a CSV file "
            "with the columns path and verdict",
            part="verdicts",
        ) from error
    for each in found:
        if each.verdict not in VERDICTS:
            raise InputError(
                f"{path}: the verdict on {each.path} must be one of {', '.join(VERDICTS)}, got "
                f"{each.verdict!r}",
                part="verdicts",
            )
    if not found:
        raise InputError(f"{path} holds no verdict", part="verdicts")
    return list({each.path: each for each in found}.values())  # the last one on an image counts


def correct(
    stored: Stored,
    verdicts: Path,
    directory: Path,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
    calibration: str | None = None,
) -> Corrected:
    """Write a new run whose detector has learned the false alarms of a run.

    It has forgotten the images that it had learned although they are defective: those that are
    marked as missed. The threshold comes from all normal images that it knows by then, each scored
    by a detector that has not learned it, which takes subtracting and adding its moments.

    Args:
        stored: the task of a run.
        verdicts: see `read_verdicts`.
        directory: the new run directory, which must not exist.
        device: where it computes.
        trust: packages whose classes the run may name.
        calibration: normal images that the detector has not learned from, see `image_paths`; None
            takes those of the run.

    Raises:
        InputError: the detector cannot learn image by image, or its moments were not kept; there is
            nothing to correct; or an image is missing that is needed.
    """
    if directory.exists():
        raise InputError(f"{directory} exists already; name another directory")
    marked = read_verdicts(verdicts)
    stream = Stream.load(stored.directory, stored.task, device, trust=trust)
    online = learning(stream, stored)
    known = learned_images(stored.directory, stored.task)
    present = {resolved(path) for path in known["train"]}
    learned = [
        each.path
        for each in marked
        if each.verdict == FALSE_ALARM and resolved(each.path) not in present
    ]
    forgotten = [each.path for each in marked if not each.good and resolved(each.path) in present]
    if not learned and not forgotten:
        raise InputError(
            f"{verdicts} holds nothing to correct: no false alarm that is new, and no defect that "
            "the detector has learned",
            part="verdicts",
        )
    seen = {each.path: read(stream, each.path) for each in marked}
    rounded = features_were_rounded(stored)
    earlier, rate = stored.calibration()
    before = Scoring(scored(stream, seen), earlier, rate)
    online.add(online.summed(features(stream, seen[path], rounded) for path in learned), 1)
    online.add(online.summed(features(stream, seen[path], rounded) for path in forgotten), -1)
    gone = {resolved(path) for path in forgotten}
    train = [path for path in known["train"] if resolved(path) not in gone] + learned
    aside = known["calibration"] if calibration is None else image_paths(calibration)
    if aside:
        online.solve()
        found = calibrated(stream, aside)
    else:
        found = cross_fitted(stream, online, train, rounded)
    online.solve()
    least = smallest_rate(len(found.scores))
    wanted = RATE if earlier is None or rate == smallest_rate(len(earlier.scores)) else rate
    after = Scoring(scored(stream, seen), found, max(wanted, least))
    result = Corrected(directory, marked, learned, forgotten, before, after)
    write_run(result, stored, stream, train, known["calibration"])
    return result


def learning(stream: Stream, stored: Stored) -> Online:
    """What updates the detector of a stream.

    Raises:
        InputError: there is nothing.
    """
    if stream.online is None or not stream.online.images:
        why = why_frozen(stream.detector) or "its moments were not kept; train it with moments=true"
        raise InputError(f"{stored.directory} cannot be corrected: {why}", part="run")
    return stream.online


def resolved(path: Path) -> Path:
    """A path by which two names of one file are equal."""
    return path.expanduser().absolute()


def read(stream: Stream, path: Path) -> Seen:
    """An image as the detector sees it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return stream.seen(path)
    except (ImageError, OSError, ValueError) as error:
        raise InputError(
            f"{error}; every image with a verdict, and every image that the detector has learned, "
            "must be where it was"
        ) from error


def scored(stream: Stream, seen: dict[Path, Seen]) -> dict[Path, float]:
    """The score of each image."""
    return {path: float(score_of(stream, each)[0]) for path, each in seen.items()}


@torch.no_grad()
def score_of(stream: Stream, seen: Seen) -> tuple[Tensor, Tensor | None]:
    """Score ``[1]`` and map ``[1, h, w]`` of an image."""
    maps, scores = stream.detector.scores_of(stream.batches(seen), seen.size)
    return scores, maps


def calibrated(stream: Stream, paths: Sequence[Path]) -> Calibration:
    """The calibration by normal images that the detector has not learned from."""
    scores, peaks = [], []
    for path in track(paths, "calibrating"):
        score, heat = score_of(stream, read(stream, path))
        scores.append(score.cpu())
        peaks.append(score.cpu() if heat is None else heat.amax().reshape(1).cpu())
    return Calibration.of(torch.cat(scores), torch.cat(peaks))


def cross_fitted(
    stream: Stream, online: Online, paths: Sequence[Path], rounded: bool
) -> Calibration:
    """The calibration by the images that the detector has learned from.

    They are divided into folds. Each fold is forgotten, scored, and added again.
    """
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()
    found = []
    folds = min(FOLDS, len(paths))
    for number in range(folds):
        fold = [paths[index] for index in order[number::folds]]
        shown = track(fold, f"forgetting fold {number + 1} of {folds}")
        own = online.summed(features(stream, read(stream, path), rounded) for path in shown)
        online.add(own, -1)
        online.solve()
        found.append(calibrated(stream, fold))
        online.add(own, 1)
    scores, peaks = (
        torch.cat([getattr(each, name) for each in found]) for name in ("scores", "peaks")
    )
    return Calibration.of(scores, peaks)


def features_were_rounded(stored: Stored) -> bool:
    """Whether the detector was fitted to features in the cache, which has them as float16."""
    cache = stored.settings.get("cache")
    trained = (stored.folder / TRAINING).is_file()
    return trained and isinstance(cache, Mapping) and cache.get("enabled") is True


def features(stream: Stream, seen: Seen, rounded: bool) -> Parts:
    """The features of an image as the detector has learned them."""
    for levels, valid in stream.features(seen):
        yield [level.half().float() for level in levels] if rounded else levels, valid


def write_run(
    found: Corrected, stored: Stored, stream: Stream, train: Sequence[Path], aside: Sequence[Path]
) -> None:
    """Write the run directory of a corrected detector, whole or not at all."""
    calibration = found.after.calibration
    assert calibration is not None
    with whole_folder(found.directory) as folder:
        task = folder / "tasks" / stored.task
        (task / CHECKPOINT).parent.mkdir(parents=True)
        shutil.copy(stored.directory / "config.yaml", folder / "config.yaml")
        trainer = plain_trainer([], [], 1)
        trainer.strategy.connect(stream.detector)
        trainer.save_checkpoint(task / CHECKPOINT, weights_only=True)
        write_calibration(task / CALIBRATION, calibration, found.after.rate)
        write_moments(task / MOMENTS, stream.detector)
        write_table(task, [str(path) for path in train], [str(path) for path in aside])
        write_whole(folder / TABLE, to_csv(rows(found)))


def rows(found: Corrected) -> list[dict[str, object]]:
    """The rows of ``corrections.csv``: each verdict, what was done, and the scores."""
    done = {
        **dict.fromkeys(found.learned, "learned"),
        **dict.fromkeys(found.forgotten, "forgotten"),
    }
    return [
        {
            "path": cell(each.path),
            "verdict": each.verdict,
            "done": done.get(each.path, ""),
            "score_before": f"{found.before.scores[each.path]:.7g}",
            "score_after": f"{found.after.scores[each.path]:.7g}",
            "rejected_before": int(bool(found.before.rejected([each]))),
            "rejected_after": int(bool(found.after.rejected([each]))),
        }
        for each in found.marked
    ]
