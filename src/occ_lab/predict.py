"""Score new images with a trained detector: ``occ-lab predict --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """One pass over the images; the exit code is 1 if some could not be read."""
    from hydra.core.hydra_config import HydraConfig

    from occ_lab.config.errors import messages_alone
    from occ_lab.utils.exclusive import exclusive

    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        from occ_lab.config.predict import perform_predict

        found = perform_predict(cfg, directory)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "predict")
