"""Score new images with a trained detector: ``python -m occ_lab.predict --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import conf_dir
from occ_lab.config.errors import messages_alone
from occ_lab.utils.exclusive import exclusive


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="predict")
def main(cfg: DictConfig) -> None:
    """One pass over the images; the exit code is 1 if some could not be read."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        from occ_lab.config.predict import perform_predict

        found = perform_predict(cfg, directory)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "predict")
