"""Learn a representation, then a density of it: ``occ-lab two-stage --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> float | None:
    """Both stages, or one job of a multirun."""
    from occ_lab.config.sweeps import perform

    return perform(work, cfg, "occ_lab.two_stage")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    from occ_lab.config.composition import benchmark_of

    # Reported before torch is imported, which takes seconds: the most common mistake.
    benchmark_of(cfg).tasks()

    from occ_lab.config.two_stage import perform_both_stages

    perform_both_stages(cfg, directory)


if __name__ == "__main__":
    start(main, "two_stage")
