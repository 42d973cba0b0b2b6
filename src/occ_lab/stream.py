"""Score each incoming image, then update the detector: ``python -m occ_lab.stream --help``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config.composition import build, conf_dir, prepared
from occ_lab.config.sweeps import perform


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="stream")
def main(cfg: DictConfig) -> float | None:
    """One run, or one job of a multirun."""
    return perform(work, cfg, "occ_lab.stream")


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    if cfg.input is None:
        build(cfg.dataset, "dataset").tasks()  # absent data is reported before torch is imported

    from occ_lab.config.stream import perform_stream

    perform_stream(cfg, directory)


if __name__ == "__main__":
    sys.argv[1:] = prepared(sys.argv[1:])
    main()
