"""Several methods over the same features, one table: ``occ-lab compare --help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from occ_lab.config.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """One comparison, or one job of a multirun; the exit code is 1 if a method failed."""
    from hydra.core.hydra_config import HydraConfig

    from occ_lab.config.errors import messages_alone
    from occ_lab.utils.exclusive import exclusive

    directory = Path(HydraConfig.get().runtime.output_dir)
    with messages_alone(), exclusive(directory):
        from occ_lab.config.composition import benchmark_of

        # Reported before torch is imported, which takes seconds: the most common mistake.
        benchmark_of(cfg).tasks()

        from occ_lab.config.compare import perform_comparison

        found = perform_comparison(cfg, directory)
    if found.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    start(main, "compare")
