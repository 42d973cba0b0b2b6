"""Streams: a detector scores each incoming image, then is updated with it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.progress import Progress

from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.items import Item, Split
from occ_lab.detector import Detector
from occ_lab.engine.fit import Fitted, timed
from occ_lab.engine.job import Job
from occ_lab.engine.online import Online, check_rates
from occ_lab.engine.passage import Passage
from occ_lab.engine.recorder import Recorder
from occ_lab.engine.stopping import resumable
from occ_lab.engine.stream_state import StreamState, read_state, write_state
from occ_lab.inference.predict import readings
from occ_lab.inference.stored import CHECKPOINT
from occ_lab.reporting.record import to_csv, to_json
from occ_lab.reporting.tables.stream import stream_table
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import write_whole

AHEAD = 16  # images that are read while the detector is updated with earlier ones
STREAMS = "streams"
FILES = "input"  # the task of images without a dataset


@dataclass(frozen=True)
class StreamPlan:
    """How a detector is updated by a stream of images.

    Args:
        half_life: see `Online`.
        refuse: images of at most this p-value do not update the detector, in 0..0.5; 0 refuses
            none.
        window: how many of the latest scores a p-value refers to, at least 1.
        refresh: see `Online`.
        save_every: number of images between two states that are saved, at least 1.
        states: files of earlier streams to start from; several are merged.

    Raises:
        ValueError: a value is out of range; the message begins with its name.
    """

    half_life: float | None = None
    refuse: float = 0.0
    window: int = 200
    refresh: float = 0.0
    save_every: int = 100
    states: Sequence[Path] = ()

    def __post_init__(self) -> None:
        check_number("window", self.window, at_least=1, integer=True)
        check_number("refuse", self.refuse, at_least=0, at_most=0.5)
        check_number("save_every", self.save_every, at_least=1, integer=True)
        check_rates(self.half_life, self.refresh)


class ImageFiles(Benchmark):
    """A benchmark of one task without test images: files that a stream goes through.

    Args:
        paths: the files, in order.
        resize: images are resized to this many pixels a side.
        crop: then cropped at the centre to this many pixels a side.
    """

    def __init__(self, paths: Sequence[Path], resize: int, crop: int) -> None:
        super().__init__(resize=resize, crop=crop)
        self.paths = list(paths)

    def available(self) -> list[str]:
        """The one task."""
        return [FILES]

    def published_split(self, task: str) -> Split:
        """All files, to learn from."""
        return Split([Item(path, 0) for path in self.paths], [])


class Streams:
    """The streams of a run, one for each task.

    Calling it fits a detector to the stream of a task's training images and tests it: it is a
    ``fit`` for `occ_lab.engine.run.run`.

    Args:
        plan: how the detectors are updated.
        directory: the run directory, in which ``streams/TASK.csv``, ``.json`` (costs) and
            ``.safetensors`` (the state) are written. Where there is a state already, the stream
            goes on.

    Attributes:
        passages: what has passed, by task.
    """

    def __init__(self, plan: StreamPlan, directory: Path) -> None:
        self.plan = plan
        self.directory = directory
        self.passages: dict[str, Passage] = {}

    def __call__(
        self,
        job: Job,
        benchmark: Benchmark,
        task: str,
        loggers: Sequence[Logger],
        callbacks: Sequence[Callback],
        checkpoint: Path,
        state: Path | None = None,
    ) -> Fitted:
        """Fit a detector to a task, save it and test it; the arguments are those of `fitted`."""
        data = AnomalyDataModule(benchmark, task, 1, job.eval_batch_size, job.workers)
        data.prepare_data()
        recorder = Recorder()
        trainer = job.trainer(loggers, [recorder, *callbacks], 1)
        seconds: dict[str, float] = {}
        with timed(seconds, "fit"):
            images = TaskImages(benchmark, data.split.train)
            labels = [{"label": item.label} for item in images.items]
            detector = self.follow(job, task, trainer, images, labels).detector
        fitted = Fitted(data, detector, trainer, recorder, seconds)
        fitted.test()
        trainer.save_checkpoint(checkpoint, weights_only=True)
        return fitted

    def follow_files(self, job: Job) -> None:
        """Go through the files of the job's benchmark, `ImageFiles`, and save the detector.

        Raises:
            InputError: no image could be learned from, or a state that cannot be used.
            SystemExit: Ctrl-C; the last state that was saved stays.
        """
        job = replace(job, backbone=job.backbone.for_task(FILES))
        trainer = job.trainer([], [], 1)
        images = TaskImages(job.benchmark, job.benchmark.split(FILES).train)
        with resumable(self.directory, Console(), lambda: "the last state that was saved stays."):
            passage = self.follow(job, FILES, trainer, images)
        trainer.strategy.connect(passage.detector)
        trainer.save_checkpoint(self.directory / "tasks" / FILES / CHECKPOINT, weights_only=True)

    def follow(
        self,
        job: Job,
        task: str,
        trainer: Trainer,
        images: TaskImages,
        labels: Sequence[Mapping[str, Any]] | None = None,
    ) -> Passage:
        """Go through images in order, from where an earlier attempt was stopped.

        Args:
            job: its backbone, objective and projector are the detector's.
            task: the name of the stream.
            trainer: its device is the detector's.
            images: the stream.
            labels: further columns of the table, a mapping for each image.

        Raises:
            InputError: no image could be learned from, or a state that cannot be used.
        """
        seed_everything(job.seed, workers=True, verbose=False)
        detector = job.detector(images.benchmark).to(trainer.strategy.root_device).eval()
        online = Online(detector, self.plan.half_life, self.plan.refresh)
        passage = Passage(online, detector, self.plan.refuse, self.plan.window)
        self.passages[task] = passage
        files = StreamFiles(self.directory / STREAMS / task, settings_of(detector, online))
        if not files.restore(passage):
            start_from(self.plan.states, passage, files.settings)
        saved, total = passage.position, len(images)
        with Progress(transient=True) as progress:
            bar = progress.add_task(f"stream {task}", total=total, completed=saved)
            for batch in readings(images.pixels, range(saved, total), AHEAD, job.workers):
                for index, why in batch.failed.items():
                    passage.failed[str(images.items[index])] = why
                for index, pixels in zip(batch.sources, batch.pixels, strict=True):
                    about = {"path": str(images.items[index]), **(labels[index] if labels else {})}
                    passage.rows.append({**about, **passage.take(pixels)})
                    passage.position = index + 1
                    progress.update(bar, completed=passage.position)
                    if passage.position - saved >= self.plan.save_every:
                        saved = passage.position
                        files.save(passage)
        passage.position = total
        files.save(passage)
        if not online.weight:
            raise InputError(f"{task}: no image could be learned from")
        if online.fresh:
            online.solve()
        write_whole(files.path(".json"), to_json(passage.figures()))
        return passage

    def report(self) -> None:
        """Print the table of all streams, where they are, and what could not be read.

        Raises:
            SystemExit: some images could not be read; the exit code is 1.
        """
        console = Console(highlight=False)
        figures = {name: passage.figures() for name, passage in self.passages.items()}
        console.print(stream_table(figures))
        folder = self.directory / STREAMS
        console.print(f"streams:       {folder}/*.csv, *.safetensors", soft_wrap=True)
        failed = [each for passage in self.passages.values() for each in passage.failed.items()]
        for name, reason in failed:
            console.print(f"not read: {name}: {reason}", soft_wrap=True, markup=False)
        if failed:
            raise SystemExit(1)


@dataclass(frozen=True)
class StreamFiles:
    """The files of a stream.

    Attributes:
        base: their path without the suffix.
        settings: by name, all that must be the same where the stream goes on.
    """

    base: Path
    settings: dict[str, Any]

    def path(self, suffix: str) -> Path:
        """The file with a suffix such as ``.csv``; task names may have dots."""
        return self.base.with_name(self.base.name + suffix)

    def restore(self, passage: Passage) -> bool:
        """Take over what an earlier attempt has left; False if there is nothing.

        Raises:
            InputError: the state was learned with other settings.
        """
        if not self.path(".safetensors").is_file():
            return False
        state = read_state(self.path(".safetensors"), self.settings)
        passage.online.restore(state.learned)
        passage.scores = state.scores.tolist()
        passage.position = state.position
        if state.rows:
            with self.path(".csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))[: state.rows]
            passage.rows = [{**row, "learned": int(row["learned"])} for row in rows]
        return True

    def save(self, passage: Passage) -> None:
        """Write the table so far, then the state, which says how many of its rows are valid."""
        if passage.rows:
            write_whole(self.path(".csv"), to_csv(passage.rows))
        state = StreamState(
            passage.online.state(),
            torch.tensor(passage.scores, dtype=torch.float64),
            passage.position,
            len(passage.rows),
            self.settings,
        )
        write_state(self.path(".safetensors"), state)


def settings_of(detector: Detector, online: Online) -> dict[str, Any]:
    """All that must be the same where a stream goes on from a state.

    Raises:
        InputError: the backbone is trained.
    """
    if not isinstance(detector.backbone, FrozenBackbone):
        raise InputError(
            f"a stream needs a frozen backbone, not {detector.backbone.name}", "backbone"
        )
    objective = online.objective
    return {
        "backbone": detector.backbone.identity,
        "resize": detector.frame.resize,
        "crop": detector.frame.crop,
        "normalize": objective.normalize,
        "norm": objective.norm,
        "p": objective.p,
        "time": objective.time,
        # States that were saved before there were cells have neither key, which reads as None.
        "cell": objective.cell,
        "bias": None if objective.bias == "flow" else objective.bias,
    }


def start_from(states: Sequence[Path], passage: Passage, settings: dict[str, Any]) -> None:
    """Take over the state of an earlier stream, or those of several, merged.

    Raises:
        InputError: a file holds no state, or one that was learned with other settings.
    """
    read = [read_state(path, settings) for path in states]
    if len(read) == 1:
        passage.online.restore(read[0].learned)
    else:
        passage.online.merge([state.learned for state in read])
    passage.scores = [score for state in read for score in state.scores.tolist()]
    passage.scores = passage.scores[-passage.window :]
