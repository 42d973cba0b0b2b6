"""Write a trained detector as one file for other runtimes: ``occ-lab export --help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Write the file, and check it against the detector."""
    from occ_lab.config.errors import messages_alone

    with messages_alone():
        from occ_lab.config.export import perform_export

        perform_export(cfg)


if __name__ == "__main__":
    start(main, "export")
