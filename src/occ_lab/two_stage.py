"""Learn a representation, then a density of it: ``python -m occ_lab.two_stage --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import benchmark_of, conf_dir
from occ_lab.config.sweeps import perform


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="two_stage")
def main(cfg: DictConfig) -> float | None:
    """Both stages, or one job of a multirun."""
    return perform(work, cfg, "occ_lab.two_stage")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    # Reported before torch is imported, which takes seconds: the most common mistake.
    benchmark_of(cfg).tasks()

    from occ_lab.config.two_stage import perform_both_stages

    perform_both_stages(cfg, directory)


if __name__ == "__main__":
    start(main, "two_stage")
