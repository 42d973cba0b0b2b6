"""A bound on what threads hold in memory together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Budget:
    """Lets threads go on as long as what they ask for fits, and others wait.

    What is larger than the whole budget goes on alone.

    Args:
        total: of all threads together, such as bytes; above 0.

    Attributes:
        held: by all threads at the moment.

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
        """Hold an amount for as long as the block lasts; waits until it is there."""
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
