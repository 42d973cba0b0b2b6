"""Every norm from one set of features: ``python -m occ_lab.norm_study --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from occ_lab.config import build, conf_dir
from occ_lab.sweep import perform


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="norm_study")
def main(cfg: DictConfig) -> float | None:
    """One study, or one job of a multirun."""
    return perform("occ_lab.norm_study", work, cfg)


def work(cfg: DictConfig, directory: Path) -> None:
    """What is done in the output directory."""
    # Said before torch is imported, which takes seconds: the most common mistake.
    build(cfg.dataset, "dataset").tasks()

    from occ_lab.study import study

    study(cfg, directory)


if __name__ == "__main__":
    main()
