"""Ctrl-C as a request to stop after the current step of work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that the current step can be completed.

    A second signal interrupts at once. Outside of the main thread, signals keep their handlers.

    Yields:
        The event.

    Example:
        >>> with stop_on_signal() as stop:
        ...     signal.raise_signal(signal.SIGINT)
        ...     stop.is_set()
        True
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for each in earlier:
        signal.signal(each, request)
    try:
        yield stop
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)
