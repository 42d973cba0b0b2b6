"""A detector that learns from images as they come: each is scored first, then learned from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import Progress

from occ_lab.config.composition import build, check_value, resolved
from occ_lab.config.sweeps import on_several_processes
from occ_lab.data.base import Benchmark
from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.data.images_dataset import TaskImages
from occ_lab.engine.fit import Fitted, Parts, make_detector, make_trainer, timed
from occ_lab.engine.online import Online
from occ_lab.engine.passage import Passage
from occ_lab.engine.run import run
from occ_lab.engine.stream_state import StreamState, read_state, write_state
from occ_lab.inference.predict import image_paths, readings
from occ_lab.inference.predictor import CHECKPOINT, TrainedDetector
from occ_lab.reporting.record import keep_settings, to_csv, to_json
from occ_lab.reporting.tables.stream import stream_table
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole

T = TypeVar("T")

AHEAD = 16  # images that are read while others are learned from
STREAMS = "streams"
GIVEN = "input"  # the task of images without a dataset


def stream(cfg: DictConfig, directory: Path) -> None:
    """Go through the training images of every task, or those of ``cfg.input``, in order.

    Writes ``streams/TASK.csv``, ``.json`` (costs) and ``.safetensors`` (the state), and a run
    directory as ``occ_lab.train`` does, with the detector as it is after the last image.

    Raises:
        InputError: a value out of range, absent data, results already there; before any work.
        SystemExit: 1 if images of ``cfg.input`` could not be read; 130 on Ctrl-C, what was saved
            stays.
    """
    keep_freed_memory()
    cfg = resolved(cfg)
    check_stream(cfg)
    keep_settings(directory, cfg, any(directory.glob(f"{STREAMS}/*.safetensors")))
    console = Console(highlight=False)
    streams: dict[str, Passage] = {}
    if cfg.input is None:
        run(cfg, directory, partial(streamed, directory, streams))
    else:
        try:
            stream_files(cfg, directory, streams)
        except KeyboardInterrupt:
            again = f"Go on: the same command with resume=true hydra.run.dir={directory}"
            console.print(f"\nStopped. {again}", soft_wrap=True)
            raise SystemExit(130) from None
        console.print(f"run directory: {directory}", soft_wrap=True)
    console.print(stream_table({name: passage.figures() for name, passage in streams.items()}))
    console.print(f"streams:       {directory / STREAMS}/*.csv, *.safetensors", soft_wrap=True)
    failed = {key: why for passage in streams.values() for key, why in passage.failed.items()}
    for name, reason in failed.items():
        console.print(f"not read: {name}: {reason}", soft_wrap=True, markup=False)
    if failed:
        raise SystemExit(1)


def check_stream(cfg: DictConfig) -> None:
    """Check what is asked of the stream itself; `Online` checks its own numbers.

    Raises:
        InputError: a value out of range, or what a stream cannot do.
    """
    if cfg.loss.name != "norm" or cfg.loss.solver != "closed_form":
        raise InputError(
            f"loss: only the closed form learns image by image, not {cfg.loss.name}; take "
            "loss=norm loss.solver=closed_form"
        )
    check_value(cfg, "window", at_least=1, integer=True)
    check_value(cfg, "refuse", at_least=0, at_most=0.5)
    check_value(cfg, "save_every", at_least=1, integer=True)
    if cfg.half_life is not None:
        check_value(cfg, "half_life", above=0)
    check_value(cfg, "refresh", at_least=0, at_most=1)
    if cfg.calibration.share or cfg.calibration.folds or cfg.ensemble is not None:
        raise InputError(
            "calibration, ensemble: a stream learns from all images by one detector; its p-values "
            "are in streams/*.csv"
        )
    if on_several_processes(cfg):
        raise InputError(
            "trainer.devices: a stream is one process; start several on parts of the images and "
            "merge what they have learned, state=[A.safetensors,B.safetensors]"
        )


def streamed(
    directory: Path,
    streams: dict[str, Passage],
    cfg: DictConfig,
    parts: Parts,
    benchmark: Benchmark,
    task: str,
    loggers: list[Logger],
    checkpoint: Path,
) -> Fitted:
    """A detector that has learned from the stream of a task's training images, tested.

    The first two arguments are the run directory and where the passage is put under the task's
    name; the others are those of `occ_lab.engine.fit.fitted`.
    """
    data = AnomalyDataModule(benchmark, task, 1, **cfg.loader)
    data.prepare_data()
    trainer = make_trainer(cfg, loggers, 1)
    images = TaskImages(benchmark, data.split.train, masks=False)
    labels = [{"path": str(item), "label": item.label} for item in images.items]
    seconds: dict[str, float] = {}
    with timed(seconds, "fit"):
        passage = begun(cfg, parts, benchmark, trainer)
        streams[task] = passage
        follow(cfg, passage, directory / STREAMS / task, images.pixels, range(len(images)), labels)
    with timed(seconds, "test"):
        trainer.test(passage.detector, data.test_dataloader(), verbose=False)
    trainer.save_checkpoint(checkpoint, weights_only=True)
    return Fitted(data, passage.detector, trainer, seconds)


def stream_files(cfg: DictConfig, directory: Path, streams: dict[str, Passage]) -> None:
    """Go through the files that ``cfg.input`` names; write all into ``directory``."""
    paths = image_paths(str(cfg.input))
    benchmark = build(cfg.dataset, "dataset")
    backbone = build(cfg.backbone, "backbone")
    backbone.check_tasks([GIVEN])
    backbone.check_size(benchmark.crop, benchmark.crop)
    scoring, cache = build(cfg.scoring, "scoring"), build(cfg.cache, "cache")
    parts = Parts([benchmark], backbone.for_task(GIVEN), cache, scoring, one_pass=True)
    trainer = make_trainer(cfg, [], 1)
    passage = begun(cfg, parts, benchmark, trainer)
    streams[GIVEN] = passage
    pixels = TrainedDetector(GIVEN, cfg, passage.detector, None).pixels
    names = [{"path": str(path)} for path in paths]
    follow(cfg, passage, directory / STREAMS / GIVEN, pixels, paths, names)
    trainer.strategy.connect(passage.detector)
    trainer.save_checkpoint(directory / "tasks" / GIVEN / CHECKPOINT, weights_only=True)


def begun(cfg: DictConfig, parts: Parts, benchmark: Benchmark, trainer: Trainer) -> Passage:
    """A passage before its first image."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    detector = make_detector(cfg, parts, benchmark).to(trainer.strategy.root_device).eval()
    online = Online(detector, cfg.half_life, cfg.refresh)
    return Passage(online, detector, cfg.refuse, cfg.window)


