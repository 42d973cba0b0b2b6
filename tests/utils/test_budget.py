"""Threads together never hold more than a budget, and all of them finish."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from occ_lab.utils.budget import Budget


def test_threads_keep_to_the_budget() -> None:
    budget, held = Budget(10), []

    def work(amount: int) -> int:
        with budget.of(amount):
            held.append(budget.held)
        return amount

    amounts = [1, 3, 7, 10, 25, 4] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, amounts)) == amounts
    assert 0 < max(held) <= 10
    assert budget.held == 0


def test_an_error_frees_what_was_held() -> None:
    budget = Budget(10)
    with pytest.raises(OSError, match="damaged"), budget.of(10):
        raise OSError("damaged")
    assert budget.held == 0
