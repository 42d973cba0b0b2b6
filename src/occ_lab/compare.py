"""Several methods over the same features, one table: ``python -m occ_lab.compare --help``."""

from __future__ import annotations

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from occ_lab.config.command_line import start
from occ_lab.config.composition import benchmark_of, conf_dir
from occ_lab.config.errors import messages_alone
from occ_lab.utils.exclusive import exclusive


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="compare")
def main(cfg: DictConfig) -> None:
    """One comparison, or one job of a multirun; the exit code is 1 if a method failed."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        # Reported before torch is imported, which takes seconds: the most common mistake.
        benchmark_of(cfg).tasks()

        from occ_lab.config.compare import perform_comparison

        found = perform_comparison(cfg, directory)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "compare")
