"""Lightning's Trainer, its callbacks and its loggers, as the configuration names them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from occ_lab.config.composition import build
from occ_lab.config.errors import UserError
from occ_lab.utils.errors import InputError
from occ_lab.utils.precision import check_training_precision
from occ_lab.utils.quiet import quiet_lightning

TASK_LOGGER = "occ_lab.reporting.tracking.TaskLogger"
OF_VALIDATION = ("val_",)  # how the names of metrics of held-out images begin
OF_TASK = ("callbacks", "logger", "trainer")  # what may refer to the task
BROUGHT = ("callbacks", "logger")  # arguments of the Trainer that have groups of their own


def make_callbacks(cfg: DictConfig, task: str, folder: Path) -> list[Callback]:
    """The callbacks of a task: all of the group ``callbacks`` and of ``trainer.callbacks``.

    They are made for each training; Lightning's callbacks keep a state.

    Args:
        cfg: the whole configuration.
        task: the name of the task, which values can refer to as ``${task.name}``.
        folder: the folder of its outputs, ``${task.folder}``.

    Returns:
        The callbacks, the group's first. Where any of them monitors a metric, a check comes before
        them: training stops with a message after the first epoch if there is no such metric.

    Raises:
        UserError: a class that cannot be imported or is no callback, or a value that it refuses.
    """
    found = _named(_of_task(cfg, task, folder), "callbacks", Callback)
    monitored = {
        f"{key}.monitor": name for key, each in found if (name := getattr(each, "monitor", None))
    }
    checks: list[Callback] = [MonitorCheck(monitored)] if monitored else []
    return [*checks, *(each for _, each in found)]


def make_loggers(cfg: DictConfig, task: str, folder: Path) -> list[Logger]:
    """The loggers of a task: all of the group ``logger`` and of ``trainer.logger``.

    Arguments, errors and references to the task are those of `make_callbacks`.
    """
    return [each for _, each in _named(_of_task(cfg, task, folder), "logger", Logger)]


def make_trainer(
    cfg: DictConfig, loggers: Sequence[Logger], callbacks: Sequence[Callback], max_epochs: int
) -> Trainer:
    """Lightning's Trainer as ``cfg.trainer`` describes it.

    Checkpointing is on where one of the callbacks writes checkpoints. A training without a progress
    bar among its callbacks has that of the configuration, if there is one.

    Raises:
        UserError: arguments that the Trainer refuses.
    """
    arguments = [str(name) for name in cfg.trainer if name not in (*BROUGHT, "plugins")]
    saves = any(isinstance(each, Checkpoint) for each in callbacks)
    bars = [] if _bars(callbacks) else _bars(make_callbacks(cfg, "", Path()))
    shown = cfg.trainer.get("enable_progress_bar", bool(bars or _bars(callbacks)))
    with quiet_lightning():
        made: Trainer = _built(
            OmegaConf.masked_copy(cfg.trainer, arguments),
            "trainer",
            logger=list(loggers),
            callbacks=[*callbacks, *bars],
            max_epochs=max_epochs,
            enable_checkpointing=saves or bool(cfg.trainer.get("enable_checkpointing")),
            enable_progress_bar=shown,
            plugins=own_processes(cfg.trainer),
        )
    return made


def own_processes(trainer: DictConfig) -> Any:
    """The Trainer's plugins: as given, or for several devices in a single task of SLURM.

    Lightning takes every task of SLURM for a process that SLURM has started for one device. A job
    that has one task, as those of ``launcher=slurm`` have, starts the other processes itself.
    """
    if "plugins" in trainer:
        return build(trainer.plugins, "trainer.plugins")
    alone = os.environ.get("SLURM_NTASKS") == "1" and trainer.get("num_nodes", 1) == 1
    return [LightningEnvironment()] if alone else None


def check_trainer(cfg: DictConfig) -> None:
    """Make all callbacks, loggers and the Trainer once, to find errors in them before any work.

    Raises:
        UserError: as of `make_callbacks` and `make_trainer`, a precision that detectors do not
            support, or a metric of held-out images is monitored and none are held out.
    """
    for each in make_callbacks(cfg, "task", Path("task")):
        for key, name in each.monitored.items() if isinstance(each, MonitorCheck) else ():
            if name.startswith(OF_VALIDATION) and not OmegaConf.select(cfg, "loader.validation"):
                raise UserError(
                    f"{key}: {name} is computed on held-out normal images; set "
                    "loader.validation to a fraction of the training images, such as 0.1"
                )
    make_loggers(cfg, "task", Path("task"))
    trainer = make_trainer(cfg, [], [], max_epochs=1)
    try:
        check_training_precision(trainer.precision)
    except InputError as error:
        raise UserError(f"trainer.{error}") from error


def wandb_settings(cfg: DictConfig) -> dict[str, Any] | None:
    """The arguments of ``wandb.init`` where the configuration logs to W&B, else None."""
    for node in (cfg.get("logger") or {}).values():
        if isinstance(node, DictConfig) and node.get("_target_") == TASK_LOGGER:
            given = [str(name) for name in node if name not in ("_target_", "prefix")]
            settings = OmegaConf.to_container(OmegaConf.masked_copy(node, given), resolve=True)
            assert isinstance(settings, dict)
            return {str(name): value for name, value in settings.items()}
    return None


class MonitorCheck(Callback):
    """Stops a training whose callbacks monitor what is not there.

    Args:
        monitored: the name of a metric, by the configuration key of its callback.
    """

    def __init__(self, monitored: Mapping[str, str]) -> None:
        self.monitored = dict(monitored)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Look for the metrics of a validation.

        Raises:
            UserError: one is not logged.
        """
        if not trainer.sanity_checking:
            self._look_for(OF_VALIDATION, trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Look for all others, which are there by now.

        Raises:
            UserError: one is not logged.
        """
        self._look_for(("",), trainer, but=OF_VALIDATION if trainer.enable_validation else ())

    def _look_for(
        self, prefixes: tuple[str, ...], trainer: Trainer, but: tuple[str, ...] = ()
    ) -> None:
        logged = trainer.callback_metrics
        for key, name in self.monitored.items():
            if name.startswith(prefixes) and not name.startswith(but) and name not in logged:
                known = ", ".join(sorted(logged)) or "none, since nothing is learned by gradient"
                raise UserError(f"{key}: no metric {name!r} is logged; there are: {known}")


def _built(node: DictConfig, key: str, **values: Any) -> Any:
    """As `build`; what Lightning calls a misconfiguration becomes a message as well."""
    try:
        return build(node, key, **values)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise UserError(f"{key}: {error.__cause__}") from error
        raise


def _bars(callbacks: Sequence[Callback]) -> list[Callback]:
    return [each for each in callbacks if isinstance(each, ProgressBar)]


def _of_task(cfg: DictConfig, task: str, folder: Path) -> DictConfig:
    # A copy of the whole configuration would take as long as the rest of a small job's set-up.
    filled = OmegaConf.masked_copy(cfg, [name for name in OF_TASK if name in cfg])
    with open_dict(filled):
        filled.task = {"name": task, "folder": str(folder)}
    return filled


def _named(cfg: DictConfig, group: str, kind: type[Any]) -> list[tuple[str, Any]]:
    """The objects of a group and of the trainer's argument of that name, by their keys."""
    nodes = {f"{group}.{name}": node for name, node in (cfg.get(group) or {}).items()}
    more = cfg.trainer.get(group)
    if isinstance(more, ListConfig):
        nodes |= {f"trainer.{group}[{index}]": node for index, node in enumerate(more)}
    elif more is not None:
        nodes[f"trainer.{group}"] = more
    found = []
    for key, node in nodes.items():
        if node is None or (node is False and not key.startswith("trainer.")):
            continue  # switched off
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise UserError(
                f"{key}: {node} names no class; give its arguments and the class as _target_, or "
                f"choose from the group with {group}=NAME"
            )
        made = _built(node, key)
        if not isinstance(made, kind):
            raise UserError(f"{key}._target_: {node._target_} is not a Lightning {kind.__name__}")
        found.append((key, made))
    return found
