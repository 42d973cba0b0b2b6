"""What protects the service: who may ask, how often, and how much at once."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from occ_lab.utils.errors import InputError, check_number

if TYPE_CHECKING:
    from starlette.requests import Request

LOCAL = ("127.0.0.1", "::1", "localhost")
COOKIE = "occ_lab_token"
CLIENTS = 10_000  # that are remembered at a time
PATIENCE = 30.0  # seconds in which an image must have come
SHORTEST = 16  # characters of a token


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Args:
        host: the address that it listens on.
        token: what every request must carry; empty where none is asked for.
        megabytes: the largest image, in megabytes (10⁶ bytes).
        rate: images a second that one client may send; 0 sets no limit.

    Raises:
        ValueError: a number is out of range; the message begins with its name.
        InputError: others than this machine can reach it and there is no token, or the token can
            be guessed.

    Example:
        >>> Limits("0.0.0.0")
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: token: other machines can reach 0.0.0.0, so a token of at \
least 16 characters is needed; set OCC_LAB_TOKEN
    """

    host: str = "127.0.0.1"
    token: str = ""
    megabytes: float = 50
    rate: float = 100

    def __post_init__(self) -> None:
        check_number("megabytes", self.megabytes, above=0)
        check_number("rate", self.rate, at_least=0)
        if (self.token or self.host not in LOCAL) and len(self.token) < SHORTEST:
            reason = (
                "it is too short"
                if self.host in LOCAL
                else f"other machines can reach {self.host}, so a token of at least {SHORTEST} "
                "characters is needed"
            )
            raise InputError(f"token: {reason}; set OCC_LAB_TOKEN")

    @property
    def bytes(self) -> int:
        """The largest image in bytes."""
        return int(1e6 * self.megabytes)

    def knows(self, request: Request) -> bool:
        """Whether a request carries the token: as a header, as a cookie or in its address."""
        if not self.token:
            return True
        kind, _, sent = request.headers.get("authorization", "").partition(" ")
        given = [
            sent if kind.lower() == "bearer" else "",
            request.cookies.get(COOKIE, ""),
            request.query_params.get("token", ""),
        ]
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given)

    def foreign(self, request: Request) -> bool:
        """Whether a page of another site has sent a request, or one that calls itself this machine.

        A browser sends requests of any page that it shows, also to this machine; and the name of
        any site can be made to stand for this machine's address.
        """
        if request.headers.get("sec-fetch-site") == "cross-site":
            return request.method != "GET" or request.headers.get("sec-fetch-mode") != "navigate"
        return self.host in LOCAL and (request.url.hostname or "") not in LOCAL


class Rate:
    """Lets each client through so many times a second, with bursts of one second's worth.

    Args:
        rate: the number; 0 sets no limit.
        clock: returns seconds.

    Example:
        >>> rate = Rate(2, clock=lambda: 0.0)
        >>> [rate.wait("10.0.0.7") for _ in range(3)]
        [0.0, 0.0, 0.5]
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.clock = clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """The seconds after which a client may ask again; 0 lets it through."""
        if not self.rate:
            return 0.0
        most, now = max(1.0, self.rate), self.clock()
        left, then = self._clients.pop(client, (most, now))
        left = min(most, left + (now - then) * self.rate)
        through = left >= 1
        self._clients[client] = (left - 1 if through else left, now)
        if len(self._clients) > CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if through else (1 - left) / self.rate


class TooLargeError(ValueError):
    """A request has more bytes than it may have."""


async def content_of(request: Request, most: int) -> bytes:
    """The body of a request.

    Args:
        request: the request.
        most: the largest number of bytes; no more are kept.

    Raises:
        TooLargeError: there are more.
        TimeoutError: they do not come.
    """
    if int(request.headers.get("content-length") or 0) > most:
        raise TooLargeError

    async def read() -> bytes:
        content = bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > most:
                raise TooLargeError
        return bytes(content)

    try:
        return await asyncio.wait_for(read(), PATIENCE)
    except asyncio.TimeoutError:
        raise TimeoutError from None
