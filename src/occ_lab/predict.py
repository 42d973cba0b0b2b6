"""Score new images with a trained detector: ``python -m occ_lab.predict --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from occ_lab.config.composition import conf_dir


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="predict")
def main(cfg: DictConfig) -> None:
    """One pass over the images; the exit code is 1 if some could not be read."""
    from occ_lab.inference.predict import predict

    if predict(cfg, Path(HydraConfig.get().runtime.output_dir)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
