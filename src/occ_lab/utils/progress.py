"""Progress bars for work that takes a while."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def shows_progress() -> bool:
    """Whether there is a place for a progress bar: a terminal, and not a notebook.

    Bars in a notebook need ipywidgets, and each of them warns where that is not installed.

    Example:
        >>> shows_progress()
        False
    """
    console = Console()
    return console.is_terminal and not console.is_jupyter


def track(
    work: Iterable[T], title: str, total: float | None = None, disable: bool = False
) -> Iterable[T]:
    """Go through work behind a bar that disappears when it is done, see `shows_progress`.

    Args:
        work: what is done, one after another.
        title: what stands beside the bar.
        total: the number of steps, if ``work`` has no length.
        disable: whether to do without.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    if disable or not shows_progress():
        return work
    return rich_track(work, title, total, transient=True)
