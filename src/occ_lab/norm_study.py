"""Every norm from one set of features: ``occ-lab norm-study --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """One study, or one job of a multirun."""
    from hydra.core.hydra_config import HydraConfig

    from occ_lab.config.errors import messages_alone
    from occ_lab.utils.exclusive import exclusive

    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        from occ_lab.config.composition import benchmark_of

        # Reported before torch is imported, which takes seconds: the most common mistake.
        benchmark_of(cfg).tasks()

        from occ_lab.config.norm_study import perform_study

        perform_study(cfg, directory)


if __name__ == "__main__":
    start(main, "norm_study")
