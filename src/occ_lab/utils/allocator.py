"""A setting of the C library's allocator that makes CPU runs several times faster."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let freed memory be used again in place of going back to the system.

    Feature maps are tens of MB, for which the GNU C library asks the system anew at every batch,
    and the system hands out zeroed pages one by one: often more work than the convolution that
    fills them. Where there is another C library, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 64 * 2**20)
