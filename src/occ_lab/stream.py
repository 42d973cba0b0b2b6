"""Score each incoming image, then update the detector: ``occ-lab stream --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    from occ_lab.config.sweeps import perform

    return perform(work, cfg, "occ_lab.stream")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    from occ_lab.config.composition import benchmark_of

    if cfg.input is None and cfg.run is None:
        benchmark_of(cfg).tasks()  # absent data is reported before torch is imported

    from occ_lab.config.stream import perform_stream

    perform_stream(cfg, directory)


if __name__ == "__main__":
    start(main, "stream")