def follow(
    cfg: DictConfig,
    passage: Passage,
    place: Path,
    read: Callable[[T], np.ndarray],
    sources: Sequence[T],
    facts: Sequence[dict[str, Any]],
) -> None:
    """Take every image in order, from where an earlier attempt has stopped.

    Args:
        cfg: the configuration.
        passage: goes through them; solved for at the end.
        place: of the files, without their suffix.
        read: gives the pixels of a source.
        sources: of the images.
        facts: what the table tells of each beside its score.
    """
    settings = {
        "backbone": passage.detector.backbone.identity,
        "resize": cfg.dataset.resize,
        "crop": cfg.dataset.crop,
        **{key: cfg.loss[key] for key in ("normalize", "norm", "p", "time")},
    }
    go_on(cfg, passage, place, settings)
    saved = passage.position
    numbered = list(range(passage.position, len(sources)))
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"stream {place.name}", total=len(sources), completed=saved)
        for batch in readings(lambda at: read(sources[at]), numbered, AHEAD, cfg.loader.workers):
            for at, why in batch.failed.items():
                passage.failed[facts[at]["path"]] = why
            for at, pixels in zip(batch.sources, batch.pixels, strict=True):
                passage.rows.append({**facts[at], **passage.take(pixels)})
                passage.position = at + 1
                progress.update(bar, completed=passage.position)
                if passage.position - saved >= cfg.save_every:
                    saved = passage.position
                    save(passage, place, settings)
    passage.position = len(sources)
    save(passage, place, settings)
    if not passage.online.weight:
        raise InputError(f"{place.name}: no image could be learned from")
    if passage.online.fresh:
        passage.online.solve()
    write_whole(place.with_name(f"{place.name}.json"), to_json(passage.figures()))


def go_on(cfg: DictConfig, passage: Passage, place: Path, settings: dict[str, Any]) -> None:
    """Let a passage become what an earlier attempt has left, or what the states given have."""
    own, table = (place.with_name(place.name + suffix) for suffix in (".safetensors", ".csv"))
    if own.is_file():
        state = read_state(own, settings)
        passage.online.restore(state.learned)
        passage.scores = state.scores.tolist()
        passage.position = state.position
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[: state.rows]
        passage.rows = [{**row, "learned": int(row["learned"])} for row in rows]
        return
    given = cfg.state if isinstance(cfg.state, ListConfig) else [cfg.state] if cfg.state else []
    states = [read_state(Path(str(path)).expanduser(), settings) for path in given]
    if len(states) == 1:
        passage.online.restore(states[0].learned)
    else:
        passage.online.merge([state.learned for state in states])
    passage.scores = [score for state in states for score in state.scores.tolist()]
    passage.scores = passage.scores[-passage.window :]


def save(passage: Passage, place: Path, settings: dict[str, Any]) -> None:
    """Write the table so far, then the state, which tells how much of the table is its own."""
    if passage.rows:
        write_whole(place.with_name(f"{place.name}.csv"), to_csv(passage.rows))
    state = StreamState(
        passage.online.state(),
        torch.tensor(passage.scores, dtype=torch.float64),
        passage.position,
        len(passage.rows),
        settings,
    )
    write_state(place.with_name(f"{place.name}.safetensors"), state)
