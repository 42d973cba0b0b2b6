"""The command line of ``occ-lab cache``."""

from __future__ import annotations

import argparse

from occ_lab.config.options import Options

COMMANDS = {
    "list": "what is kept: backbone, images, size, last use",
    "check": "read every byte again; exit code 1 if anything has changed or is missing",
    "clear": "remove everything; runs extract their features again",
}


def command_line() -> argparse.ArgumentParser:
    """The parser."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--dir",
        default=default_dir(),
        metavar="DIR",
        help="the folder of the cache; default: that of the runs, cache.dir",
    )
    parser = argparse.ArgumentParser(
        prog="occ-lab cache",
        description="Features of frozen backbones, kept on disk and shared by all runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, parents=[where], help=what, description=what)
        if name == "clear":
            command.add_argument("--yes", action="store_true", help="do not ask first")
    return parser


def default_dir() -> str:
    """The folder that runs use unless they name another one."""
    return str(Options("base").value("cache.dir"))
