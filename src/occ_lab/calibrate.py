"""Calibrate a trained detector on normal images: ``python -m occ_lab.calibrate --help``."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import conf_dir
from occ_lab.config.errors import messages_alone


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="calibrate")
def main(cfg: DictConfig) -> None:
    """One pass over the images; the exit code is 1 if some could not be read."""
    with messages_alone():
        from occ_lab.config.calibrate import perform_calibrate

        found = perform_calibrate(cfg)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "calibrate")
