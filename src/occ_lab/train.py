"""Train and test detectors: ``occ-lab train --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    from occ_lab.config.sweeps import perform

    return perform(work, cfg)


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    from occ_lab.config.composition import benchmark_of
    from occ_lab.utils.scratch import visible

    # Said before torch is imported, which takes seconds: the most common mistake. What a run has
    # finished can be had without its images.
    if not (cfg.resume and visible(directory, "tasks/*/metrics.json")):
        benchmark_of(cfg).tasks()

    from occ_lab.config.sweeps import shared_by_jobs
    from occ_lab.config.train import perform_run

    perform_run(cfg, directory, shared=shared_by_jobs())


if __name__ == "__main__":
    start(main, "train")
