"""Limits of a service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occ_lab.serving.limits import Limits, Rate
from occ_lab.utils.errors import InputError


@given(
    rate=st.floats(0.1, 50),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_a_client_never_exceeds_its_rate(rate: float, pauses: list[float]) -> None:
    now = 0.0
    limit = Rate(rate, clock=lambda: now)
    through: list[float] = []
    for index, pause in enumerate(pauses):
        now += pause
        wait = limit.wait("a")
        if wait == 0:
            through.append(now)
        else:
            assert 0 < wait <= 1 / rate + 1e-9
            assert limit.wait(f"client {index}") == 0  # each has its own
    for first in range(len(through)):
        for last in range(first, len(through)):
            allowed = max(1.0, rate) + rate * (through[last] - through[first])
            assert last - first + 1 <= allowed + 1e-6


def test_a_client_that_waits_as_long_as_it_was_asked_to_comes_through() -> None:
    now = 0.0
    limit = Rate(3, clock=lambda: now)
    while (wait := limit.wait("a")) == 0:
        pass
    now += wait + 1e-9
    assert limit.wait("a") == 0


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", ""), ("::", "short"), ("127.0.0.1", "x")])
def test_others_need_a_token_that_cannot_be_guessed(host: str, token: str) -> None:
    with pytest.raises(InputError, match="OCC_LAB_TOKEN"):
        Limits(host, token)
