"""The norm study, as the configuration of ``occ_lab.norm_study`` describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Fabric
from omegaconf import DictConfig, ListConfig, OmegaConf

import occ_lab
from occ_lab.config.composition import build, check_value, resolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import cache_of, object_of
from occ_lab.config.process import prepare_process
from occ_lab.config.train import settings
from occ_lab.engine.norm_study import NormStudy, Pictures, study
from occ_lab.utils.errors import InputError


def perform_study(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    """Study every task that ``cfg.dataset`` selects; write all into ``directory``.

    Returns:
        The results of each task, as in ``norm_study.json``.

    Raises:
        UserError: a value out of range or absent data.
        InputError: results already there, or a file that cannot be used.
    """
    cfg = resolved(cfg)
    prepare_process(cfg)
    header = {
        "dataset": cfg.dataset.name,
        "backbone": cfg.backbone.name,
        "seed": cfg.seed,
        "version": occ_lab.__version__,
    }
    return study(norm_study_plan(cfg), directory, header, settings(cfg))


def norm_study_plan(cfg: DictConfig) -> NormStudy:
    """What is studied, as a resolved configuration describes it.

    Raises:
        UserError: a value out of range, absent data, or parts that do not fit each other.
    """
    check_value(cfg, "seed", at_least=0, integer=True)
    check_value(cfg, "loader.eval_batch_size", at_least=1, integer=True)
    check_value(cfg, "loader.workers", at_least=0, integer=True)
    try:
        pictures = Pictures(cfg.pictures.time, plain(cfg.pictures.norms))
    except ValueError as error:
        raise UserError(f"pictures.{error}") from error
    try:
        return NormStudy(
            build(cfg.dataset, "dataset"),
            build(cfg.backbone, "backbone"),
            norms=plain(cfg.norms),
            times=plain(cfg.times),
            cell=cfg.cell,
            normalize=cfg.normalize,
            pictures=pictures,
            postprocess=build(object_of(cfg, "scoring"), "scoring"),
            cache=cache_of(cfg),
            eval_batch_size=cfg.loader.eval_batch_size,
            workers=cfg.loader.workers,
            seed=cfg.seed,
            device=Fabric(accelerator=cfg.accelerator, devices=1).device,
        )
    except InputError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def plain(value: Any) -> Any:
    """A list of the configuration as a list; anything else as it is."""
    return OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
