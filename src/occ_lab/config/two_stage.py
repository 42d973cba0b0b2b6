"""Both stages, as the configuration of ``occ_lab.two_stage`` describes them."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

import occ_lab
from occ_lab.backbones.learned import SUFFIX, save_encoder
from occ_lab.config.composition import build, check_value, resolved
from occ_lab.config.errors import UserError
from occ_lab.config.job import make_job
from occ_lab.config.methods import method_run, several
from occ_lab.config.process import prepare_process
from occ_lab.config.train import perform_run, settings
from occ_lab.config.trainer import check_trainer, make_trainer
from occ_lab.config.watcher import watched
from occ_lab.engine.representation import RepresentationPlan, check_side
from occ_lab.engine.two_stage import BACKBONES, DENSITIES, begun, learn_encoders, report
from occ_lab.pretraining.representation import Representation
from occ_lab.reporting.record import NOT_COMPARED, keep_settings, leads

FEATURES = ("pooled", "head")
OWN = "turns"  # the features that the classifier's own score is computed from
LEAST = {  # the least that these numbers may be
    "seed": 0,
    "maps": 0,
    "loader.workers": 0,
    "representation.fit.epochs": 1,
    "representation.fit.batch_size": 1,
    "representation.fit.save_epochs": 1,
}
NOT_ARGUMENTS = ("name", "fit", "own_score")  # of a representation's class
SHARED = ("dataset", "scoring", "cache", "logger", "explain", "seed", "maps", "gallery", "resume")
# Keys of stage 2, which do not affect stage 1.
FREE = ("density", "features", "stride", "precision", "explain", "scoring")


def perform_both_stages(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    """Train an encoder for every task, then fit every density to its features.

    Args:
        cfg: the configuration of ``occ_lab.two_stage``.
        directory: the run directory. Encoders are ``backbones/TASK.safetensors``, curves of their
            training ``stage1/TASK/``; each density is a run of its own in ``densities/``.

    Returns:
        The metrics of each density's tasks, by its name.

    Raises:
        UserError: a value out of range, absent data, or results that are there already; before any
            training.
    """
    cfg = resolved(cfg)
    prepare_process(cfg)
    for key, least in LEAST.items():
        check_value(cfg, key, at_least=least, integer=True)
    check_trainer(cfg)
    benchmark = build(cfg.dataset, "dataset")
    benchmark.tasks()
    if benchmark.unified:
        raise UserError(
            "dataset.protocol: two_stage trains an encoder for each task; unified is for "
            "occ-lab train"
        )
    plan = representation_plan(cfg)
    representation = plan.module()
    check_side(representation, benchmark)
    densities = densities_of(cfg)
    check_densities(densities, representation)
    if leads():
        compared = (*NOT_COMPARED, *FREE)
        keep_settings(directory, settings(cfg), bool(cfg.resume), begun(directory), compared)
    with watched(cfg, directory, leads(), plan.name) as watcher:
        learned = learn_encoders(plan, benchmark, directory, watcher)
    runs = {}
    for name, density in densities.items():
        density.backbone.path = str(directory / BACKBONES)
        runs[name] = perform_run(density, directory / DENSITIES / name)
    if leads():
        header = {
            "dataset": cfg.dataset.name,
            "representation": plan.name,
            "seed": cfg.seed,
            "version": occ_lab.__version__,
        }
        report(directory, header, learned, runs, cfg.published)
    return runs


def representation_plan(cfg: DictConfig) -> RepresentationPlan:
    """How encoders are trained, as a resolved configuration describes it."""
    given, fit = cfg.representation, cfg.representation.fit
    arguments = [str(key) for key in given if key not in NOT_ARGUMENTS]
    return RepresentationPlan(
        module=partial(build, OmegaConf.masked_copy(given, arguments), "representation"),
        name=given.name,
        epochs=fit.epochs,
        batch_size=fit.batch_size,
        save_every=fit.save_epochs,
        workers=cfg.loader.workers,
        seed=cfg.seed,
        trainer=partial(make_trainer, cfg),
    )


def densities_of(cfg: DictConfig) -> dict[str, DictConfig]:
    """The configuration of ``occ_lab.train`` for each run of stage 2, by its name.

    Raises:
        UserError: an unknown density or unknown features.
    """
    found: dict[str, DictConfig] = {}
    for features in several(cfg, "features"):
        if features not in FEATURES:
            raise UserError(f"features must be of {', '.join(FEATURES)}, got {features!r}")
        for density in several(cfg, "density"):
            found[f"{density}_{features}".replace(" ", "_")] = density_run(cfg, density, features)
    if cfg.representation.own_score:
        own = cfg.representation.own_score
        found[own] = density_run(cfg, own, OWN)
    return found


def density_run(cfg: DictConfig, density: str, features: str) -> DictConfig:
    """The configuration of ``occ_lab.train`` for a density of learned features.

    Raises:
        UserError: there is no such density, or it changes what is shared.
    """
    train = method_run(cfg, "density", density, SHARED, ["backbone=file"])
    with open_dict(train):
        # Other callbacks follow the training of stage 1: most densities have no loss to monitor.
        train.callbacks = {
            key: cfg.callbacks[key] for key in cfg.callbacks if key == "progress_bar"
        }
        for key in ("accelerator", "devices", "strategy"):
            train.trainer[key] = cfg.trainer[key]
        train.backbone.name = cfg.representation.name
        train.backbone.features = features
        train.backbone.stride = cfg.stride
        train.backbone.precision = cfg.precision
        # A fold cannot be held out from an encoder that has seen all training images.
        train.calibration.folds = 0
    return train


def check_densities(densities: dict[str, DictConfig], representation: Representation) -> None:
    """Check every run of stage 2 with an encoder that is not trained.

    Raises:
        UserError: a value out of range, or parts that do not fit each other.
    """
    with tempfile.TemporaryDirectory() as folder:
        untrained = Path(folder) / f"untrained{SUFFIX}"
        save_encoder(representation.encoder, representation.patches, untrained)
        for density in densities.values():
            density.backbone.path = str(untrained)
            make_job(resolved(density))
