"""Values that are kept in memory for later use, within a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from types import ModuleType
from typing import Any

MB = 1e6


class Memo:
    """Keeps values by their keys as long as they fit into a limit of memory.

    Before a new value exceeds the limit, the most recently used values are dropped. Jobs of a sweep
    ask for the same keys in turn, so that the value that was used longest ago is needed next.

    Args:
        limit_mb: the limit for all values together, in MB (1e6 bytes); a larger value is not kept.

    Attributes:
        held: the bytes of all values.

    Example:
        >>> memo = Memo(limit_mb=1e-3)
        >>> memo.keep("a", bytearray(600))
        >>> memo.keep("b", bytearray(500))  # drops a
        >>> memo.get("a") is None, len(memo.get("b")), memo.held
        (True, 500, 500)
    """

    def __init__(self, limit_mb: float) -> None:
        self.limit = limit_mb * MB
        self.held = 0
        self._lock = Lock()  # threads read masks
        self._values: dict[str, tuple[Any, int]] = {}  # in the order of their use

    def get(self, key: str) -> Any | None:
        """The value of a key itself, not a copy; None if it is not kept."""
        with self._lock:
            found = self._values.pop(key, None)
            if found is None:
                return None
            self._values[key] = found
            return found[0]

    def keep(self, key: str, value: Any) -> None:
        """Keep a value if it fits."""
        size = memory_of(value)
        if size > self.limit:
            return
        with self._lock:
            self._drop(key)
            while self.held + size > self.limit:
                self._drop(next(reversed(self._values)))
            self._values[key] = value, size
            self.held += size

    def _drop(self, key: str) -> None:
        self.held -= self._values.pop(key, (None, 0))[1]


def memory_of(value: Any, counted: set[int] | None = None) -> int:
    """The bytes of all arrays, tensors and strings of bytes in a value and its attributes.

    Args:
        value: any object.
        counted: the identities of the objects that were counted already; it grows.

    Example:
        >>> memory_of({"name": "ones", "values": [bytes(3), bytes(4)]})
        7
    """
    counted = set() if counted is None else counted
    if id(value) in counted or isinstance(value, type | ModuleType):
        return 0
    counted.add(id(value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, bytes | bytearray):
        return len(value)
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple | set):
        parts = value
    elif hasattr(value, "__dict__"):
        parts = vars(value).values()
    return sum(memory_of(part, counted) for part in parts)
