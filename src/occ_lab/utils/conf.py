"""The location of the configuration files."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> str:
    """The folder ``conf``: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parents[1] / "conf")
