"""The command ``occ-lab``, also ``python -m occ_lab``: it starts the command that is named."""

from __future__ import annotations

import os
import runpy
import sys
from difflib import get_close_matches

from occ_lab import __version__
from occ_lab.config.commands import COMMANDS, module_of, name_of


def main() -> None:
    """Start a command as ``python -m occ_lab.COMMAND`` does, or print what there is.

    Raises:
        SystemExit: with the exit code of the command; 2 where there is no such command.
    """
    name, *rest = sys.argv[1:] or ["--help"]
    command = name_of(name)
    if name in ("-h", "--help"):
        sys.stdout.write(overview())
    elif name == "--version":
        sys.stdout.write(f"occ-lab {__version__}\n")
    elif name == "completion":
        from occ_lab.config.completion import complete

        sys.exit(complete(rest))
    elif command in COMMANDS:
        here = os.getcwd()  # noqa: PTH109, a text
        if here not in sys.path and not getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, here)  # where `python -m` looks for modules first
        sys.argv[1:] = rest
        runpy.run_module(f"occ_lab.{module_of(command)}", run_name="__main__", alter_sys=True)
    else:
        close = get_close_matches(command, [*COMMANDS, "completion"], n=1)
        meant = (
            f"did you mean occ-lab {close[0]}?" if close else "occ-lab --help lists all commands"
        )
        sys.stderr.write(f"occ-lab {name}: there is no such command; {meant}\n")
        sys.exit(2)


def overview() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    lines = [
        "Usage: occ-lab COMMAND ...",
        "",
        "Learn what normal images look like, then find what does not.",
        "",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
        f"  {'completion':<{width}}  print the script that completes commands and options",
        "",
        "  occ-lab COMMAND --help         what it does, examples, options",
        "  occ-lab COMMAND --info KEY     explains an option",
        "  occ-lab --version",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
