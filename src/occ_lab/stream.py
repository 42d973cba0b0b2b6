"""Score each incoming image, then update the detector: ``python -m occ_lab.stream --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import benchmark_of, conf_dir
from occ_lab.config.sweeps import perform


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="stream")
def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    return perform(work, cfg, "occ_lab.stream")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    if cfg.input is None and cfg.run is None:
        benchmark_of(cfg).tasks()  # absent data is reported before torch is imported

    from occ_lab.config.stream import perform_stream

    perform_stream(cfg, directory)


if __name__ == "__main__":
    start(main, "stream")
