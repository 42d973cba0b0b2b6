"""Handling of Ctrl-C in commands whose results can be completed later."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console


@contextmanager
def resumable(directory: Path, console: Console, done: Callable[[], str]) -> Iterator[None]:
    """Print how to continue if the block is stopped by Ctrl-C.

    Args:
        directory: the run directory.
        console: prints the message.
        done: describes what is finished by then.

    Raises:
        SystemExit: Ctrl-C; the exit code is 130.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C during a fit into an exit
        console.print(f"\nStopped; {done()}", soft_wrap=True)
        console.print(how_to_go_on(directory), soft_wrap=True)
        raise SystemExit(130) from None


def how_to_go_on(directory: Path) -> str:
    """One line that says how to continue after a stop."""
    return f"Go on: the same command with resume=true {shlex.quote(f'hydra.run.dir={directory}')}"
