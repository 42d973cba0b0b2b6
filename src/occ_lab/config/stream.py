"""Streams, as the configuration of ``occ_lab.stream`` describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import DictConfig, ListConfig

from occ_lab.config.composition import build, check_value, resolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import make_job
from occ_lab.config.packages import located
from occ_lab.config.predict import trusted
from occ_lab.config.process import prepare_process
from occ_lab.config.sweeps import on_several_processes
from occ_lab.config.train import header, settings
from occ_lab.config.trainer import make_trainer
from occ_lab.config.watcher import watched
from occ_lab.data.base import Crop
from occ_lab.data.files import images_below
from occ_lab.engine.live import STREAMS, Stream
from occ_lab.engine.run import run
from occ_lab.engine.stream import Streams
from occ_lab.engine.stream_files import Heatmaps
from occ_lab.engine.stream_images import FILES, ImageFiles
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.inference.predict import image_paths
from occ_lab.inference.stored import stored_run
from occ_lab.objectives.norm.objective import Norm
from occ_lab.reporting.record import NOT_COMPARED, RunRecord, keep_settings
from occ_lab.utils.scratch import visible
from occ_lab.utils.signals import stop_on_signal

OF_A_DETECTOR = ("dataset", "loss", "backbone", "projector", "scoring")


def perform_stream(cfg: DictConfig, directory: Path) -> None:
    """Go through the training images of every task, those of ``cfg.input``, or those that come.

    Each image is scored and judged, then the detector is updated with it. What is written is that
    of `occ_lab.engine.stream.Streams`, and a run directory as ``occ_lab.train`` writes it, with the
    detector as it is after the last image.

    Raises:
        UserError: a value out of range, absent data, or results that are there already; before any
            work.
        SystemExit: 1 if images could not be read; 130 on Ctrl-C before the last image, what was
            saved stays.
    """
    cfg = resolved(cfg)
    prepare_process(cfg)
    check_images(cfg)
    check_value(cfg, "save_every", at_least=1, integer=True)
    check_value(cfg, "settle", at_least=0)
    check_value(cfg, "patience", at_least=0)
    with stop_on_signal() as stop:
        streams = Streams(
            stream_plan(cfg),
            directory,
            cfg.save_every,
            heatmaps_of(cfg),
            stop,
            gallery=cfg.gallery is not False,
        )
        if cfg.run is not None:
            follow_run(cfg, directory, streams)
        elif cfg.input is not None:
            follow_input(cfg, directory, streams)
        else:
            follow_dataset(cfg, directory, streams)
        streams.report()


def follow_dataset(cfg: DictConfig, directory: Path, streams: Streams) -> None:
    """Go through the training images of every task, then test on its test images."""
    check_stream(cfg)
    job = make_job(cfg)
    keep_own_settings(cfg, directory, settings(cfg))
    record = RunRecord(directory, header(cfg), settings(cfg), bool(cfg.resume))
    with watched(cfg, directory, record.leads) as watcher:
        run(job, record, watcher, cfg.published, streams)


def follow_input(cfg: DictConfig, directory: Path, streams: Streams) -> None:
    """Let a new detector learn from images one by one."""
    check_stream(cfg)
    images = image_files(cfg)
    job = make_job(cfg, [images])
    keep_own_settings(cfg, directory, settings(cfg))
    job = replace(job, backbone=job.backbone.for_task(FILES))
    trainer = job.trainer([], [], 1)
    frame = streams.known_frame()
    if frame is None and (images.paths or images.crop != "whole"):
        frame = images.preprocessing(FILES)
    follow(cfg, streams, streams.stream(job, trainer, frame), images.paths, trainer)


def follow_run(cfg: DictConfig, directory: Path, streams: Streams) -> None:
    """Let the detector of a run judge images one by one, and learn from them where it can.

    Raises:
        UserError: what belongs to a new detector is set, or there are no images.
    """
    check_run(cfg)
    paths = paths_of(cfg)
    trainer = make_trainer(cfg, [], [], 1)
    device = trainer.strategy.root_device
    task = None if cfg.run_task is None else str(cfg.run_task)
    stream = Stream.load(str(cfg.run), task, device, streams.plan, trusted(cfg))
    stored = stored_run(Path(str(cfg.run)).expanduser(), task).settings
    own = {**settings(cfg), **{part: stored[part] for part in OF_A_DETECTOR if part in stored}}
    keep_own_settings(cfg, directory, own)
    follow(cfg, streams, stream, paths, trainer)


def follow(
    cfg: DictConfig, streams: Streams, stream: Stream, paths: Sequence[Path], trainer: Trainer
) -> None:
    """Go through image files, or watch a folder."""
    if cfg.watch:
        folder = Path(str(cfg.input)).expanduser()
        streams.follow_folder(stream, folder, trainer, cfg.settle, cfg.patience)
    else:
        streams.follow_files(stream, paths, trainer, cfg.loader.workers)


def keep_own_settings(cfg: DictConfig, directory: Path, own: Mapping[str, Any]) -> None:
    """Write ``config.yaml``; a stream that has begun must have the same settings."""
    begun = any(visible(directory, f"{STREAMS}/*.{end}") for end in ("safetensors", "csv"))
    free = (*NOT_COMPARED, "heatmaps", "settle", "patience")
    keep_settings(directory, own, bool(cfg.resume), begun, free)


def check_images(cfg: DictConfig) -> None:
    """Refuse what needs images that nobody names.

    Raises:
        UserError: ``run``, ``watch`` or ``heatmaps`` without ``input``.
    """
    if cfg.input is not None:
        return
    for key, reason in (
        ("run", "the images that the detector of the run is to judge"),
        ("watch", "the folder that images come into"),
        ("heatmaps", "image files; of a dataset, maps=N saves the pictures of N test images"),
    ):
        if cfg[key]:
            raise UserError(f"input is not given; with {key}={cfg[key]} name {reason}: input=...")


def overrides_of_the_command() -> list[str]:
    """The settings on the command line; empty where there is none."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def check_run(cfg: DictConfig) -> None:
    """Refuse what would change a detector that is there already.

    Raises:
        UserError: such a key is on the command line.
    """
    for given in overrides_of_the_command():
        key = re.split(r"[=.@]", given.lstrip("+~"))[0]
        if key in (*OF_A_DETECTOR, "calibration", "ensemble", "experiment", "pretrain"):
            raise UserError(f"{given}: the detector is that of run={cfg.run}; leave this out")


