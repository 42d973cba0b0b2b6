"""The commands without a configuration, whose arguments `argparse` reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from occ_lab.config.commands import example_lines
from occ_lab.utils.conf import conf_dir


def with_examples(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples.

    Args:
        parser: of the command.
        name: of the command.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["examples:", *example_lines(name)])
    return parser


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command without a configuration."""
    parser: argparse.ArgumentParser
    if name == "report":
        from occ_lab.reporting.report import arguments

        parser = arguments.command_line()
    elif name == "cache":
        from occ_lab.config import cache

        parser = cache.command_line()
    else:
        from occ_lab.data import listing

        files = Path(conf_dir(), "dataset").glob("*.yaml")
        parser = listing.command_line(sorted(path.stem for path in files))
    return with_examples(parser, name)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """The parsers below a parser by name, each with what its help says of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            return {name: (below, helps[name]) for name, below in action.choices.items()}
    return {}
