"""Where installed packages keep configuration of their own for this project."""

from __future__ import annotations

import importlib.util
from pathlib import Path

GROUP = "occ_lab.configs"  # of entry points


def folder_of(package: str) -> Path | None:
    """The folder with the YAML files of a package, or None where there is no such package."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder / "conf" if (folder / "conf").is_dir() else folder
