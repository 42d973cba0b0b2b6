"""The streams of a run: over a dataset, over image files, or over a watched folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.progress import Progress

from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.files import images_below
from occ_lab.data.images_dataset import TaskImages
from occ_lab.data.transforms import Frame
from occ_lab.engine.calibrate import write_calibration
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.job import Job
from occ_lab.engine.live import STREAMS, Stream
from occ_lab.engine.online import why_frozen
from occ_lab.engine.recorder import Recorder
from occ_lab.engine.stopping import how_to_go_on, resumable
from occ_lab.engine.stream_files import Heatmaps, StreamFiles, as_written
from occ_lab.engine.stream_gallery import StreamGallery
from occ_lab.engine.stream_images import FILES, Coming, in_order
from occ_lab.engine.stream_lines import closing_lines, introduction, line_of, named
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.engine.stream_state import read_state
from occ_lab.engine.watch import Arrivals
from occ_lab.inference.stored import CHECKPOINT
from occ_lab.reporting.gallery.gallery import PAGE
from occ_lab.reporting.tables.stream import stream_table
from occ_lab.utils.errors import InputError, check_number
from occ_lab.utils.files import whole_file
from occ_lab.utils.timing import timed


class Streams:
    """The streams of a run, one for each task.

    An object of this class can be called as a ``fit`` of `occ_lab.engine.run.run`: a detector then
    learns from the stream of a task's training images and is tested.

    Args:
        plan: how images are judged and learned from.
        directory: the run directory. ``streams/TASK.csv``, ``.json`` (figures) and
            ``.safetensors`` (the state) are written to it. If there is a state already, the stream
            continues.
        save_every: the number of images between two saved states, at least 1.
        heatmaps: the images of which a picture is saved in ``heatmaps/TASK``; streams of datasets
            save none.
        stop: if set, ends a stream between two images.
        gallery: whether streams of image files write ``index.html``, a page of all their images.

    Attributes:
        done: the finished streams and their files, by task.

    Raises:
        ValueError: a number is out of range; the message begins with its name.
    """

    def __init__(
        self,
        plan: StreamPlan,
        directory: Path,
        save_every: int = 100,
        heatmaps: Heatmaps = "none",
        stop: Event | None = None,
        gallery: bool = True,
    ) -> None:
        check_number("save_every", save_every, at_least=1, integer=True)
        self.plan = plan
        self.directory = directory
        self.save_every = save_every
        self.heatmaps: Heatmaps = heatmaps
        self.stop = stop or Event()
        self.wants_gallery = gallery
        self.gallery: StreamGallery | None = None
        self.console = Console(highlight=False, soft_wrap=True, markup=False)
        self.done: dict[str, tuple[Stream, StreamFiles]] = {}

    def __call__(
        self,
        job: Job,
        benchmark: Benchmark,
        task: str,
        loggers: Sequence[Logger],
        callbacks: Sequence[Callback],
        checkpoint: Path,
        state: Path | None = None,
        earlier: Fitted | None = None,
    ) -> Fitted:
        """Fit a detector to a task, save it and test it; the arguments are those of `fitted`.

        Raises:
            InputError: one detector is asked for all tasks.
        """
        if benchmark.unified:
            raise InputError(
                "protocol: a stream learns each task from its own images; unified is for occ-lab "
                "train",
                part="dataset",
            )
        data = AnomalyDataModule(benchmark, task, 1, job.eval_batch_size, job.workers)
        data.prepare_data()
        recorder = Recorder()
        trainer = job.trainer(loggers, [recorder, *callbacks], 1)
        seconds: dict[str, float] = {}
        with timed(seconds, "fit"):
            images = TaskImages(benchmark, data.split.train, frame=data.preprocessing)

            def columns(index: int) -> dict[str, Any]:
                item = images.items[index]
                return {"path": str(item), "label": item.label}

            stream = self.stream(job, trainer, data.preprocessing)
            files = self.begun(stream, task, map(str, images.items))
            left = range(files.position, len(images))
            coming = in_order(images.seen, left, columns, job.workers)
            self.follow(stream, files, coming, len(images))
        fitted = Fitted(data, stream.detector, trainer, recorder, seconds)
        fitted.test()
        trainer.save_checkpoint(checkpoint, weights_only=True)
        return fitted

    def stream(self, job: Job, trainer: Trainer, frame: Frame | None) -> Stream:
        """A stream of a new detector; without a frame, the first image determines it.

        Raises:
            InputError: the detector cannot learn image by image.
        """
        seed_everything(job.seed, workers=True, verbose=False)
        detector = job.detector(frame).to(trainer.strategy.root_device)
        if why := why_frozen(detector):
            raise InputError(f"a new detector cannot learn image by image: {why}", part="objective")
        of = job.benchmark
        return Stream(detector, self.plan, side=of.resize, range=of.range)

    def known_frame(self) -> Frame | None:
        """The frame of the earlier stream of files that this one continues, if any."""
        if (state := StreamFiles(self.directory, FILES).state({})) is not None:
            return state.frame
        for path in map(Path, self.plan.states):
            if path.is_file():
                return read_state(path, {}).frame
        return None

    def begun(self, stream: Stream, task: str, listed: Iterable[str]) -> StreamFiles:
        """The files of a stream; it continues if there is a state.

        Args:
            stream: a new stream.
            task: its name.
            listed: see `StreamFiles.restore`.

        Raises:
            InputError: the state cannot be used.
        """
        files = StreamFiles(self.directory, task)
        files.restore(stream, listed)
        self.done[task] = stream, files
        if self.wants_gallery and task == FILES:
            self.gallery = StreamGallery(self.directory, stream, task, files.known)
        return files

    def follow_files(
        self, stream: Stream, paths: Sequence[Path], trainer: Trainer, workers: int = 0
    ) -> None:
        """Process image files in order, and save the detector.

        Args:
            stream: judges them.
            paths: the files.
            trainer: saves the detector.
            workers: the number of threads that read; 0 uses torch's number of threads.

        Raises:
            InputError: no image could be learned from, or a state cannot be used.
            SystemExit: the stream was stopped; the exit code is 130.
        """
        files = self.begun(stream, FILES, map(as_written, paths))
        coming = in_order(
            stream.seen, paths[files.position :], lambda path: {"path": str(path)}, workers
        )
        with resumable(
            self.directory,
            self.console,
            lambda: f"{files.position} of {len(paths)} images are done.",
        ):
            self.follow(stream, files, coming, len(paths))
        self.keep(stream, trainer)

    def follow_folder(
        self,
        stream: Stream,
        folder: Path,
        trainer: Trainer,
        settle: float = 0.2,
        patience: float = 10.0,
    ) -> None:
        """Judge the images in a folder and those that arrive in it, until `stop` is set.

        Args:
            stream: judges them.
            folder: the folder.
            trainer: saves the detector.
            settle: see `Arrivals`.
            patience: likewise.

        Raises:
            InputError: no image could be learned from, a state cannot be used, or there is no
                such folder.
        """
        there = images_below(folder) if folder.is_dir() else []
        files = self.begun(stream, FILES, map(as_written, there))
        known = [path for path in there if as_written(path) in files.known]
        arrivals = Arrivals(folder, stream.seen, known, settle, patience, self.stop)
        coming = (Coming({"path": str(each.path)}, each.content, each.error) for each in arrivals)
        self.console.print(f"watching {folder} for images; Ctrl-C ends it")
        self.follow(stream, files, coming)
        self.keep(stream, trainer)
        self.console.print(f"\nStopped; {files.position} images are done.")
        self.console.print(how_to_go_on(self.directory))

    def follow(
        self,
        stream: Stream,
        files: StreamFiles,
        coming: Iterator[Coming],
        total: int | None = None,
    ) -> None:
        """Judge images one after another, and record the results.

        Args:
            stream: judges them.
            files: store the results.
            coming: the images.
            total: the number of images; None prints one line for each.

        Raises:
            InputError: no image could be learned from.
            KeyboardInterrupt: the stream was stopped before the end of ``total`` images; the state
                is saved.
        """
        self.console.print(introduction(stream))
        saved = files.position
        with files, Progress(transient=True, disable=total is None) as progress:
            bar = progress.add_task(f"stream {files.name}", total=total, completed=saved)
            for each in coming:
                said = self._judge(stream, files, each)
                files.position += 1
                progress.update(bar, completed=files.position)
                if total is None:
                    self.console.print(said)
                if files.position - saved >= self.save_every:
                    saved = files.position
                    self._save(stream, files)
                if self.stop.is_set():
                    break
        self._save(stream, files)
        if total is not None and files.position < total:
            raise KeyboardInterrupt
        if total is not None and stream.online is not None and not stream.online.weight:
            raise InputError(f"{files.name}: no image could be learned from")
        stream.solve(always=True)
        files.write_figures(stream)

    def _save(self, stream: Stream, files: StreamFiles) -> None:
        """Write page and state; the page is the first, so that no image of the state is missing."""
        if self.gallery is not None:
            self.gallery.write()
        files.save(stream)

    def _judge(self, stream: Stream, files: StreamFiles, coming: Coming) -> str:
        """Judge an image and record the verdict; returns it as a line."""
        name = str(coming.columns["path"])
        error = coming.error
        if coming.seen is not None:
            try:
                verdict, heat = stream.take(coming.seen)
            except ValueError as not_finite:
                error = str(not_finite)
        if coming.seen is None or error:
            files.failed[name] = error
            return f"not read  {named(name, error)}"
        files.failed.pop(name, None)
        row = files.add(coming.columns, verdict)
        if self.gallery is not None:
            self.gallery.add(Path(name), coming.seen, verdict, heat)
        wanted = self.heatmaps == "all" or (self.heatmaps, verdict.decision) == (
            "rejected",
            "reject",
        )
        if wanted and heat is not None:
            files.save_heatmap(Path(name), stream, heat, coming.seen.size, verdict)
        return line_of(row)

    def keep(self, stream: Stream, trainer: Trainer) -> None:
        """Save the detector and the scores of its threshold, in the form of a run."""
        if stream.online is not None and not stream.online.weight:
            return
        folder = self.directory / "tasks" / FILES
        trainer.strategy.connect(stream.detector)
        with whole_file(folder / CHECKPOINT) as scratch:
            trainer.save_checkpoint(scratch, weights_only=True)
        if stream.reference.decided:
            write_calibration(
                folder / "calibration.json", stream.reference.calibration, stream.overkill
            )

    def report(self) -> None:
        """Print the table of all streams, the rejected images, and the unreadable files.

        Raises:
            SystemExit: some images could not be read; the exit code is 1.
        """
        self.console.print(
            stream_table(
                {name: files.figures(stream) for name, (stream, files) in self.done.items()}
            )
        )
        for stream, files in self.done.values():
            for said in closing_lines(stream, files):
                self.console.print(said)
        self.console.print(f"run directory: {self.directory}")
        if self.gallery is not None:
            self.console.print(f"gallery:       {self.directory / PAGE}")
        self.console.print(f"streams:       {self.directory / STREAMS}/*.csv, *.safetensors")
        failed = [each for _, files in self.done.values() for each in files.failed.items()]
        for name, reason in failed:
            self.console.print(f"not read: {named(name, reason)}")
        if failed:
            raise SystemExit(1)
