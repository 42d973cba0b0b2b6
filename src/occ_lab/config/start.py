"""How a command with a configuration starts: help comes before anything slow is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from occ_lab.config.pages import answer
from occ_lab.utils.conf import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig


def start(main: Callable[[DictConfig], object], name: str) -> None:
    """Print what is asked about a command, or run it by Hydra.

    Args:
        main: what the command does with its configuration.
        name: of its module and its configuration.

    Raises:
        SystemExit: the command line is wrong; the message is on stderr.
    """
    with suppress(AttributeError, OSError):  # of another kind of stream
        # A file name may hold what cannot be printed.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if answer(name, sys.argv[1:]):
        return

    import hydra

    from occ_lab.config.command_line import prepared
    from occ_lab.config.errors import messages_alone

    with messages_alone():
        sys.argv[1:] = prepared(sys.argv[1:], name)
    hydra.main(version_base="1.3", config_path=conf_dir(), config_name=name)(main)()
