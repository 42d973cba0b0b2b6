"""The peak memory of a part of a run."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

MB = 1e6


def reset_peak() -> None:
    """Start to measure a new peak, on CUDA devices and on Linux; otherwise nothing happens."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak_mb() -> float | None:
    """Peak memory since the last reset: of the GPU if there is one, otherwise of the process.

    Returns:
        MB (1e6 bytes); None if the system does not report it.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MB
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak * 1024 / MB
