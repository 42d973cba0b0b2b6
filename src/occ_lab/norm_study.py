"""Every norm from one set of features: ``python -m occ_lab.norm_study --help``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from occ_lab.config.composition import build, conf_dir, file_backbones


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="norm_study")
def main(cfg: DictConfig) -> None:
    """One study, or one job of a multirun."""
    # Said before torch is imported, which takes seconds: the most common mistake.
    build(cfg.dataset, "dataset").tasks()

    from occ_lab.engine.norm_study import study

    study(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    sys.argv[1:] = file_backbones(sys.argv[1:])
    main()
