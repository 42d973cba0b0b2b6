"""Streams, as the configuration of ``occ_lab.stream`` describes them."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from occ_lab.config.composition import build, resolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import header, make_job, settings
from occ_lab.config.packages import located
from occ_lab.config.sweeps import on_several_processes
from occ_lab.config.watcher import watched
from occ_lab.engine.run import run
from occ_lab.engine.stream import STREAMS, ImageFiles, StreamPlan, Streams
from occ_lab.inference.predict import image_paths
from occ_lab.objectives.norm.objective import Norm
from occ_lab.reporting.record import RunRecord, keep_settings
from occ_lab.utils.allocator import keep_freed_memory


def perform_stream(cfg: DictConfig, directory: Path) -> None:
    """Go through the training images of every task, or those of ``cfg.input``, in order.

    Each image is scored, then the detector is updated with it. What is written is that of
    `occ_lab.engine.stream.Streams`, and a run directory as ``occ_lab.train`` writes it, with the
    detector as it is after the last image.

    Raises:
        UserError: a value out of range, absent data, or results that are there already; before any
            work.
        SystemExit: 1 if images could not be read; 130 on Ctrl-C, what was saved stays.
    """
    keep_freed_memory()
    cfg = resolved(cfg)
    check_stream(cfg)
    streams = Streams(stream_plan(cfg), directory)
    job = make_job(cfg, None if cfg.input is None else [image_files(cfg)])
    begun = any(directory.glob(f"{STREAMS}/*.safetensors"))
    keep_settings(directory, settings(cfg), bool(cfg.resume), begun)
    if cfg.input is None:
        record = RunRecord(directory, header(cfg), settings(cfg), bool(cfg.resume))
        with watched(cfg, directory, record.leads) as watcher:
            run(job, record, watcher, cfg.published, streams)
    else:
        streams.follow_files(job)
    streams.report()


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
    held_out = cfg.calibration.share or cfg.calibration.folds or cfg.loader.validation
    if held_out or cfg.ensemble is not None:
        raise UserError(
            "calibration, loader.validation, ensemble: a stream updates one detector with all "
            "images; its p-values are in streams/*.csv"
        )
    if on_several_processes(cfg):
        raise UserError(
            "trainer.devices: a stream is one process; start several on parts of the images and "
            "merge what they have learned, state=[A.safetensors,B.safetensors]"
        )


def stream_plan(cfg: DictConfig) -> StreamPlan:
    """How the detector is updated.

    Raises:
        UserError: a value out of range.
    """
    given = cfg.state if isinstance(cfg.state, ListConfig) else [cfg.state] if cfg.state else []
    try:
        return StreamPlan(
            half_life=cfg.half_life,
            refuse=cfg.refuse,
            window=cfg.window,
            refresh=cfg.refresh,
            save_every=cfg.save_every,
            states=[Path(str(path)).expanduser() for path in given],
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def image_files(cfg: DictConfig) -> ImageFiles:
    """The files that ``cfg.input`` names, in the frame of the dataset.

    Raises:
        InputError: there are none.
    """
    frame = build(cfg.dataset, "dataset")
    return ImageFiles(image_paths(str(cfg.input)), frame.resize, frame.crop)
