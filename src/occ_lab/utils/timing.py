"""How long the parts of a work take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the duration of the block to ``seconds``."""
    started = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - started
