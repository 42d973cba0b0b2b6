"""Train and test detectors: ``python -m occ_lab.train --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import benchmark_of, conf_dir
from occ_lab.config.sweeps import perform
from occ_lab.utils.scratch import visible


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    return perform(work, cfg)


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    # Said before torch is imported, which takes seconds: the most common mistake. What a run has
    # finished can be had without its images.
    if not (cfg.resume and visible(directory, "tasks/*/metrics.json")):
        benchmark_of(cfg).tasks()

    from occ_lab.config.job import perform_run

    perform_run(cfg, directory)


if __name__ == "__main__":
    start(main, "train")
