"""Write a trained detector as one file for other runtimes: ``python -m occ_lab.export --help``."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import conf_dir
from occ_lab.config.errors import messages_alone


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="export")
def main(cfg: DictConfig) -> None:
    """Write the file, and check it against the detector."""
    with messages_alone():
        from occ_lab.config.export import perform_export

        perform_export(cfg)


if __name__ == "__main__":
    start(main, "export")
