"""From the configuration of a command to the objects that the engine works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from occ_lab.backbones.base import Backbone
from occ_lab.backbones.timm import TimmBackbone
from occ_lab.config.composition import build, check_value
from occ_lab.config.errors import UserError
from occ_lab.config.trainer import OF_TASK, check_trainer, make_trainer
from occ_lab.data.base import Benchmark
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.job import Explanations, Job, Pretraining
from occ_lab.features.cache import FeatureCache
from occ_lab.objectives.norm.objective import Norm
from occ_lab.utils.memo import Memo
from occ_lab.utils.optimizers import MakeOptimizer

LEAST = {  # the least that these numbers may be
    "seed": 0,
    "explain.count": 0,
    "checkpoint_every": 0,
    "loader.workers": 0,
    "loader.eval_batch_size": 1,
    "loss.fit.epochs": 1,
    "loss.fit.batch_size": 1,
    "pretrain.epochs": 0,
}
MAPS = 16  # heatmap pictures of a task
MAPS_IN_SWEEP = 4  # as many as a report shows
NOT_OF_THE_OBJECT = {
    "loss": ("name", "fit"),
    "explain": ("count",),
    "pretrain": ("epochs",),
    "scoring": ("aupro_limit",),
}


def make_job(
    cfg: DictConfig, views: list[Benchmark] | None = None, shared: Memo | None = None
) -> Job:
    """What a resolved configuration of ``occ_lab.train`` asks for, checked.

    Args:
        cfg: the configuration.
        views: of a benchmark, in place of that of the configuration.
        shared: what the job shares with others in the process; None shares nothing.

    Raises:
        UserError: a value out of range, absent data, or parts that do not fit each other.
    """
    for key, least in LEAST.items():
        if OmegaConf.select(cfg, key) is not None:
            check_value(cfg, key, at_least=least, integer=True)
    check_value(cfg, "loader.validation", at_least=0, at_most=0.99)
    check_value(cfg, "loader.trim", at_least=0, at_most=0.9)
    check_value(cfg, "scoring.aupro_limit", above=0, at_most=1)
    check_trainer_once(cfg, shared)
    fit = cfg.loss.get("fit") or OmegaConf.create()
    objective = partial(build, object_of(cfg, "loss"), "loss")
    job = Job(
        views=views or views_of(cfg),
        backbone=backbone_of(cfg.backbone, shared),
        objective=objective,
        projector=projector_maker(cfg, objective()),
        optimizer=optimizer_of(fit),
        scheduler=built_or_none(fit, "scheduler"),
        postprocess=build(object_of(cfg, "scoring"), "scoring"),
        aupro_limit=cfg.scoring.aupro_limit,
        pretraining=pretraining(cfg),
        max_epochs=cfg.trainer.max_epochs,
        steps=fit.get("steps"),
        batch_size=fit.batch_size,
        eval_batch_size=cfg.loader.eval_batch_size,
        workers=cfg.loader.workers,
        validation=cfg.loader.validation,
        trim=cfg.loader.trim,
        cache=cache_of(cfg, shared),
        trainer=partial(make_trainer, cfg),
        calibration=calibration_plan(cfg),
        explanations=explanations(cfg),
        checkpoint_every=cfg.checkpoint_every,
        moments=cfg.moments,
        seed=cfg.seed,
        oracle=cfg.oracle,
        maps=maps_of(cfg, sweep=shared is not None),
        gallery=cfg.gallery,
        shared=shared,
    )
    job.check()
    return job


def backbone_of(node: DictConfig, shared: Memo | None) -> Backbone:
    """The backbone; one for all jobs that share, if nothing changes it and it is one of ours.

    Raises:
        UserError: a value that it refuses.
    """
    weights = Path(str(node.get("weights", "")))
    status = weights.stat() if weights.is_file() else None
    file = "" if status is None else f"{status.st_size} {status.st_mtime_ns}"
    key = f"{OmegaConf.to_container(node)} {file}"
    kept: Backbone | None = None if shared is None else shared.get(key)
    if kept is not None:
        return kept
    made: Backbone = build(node, "backbone")
    if shared is not None and type(made) is TimmBackbone:
        shared.keep(key, made)
    return made


def check_trainer_once(cfg: DictConfig, shared: Memo | None) -> None:
    """As `check_trainer`, unless a job that shares with this one has had the same settings.

    Raises:
        UserError: as of `check_trainer`.
    """
    groups = [cfg[name] for name in OF_TASK if name in cfg]
    settings = [OmegaConf.to_container(each) for each in groups if isinstance(each, DictConfig)]
    key = f"checked {settings} {cfg.loader.validation}"
    if shared is None or not shared.get(key):
        check_trainer(cfg)
        if shared is not None:
            shared.keep(key, True)


def maps_of(cfg: DictConfig, sweep: bool) -> int:
    """The number of heatmap pictures of a task.

    Args:
        cfg: the configuration.
        sweep: whether the job is one of a sweep.

    Raises:
        UserError: it is neither ``auto`` nor a number from 0 on.
    """
    if cfg.maps == "auto":
        return MAPS_IN_SWEEP if sweep else MAPS
    check_value(cfg, "maps", at_least=0, integer=True)
    return int(cfg.maps)


def cache_of(cfg: DictConfig, shared: Memo | None = None) -> FeatureCache | None:
    """The cache of features, which knows what it has verified; None where it is off.

    Raises:
        UserError: a value out of range.
    """
    key = f"cache {OmegaConf.to_container(cfg.cache)}"
    kept: FeatureCache | None = None if shared is None else shared.get(key)
    cache: FeatureCache = kept or build(cfg.cache, "cache")
    if shared is not None:
        shared.keep(key, cache)
    return cache if cache.enabled else None


def object_of(cfg: DictConfig, group: str) -> DictConfig:
    """The node of a group without the keys that are not arguments of its class.

    The node of a mixture's component, which is an option of the same group, loses them too.
    """

    def arguments(node: DictConfig) -> DictConfig:
        names = [str(key) for key in node if key not in NOT_OF_THE_OBJECT[group]]
        return OmegaConf.masked_copy(node, names)

    found = arguments(cfg[group])
    if "component" in found:
        found.component = arguments(found.component)
    return found


def projector_maker(
    cfg: DictConfig, objective: nn.Module
) -> Callable[[Sequence[int]], nn.Module] | None:
    """What makes a projector for the channels of levels; None leaves it to the objective.

    A closed form that is local has one 1×1 convolution for each cell, which takes the place of the
    one that is the default.
    """
    local = isinstance(objective, Norm) and objective.local is not None
    if local and cfg.projector._target_ == "occ_lab.projectors.Conv1x1":
        return None
    return lambda channels: build(cfg.projector, "projector", channels=list(channels))


def built_or_none(fit: DictConfig, name: str) -> Any:
    """What ``loss.fit`` names, or None where it leaves it out."""
    node = fit.get(name)
    return build(node, f"loss.fit.{name}") if node else None


def optimizer_of(fit: DictConfig) -> MakeOptimizer | None:
    """What makes the optimizer, tried on one number so that it refuses its values before any work.

    Raises:
        UserError: a value that the optimizer refuses.
    """
    made: MakeOptimizer | None = built_or_none(fit, "optimizer")
    if made is not None:
        try:
            made([torch.nn.Parameter(torch.zeros(1, 1))])
        except (TypeError, ValueError) as error:
            raise UserError(f"loss.fit.optimizer: {error}") from error
    return made


def pretraining(cfg: DictConfig) -> Pretraining | None:
    """The training before the fit, if there is one."""
    if not cfg.pretrain.epochs:
        return None
    node = object_of(cfg, "pretrain")

    def module(backbone: Any) -> Any:
        return build(node, "pretrain", backbone=backbone)

    return Pretraining(module, cfg.pretrain.epochs)


def calibration_plan(cfg: DictConfig) -> CalibrationPlan:
    """Which images a threshold comes from.

    Raises:
        UserError: a value out of range.
    """
    asked = cfg.calibration
    try:
        return CalibrationPlan(asked.share, asked.folds, asked.overkill, cfg.seed)
    except ValueError as error:
        if getattr(error, "part", ""):
            raise
        raise UserError(f"calibration.{error}") from error


def explanations(cfg: DictConfig) -> Explanations | None:
    """Which scores are explained.

    Raises:
        UserError: a number of images without a method.
    """
    if not cfg.explain.count:
        return None
    if "_target_" not in cfg.explain:
        raise UserError(
            "explain.count: by no method; take explain=occlusion or explain=integrated_gradients"
        )
    return Explanations(build(object_of(cfg, "explain"), "explain"), cfg.explain.count)


def views_of(cfg: DictConfig) -> list[Benchmark]:
    """The benchmark as each input shows it; the one whose frame the maps have comes first.

    Raises:
        UserError: ``cfg.ensemble`` is no list of views of which one shows the whole image.
    """
    if cfg.ensemble is None:
        return [build(cfg.dataset, "dataset")]
    given = cfg.ensemble if isinstance(cfg.ensemble, ListConfig) else []
    views = [
        build(cfg.dataset, "dataset", **{str(key): value for key, value in view.items()})
        for view in given
        if isinstance(view, DictConfig)
    ]
    whole = [view for view in views if view.crop == view.resize]
    if len(views) < max(2, len(given)) or not whole:
        raise UserError(
            "ensemble must be null, or two or more views of which one shows the whole image, "
            f"such as [{{resize:224,crop:224}},{{resize:256,crop:224}}], got {cfg.ensemble}"
        )
    return [whole[0], *(view for view in views if view is not whole[0])]
