"""A limit on the memory that several threads hold together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Budget:
    """Blocks a thread until the amount that it requests fits into the common limit.

    A request that is larger than the whole budget waits until nothing else is held.

    Args:
        total: the limit for all threads together, for example in bytes; above 0.

    Attributes:
        held: what all threads hold at the moment.

    Example:
        >>> budget = Budget(100)
        >>> with budget.of(60), budget.of(40):
        ...     budget.held
        100
        >>> with budget.of(1000):
        ...     budget.held
        100
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._freed = Condition()

    @contextmanager
    def of(self, amount: int) -> Iterator[None]:
        """Hold an amount while the block runs; waits until the amount is free."""
        amount = min(amount, self.total)
        with self._freed:
            self._freed.wait_for(lambda: self.held + amount <= self.total)
            self.held += amount
        try:
            yield
        finally:
            with self._freed:
                self.held -= amount
                self._freed.notify_all()
