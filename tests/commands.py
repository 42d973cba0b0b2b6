"""The commands of the package, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import warm


def command(
    module: str,
    *arguments: str,
    cwd: Path,
    cache: Path | None = None,
    fresh: bool = False,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """``python -m occ_lab.MODULE ARGUMENTS`` in a folder, maybe with a cache of its own.

    Args:
        module: the command.
        arguments: of its command line.
        cwd: the folder.
        cache: ``OCC_LAB_CACHE``.
        fresh: whether a new Python is started, which takes seconds, see `tests.warm`.
        env: more of the environment.
    """
    more = {"COLUMNS": "140", **({"OCC_LAB_CACHE": str(cache)} if cache else {}), **(env or {})}
    asked = ["-m", f"occ_lab.{module}", *arguments]
    if not fresh:
        return warm.run(asked, cwd, {**os.environ, **more})
    return subprocess.run(
        [sys.executable, *asked],
        cwd=cwd,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=warm.PATIENCE,
        check=False,
    )