def check_stream(cfg: DictConfig) -> None:
    """Refuse what a run can do and a stream cannot.

    Raises:
        UserError: another objective, images that are held out, several views or processes.
    """
    objective = located(cfg.loss._target_, "loss._target_")
    closed = isinstance(objective, type) and issubclass(objective, Norm)
    if not closed or cfg.loss.get("solver") != "closed_form":
        raise UserError(
            "loss: only the closed form can be updated image by image, not "
            f"{cfg.loss.name}; use loss=norm loss.solver=closed_form"
        )
    held_out = (
        cfg.calibration.share or cfg.calibration.folds or cfg.loader.validation or cfg.loader.trim
    )
    if held_out or cfg.ensemble is not None:
        raise UserError(
            "calibration, loader.validation, loader.trim, ensemble: a stream updates one detector "
            "with all images; its p-values are in streams/*.csv"
        )
    if on_several_processes(cfg):
        raise UserError(
            "trainer.devices: a stream is one process; start several on parts of the images and "
            "merge what they have learned, state=[A.safetensors,B.safetensors]"
        )


def stream_plan(cfg: DictConfig) -> StreamPlan:
    """How images are judged and learned from.

    Raises:
        UserError: a value out of range.
    """
    given = cfg.state if isinstance(cfg.state, ListConfig) else [cfg.state] if cfg.state else []
    try:
        return StreamPlan(
            overkill=cfg.overkill,
            refuse=cfg.refuse,
            learn=bool(cfg.learn),
            half_life=cfg.half_life,
            window=cfg.window,
            refresh=cfg.refresh,
            states=[str(path) for path in given],
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def heatmaps_of(cfg: DictConfig) -> Heatmaps:
    """Of which images pictures are saved.

    Raises:
        UserError: another value than true, false or rejected.
    """
    known: dict[Any, Heatmaps] = {True: "all", False: "none", "rejected": "rejected"}
    if cfg.heatmaps not in known:
        raise UserError(f"heatmaps must be true, false or rejected, got {cfg.heatmaps!r}")
    return known[cfg.heatmaps]


def image_files(cfg: DictConfig) -> ImageFiles:
    """The files that ``cfg.input`` names: whole, unless a crop is chosen that is not the default.

    Raises:
        InputError: there are none.
    """
    frame = build(cfg.dataset, "dataset")
    crop: Crop = "whole" if frame.crop == type(frame).crop else frame.crop
    return ImageFiles(paths_of(cfg), frame.resize, crop, frame.range)


def paths_of(cfg: DictConfig) -> list[Path]:
    """The files that ``cfg.input`` names; a folder that is watched may be empty.

    Raises:
        InputError: there are none.
    """
    if not cfg.watch:
        return image_paths(str(cfg.input))
    folder = Path(str(cfg.input)).expanduser()
    return images_below(folder) if folder.is_dir() else []
