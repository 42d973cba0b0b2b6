"""Calibrate a trained detector on normal images: ``occ-lab calibrate --help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """One pass over the images; the exit code is 1 if some could not be read."""
    from occ_lab.config.errors import messages_alone

    with messages_alone():
        from occ_lab.config.calibrate import perform_calibrate

        found = perform_calibrate(cfg)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "calibrate")
