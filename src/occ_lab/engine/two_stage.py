"""Both stages of two-stage one-class classification, for every task of a dataset."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from rich.console import Console

import occ_lab
from occ_lab.backbones.learned import SUFFIX, save_encoder
from occ_lab.config.composition import build, check_value, conf_dir, resolved, unresolved
from occ_lab.data.base import Benchmark
from occ_lab.engine.representation import FIGURES, learn, make_representation
from occ_lab.engine.run import check as check_run
from occ_lab.engine.run import run
from occ_lab.reporting.record import UNTOLD, keep_settings, leads, mean_metrics, to_json
from occ_lab.reporting.tables.two_stage import stages_table
from occ_lab.reporting.tracking import tracked
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import write_whole

FEATURES = ("pooled", "head")
OWN = "turns"  # what the classifier's own score sees
SHARED = ("dataset", "scoring", "cache", "loader", "logger", "explain", "seed", "maps", "resume")
# Settings that stage 1 knows not of.
FREE = ("density", "features", "stride", "precision", "explain", "scoring")


def both_stages(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    """Train an encoder for every task, then every density on what they have learned.

    Args:
        cfg: the configuration of ``occ_lab.two_stage``.
        directory: the run directory. Encoders are ``backbones/TASK.safetensors``, curves of their
            training ``stage1/TASK/``; each density is a run of its own in ``densities/``.

    Returns:
        The figures of each density, by its name: as in ``metrics.json`` of a run.

    Raises:
        InputError: a value out of range, absent data, results already there; before any training.
    """
    keep_freed_memory()
    cfg = resolved(cfg)
    benchmark = build(cfg.dataset, "dataset")
    plans = check(cfg, benchmark)
    if leads():
        settle(cfg, directory)
    learned = first_stage(cfg, benchmark, directory)
    runs = {}
    for name, plan in plans.items():
        plan.backbone.path = str(directory / "backbones")
        runs[name] = run(plan, directory / "densities" / name)
    if leads():
        told = {name: {"tasks": tasks, "mean": mean_metrics(tasks)} for name, tasks in runs.items()}
        header = {
            "dataset": cfg.dataset.name,
            "representation": cfg.representation.name,
            "seed": cfg.seed,
            "version": occ_lab.__version__,
        }
        content = {**header, "stage1": learned, "densities": told}
        write_whole(directory / "two_stage.json", to_json(content))
        console = Console()
        spent = sum(facts["seconds"] for facts in learned.values())
        title = (
            f"{cfg.representation.name} on {cfg.dataset.name}, seed {cfg.seed}, stage 1 in "
            f"{spent:.0f} s (means over {len(learned)} tasks, per cent)"
        )
        console.print(stages_table(title, runs))
        console.print(f"backbones: {directory / 'backbones'}", soft_wrap=True)
        console.print(f"runs:      {directory / 'densities'}/*", soft_wrap=True)
    return runs


def check(cfg: DictConfig, benchmark: Benchmark) -> dict[str, DictConfig]:
    """Build what can be built, and compose stage 2, before any work.

    Returns:
        The configuration of each run of stage 2, by its name.
    """
    benchmark.tasks()
    for key in ("seed", "maps", "loader.workers"):
        check_value(cfg, key, at_least=0, integer=True)
    for key in ("epochs", "batch_size", "save_epochs"):
        check_value(cfg, f"representation.fit.{key}", at_least=1, integer=True)
    representation = make_representation(cfg)
    side = representation.encoder.side
    if representation.patches and side > benchmark.crop:
        raise InputError(
            f"representation.encoder.side: patches of {side} px are larger than the images "
            f"(dataset.crop={benchmark.crop})"
        )
    if not representation.patches and side != benchmark.crop:
        raise InputError(
            f"representation.encoder.side must be dataset.crop={benchmark.crop} where it learns "
            f"from whole images (patches=0), got {side}"
        )
    plans: dict[str, DictConfig] = {}
    for features in several(cfg, "features"):
        if features not in FEATURES:
            raise InputError(f"features must be of {', '.join(FEATURES)}, got {features!r}")
        for density in several(cfg, "density"):
            plans[f"{density}_{features}".replace(" ", "_")] = plan(cfg, density, features)
    if cfg.representation.own_score:
        own = cfg.representation.own_score
        plans[own] = plan(cfg, own, OWN)
    with tempfile.TemporaryDirectory() as folder:
        untrained = Path(folder) / f"untrained{SUFFIX}"
        save_encoder(representation.encoder, representation.patches, untrained)
        for each in plans.values():
            each.backbone.path = str(untrained)
            check_run(each)
    return plans


def several(cfg: DictConfig, key: str) -> list[str]:
    """The values of a key that is one or a list.

    Raises:
        InputError: there is none.
    """
    given = cfg[key]
    values = [str(value) for value in (given if isinstance(given, ListConfig) else [given])]
    if not values or "" in values or given is None:
        raise InputError(f"{key} must be a name or a list of names, got {given!r}")
    return values


def plan(cfg: DictConfig, density: str, features: str) -> DictConfig:
    """The configuration of ``occ_lab.train`` for a density on learned features."""
    loss, *settings = density.split()
    known = sorted(path.stem for path in Path(conf_dir(), "loss").glob("*.yaml"))
    if loss not in known:
        raise InputError(f"density must be of {', '.join(known)}, got {loss!r}")
    train = unresolved("train", [f"loss={loss}", "backbone=file", *settings])
    with open_dict(train):
        for key in SHARED:
            train[key] = OmegaConf.create({"_": cfg[key]})["_"]
        for key in ("accelerator", "devices", "strategy"):
            train.trainer[key] = cfg.trainer[key]
        train.backbone.name = cfg.representation.name
        train.backbone.features = features
        train.backbone.stride = cfg.stride
        train.backbone.precision = cfg.precision
        train.backbone.path = "(to be learned)"
    OmegaConf.resolve(train)
    return train


def settle(cfg: DictConfig, directory: Path) -> None:
    """Keep the configuration; refuse a directory where another one has begun."""
    begun = any(directory.glob(f"backbones/*{SUFFIX}")) or any(directory.glob("stage1/*/last.ckpt"))
    keep_settings(directory, cfg, begun, (*UNTOLD, *FREE))


def keep_curve(folder: Path) -> None:
    """Put the curve of a stopped training aside: a logger begins its file anew."""
    curve = folder / "metrics.csv"
    if curve.is_file():
        earlier = len(list(folder.glob("metrics.*.csv")))
        curve.rename(folder / f"metrics.{earlier + 1}.csv")


def first_stage(cfg: DictConfig, benchmark: Benchmark, directory: Path) -> dict[str, Any]:
    """Train the encoder of every task that has none yet; what was told of each.

    Raises:
        SystemExit: Ctrl-C; what is finished stays, and the last checkpoint.
    """
    console = Console(quiet=not leads())
    tasks = benchmark.tasks()
    done = 0
    try:
        with tracked(cfg, directory, leads(), cfg.representation.name) as tracking:
            for place, task in enumerate(tasks, start=1):
                title = f"{cfg.representation.name}, {task} ({place} of {len(tasks)})"
                target = directory / "backbones" / f"{task}{SUFFIX}"
                if target.is_file():
                    console.print(f"{title}: learned before, skipped")
                else:
                    console.rule(title, align="left")
                    folder = directory / "stage1" / task
                    if leads():
                        keep_curve(folder)
                    learn(cfg, benchmark, task, folder, target, tracking.loggers(task, folder), [])
                done += 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C during a fit into an exit
        console.print(f"\nStopped; {done} of {len(tasks)} encoders are finished.")
        again = f"Go on: the same command with resume=true hydra.run.dir={directory}"
        console.print(again, soft_wrap=True)
        raise SystemExit(130) from None
    if not leads():
        return {}
    facts = {task: directory / "stage1" / task / FIGURES for task in tasks}
    return {task: json.loads(path.read_text(encoding="utf-8")) for task, path in facts.items()}
