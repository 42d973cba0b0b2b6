"""The commands of the package, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command(
    module: str, *arguments: str, cwd: Path, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m occ_lab.MODULE ARGUMENTS`` in a folder, maybe with a cache of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"occ_lab.{module}", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "140", **({"OCC_LAB_CACHE": str(cache)} if cache else {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
