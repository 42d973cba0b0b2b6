"""Run a service until it is stopped."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from occ_lab.serving.service import Service
from occ_lab.utils.errors import InputError
from occ_lab.utils.extras import from_extra

if TYPE_CHECKING:
    from uvicorn import Server

CONNECTIONS = 256
PATIENCE = 30  # seconds for requests that have begun when the service is stopped


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address of this machine.
        port: 0 takes any free one.

    Raises:
        InputError: the port is in use, or the address is not of this machine.

    Example:
        >>> with listening("127.0.0.1", 0) as found:
        ...     found.getsockname()[0]
        '127.0.0.1'
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise InputError(
            f"port: {host} port {port} cannot be used ({error.strerror or error}); port=0 takes "
            "any that is free"
        ) from error
    # Else the end of an answer waits for the client's delayed acknowledgement, about 40 ms. asyncio
    # sets it on sockets that it makes itself alone.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def server_of(service: Service) -> Server:
    """The server of a service: ``run([listener])`` serves until Ctrl-C or SIGTERM.

    It starts the service and stops it. Requests that have begun are answered.
    """
    import uvicorn

    from occ_lab.serving.app import make_app

    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it would print every step
    config = uvicorn.Config(
        make_app(service),
        log_config=None,
        access_log=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
        server_header=False,
    )
    return uvicorn.Server(config)


def check_installed() -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        InputError: one is missing.
    """
    for module in ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client"):
        from_extra(module, "serve")
