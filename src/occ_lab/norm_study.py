"""Every norm from one set of features: ``python -m occ_lab.norm_study --help``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from occ_lab.config.composition import build, conf_dir, prepared
from occ_lab.config.errors import user_messages


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="norm_study")
def main(cfg: DictConfig) -> None:
    """One study, or one job of a multirun."""
    with user_messages():
        # Reported before torch is imported, which takes seconds: the most common mistake.
        build(cfg.dataset, "dataset").tasks()

        from occ_lab.config.norm_study import perform_study

        perform_study(cfg, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    sys.argv[1:] = prepared(sys.argv[1:])
    main()
