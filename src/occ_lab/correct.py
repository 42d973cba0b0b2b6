"""Learn the false alarms of a detector, and forget defects: ``occ-lab correct --help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Two passes over the images that the detector has learned."""
    from occ_lab.config.errors import messages_alone

    with messages_alone():
        from occ_lab.config.correct import perform_correct

        perform_correct(cfg)


if __name__ == "__main__":
    start(main, "correct")
