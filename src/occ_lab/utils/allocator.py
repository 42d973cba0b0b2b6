"""A setting of the C library's allocator that makes runs on a CPU faster."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let the process reuse freed memory instead of returning it to the system.

    Feature maps take tens of MB. The GNU C library returns such memory to the system at once and
    asks for it again at the next batch, and the system hands out zeroed pages one by one.

    The setting applies to the whole process, so only the commands call this function, before any
    other work. It speeds up passes on a CPU under Linux; with another C library it does nothing.
    Measured on a cold run of the closed form: with 213 + 100 images it takes 13 % less CPU time and
    a fifth of the page faults, and uses 18 % more peak memory; with 24 + 2,000 images it takes 26 %
    less CPU time (``experiments/allocator``).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 64 * 2**20)
