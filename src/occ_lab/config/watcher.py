"""The callbacks, loggers and the W&B run of a run, as the configuration names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from occ_lab.config.trainer import make_callbacks, make_loggers, wandb_settings
from occ_lab.reporting.tracking import Tracking, tracked


class ConfiguredWatcher(Tracking):
    """A `Watcher` whose callbacks and loggers are those of a configuration.

    Args:
        cfg: the whole configuration, resolved.
        tracking: the W&B run, and how much is sent to it.
    """

    def __init__(self, cfg: DictConfig, tracking: Tracking) -> None:
        super().__init__(tracking.wandb, tracking.directory, tracking.limits)
        self.cfg = cfg

    def loggers(self, task: str, folder: Path) -> list[Logger]:
        """The loggers of a task whose outputs go to ``folder``."""
        return make_loggers(self.cfg, task, folder)

    def callbacks(self, task: str, folder: Path) -> list[Callback]:
        """The callbacks of a fit of a task."""
        return make_callbacks(self.cfg, task, folder)


@contextmanager
def watched(
    cfg: DictConfig, directory: Path, leads: bool, job: str | None = None
) -> Iterator[ConfiguredWatcher]:
    """What follows a run; its W&B run is finished when the block ends.

    Args:
        cfg: the whole configuration, resolved.
        directory: the run directory.
        leads: whether this is the first process of the run.
        job: the W&B run's job type; by default the name of the loss.

    Raises:
        InputError: W&B is asked for and is not installed.
    """
    config = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(config, dict)
    config.pop("task", None)
    named = {str(key): value for key, value in config.items()}
    with tracked(wandb_settings(cfg), named, directory, leads, job or cfg.loss.name) as tracking:
        yield ConfiguredWatcher(cfg, tracking)
