"""A progress bar for work that takes a while."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(
    work: Iterable[T], title: str, total: float | None = None, disable: bool = False
) -> Iterable[T]:
    """Go through work behind a bar that disappears when it is done.

    There is none where the output is no terminal. A notebook is none either: its bars would need
    ipywidgets, and each would warn where that is not installed.

    Args:
        work: what is done, one after another.
        title: what stands beside the bar.
        total: the number of steps, if ``work`` has no length.
        disable: whether to do without.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    console = Console(force_jupyter=False)
    hidden = disable or not console.is_terminal
    return rich_track(work, title, total, console=console, transient=True, disable=hidden)
