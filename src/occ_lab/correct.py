"""Learn the false alarms of a detector, and forget what it must not know."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import conf_dir
from occ_lab.config.errors import messages_alone


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="correct")
def main(cfg: DictConfig) -> None:
    """One pass over the images that the detector knows."""
    with messages_alone():
        from occ_lab.config.correct import perform_correct

        perform_correct(cfg)


if __name__ == "__main__":
    start(main, "correct")
