"""Score images that are sent, and those of a folder: ``occ-lab serve --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Serve until Ctrl-C."""
    from hydra.core.hydra_config import HydraConfig

    from occ_lab.config.errors import messages_alone
    from occ_lab.utils.exclusive import exclusive

    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        from occ_lab.config.serve import perform_serve

        perform_serve(cfg, directory)


if __name__ == "__main__":
    start(main, "serve")
