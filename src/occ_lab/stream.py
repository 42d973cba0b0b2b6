"""Learn from images as they come: ``python -m occ_lab.stream --help``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config.composition import build, conf_dir, file_backbones
from occ_lab.config.sweeps import perform


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="stream")
def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    return perform(work, cfg, "occ_lab.stream")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    if cfg.input is None:
        build(cfg.dataset, "dataset").tasks()  # absent data is told before torch is imported

    from occ_lab.engine.stream import stream

    stream(cfg, directory)


if __name__ == "__main__":
    sys.argv[1:] = file_backbones(sys.argv[1:])
    main()
