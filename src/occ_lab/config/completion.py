"""Completion in the shell: of commands, groups and their choices, keys and their values, paths.

``occ-lab completion bash`` prints a script. At each tab, what it defines calls ``occ-lab completion
words LINE`` with the line up to the cursor, which prints the candidates for its last word: one a
line, with a tab and what it is. One that ends with ``=``, ``.`` or ``,`` is to be continued. A line
``:file`` or ``:folder``, a tab and BEGIN stands for all paths that may follow BEGIN.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence

from occ_lab.config.commands import COMMANDS, module_of, name_of
from occ_lab.config.options import EVERYWHERE, Options
from occ_lab.config.pages import first_sentence, shortened
from occ_lab.config.parsers import parser_of, subcommands
from occ_lab.config.scripts import SCRIPTS
from occ_lab.config.values import Allowed

HYDRA = {
    "--help": "what it does, examples, options",
    "--info": "explains an option",
    "--cfg": "prints the configuration",
    "--resolve": "with --cfg: final values",
    "--multirun": "a sweep",
    "--config-dir": "YAML files and classes of your own",
}
ROOM = 60  # letters of what a candidate is


def complete(arguments: Sequence[str]) -> int:
    """The command ``occ-lab completion``.

    Args:
        arguments: the name of a shell; or ``words`` and a line up to the cursor.

    Returns:
        The exit code.
    """
    if len(arguments) == 2 and arguments[0] == "words":
        for word, what in candidates(arguments[1]):
            sys.stdout.write(f"{word}\t{shortened(what, ROOM)}\n")
        return 0
    if len(arguments) == 1 and arguments[0] in SCRIPTS:
        sys.stdout.write(SCRIPTS[arguments[0]].script)
        return 0
    lines = ["Usage: occ-lab completion SHELL", "", "Prints the script that completes; once:", ""]
    lines += [f"  {name:<5} {each.use}" for name, each in SCRIPTS.items()]
    page = "\n".join(lines) + "\n"
    wanted = set(arguments) & {"-h", "--help"}
    (sys.stdout if wanted else sys.stderr).write(page)
    return 0 if wanted else 2


def candidates(line: str) -> Iterator[tuple[str, str]]:
    """What the last word of a line may become, with what it is.

    Args:
        line: up to the cursor, the name of the program included.

    Example:
        >>> [word for word, _ in candidates("occ-lab two")]
        ['two-stage']
    """
    *before, last = words_of(line)
    return (each for each in _all(before[1:], last) if each[0].startswith((last, ":")))


def words_of(line: str) -> list[str]:
    """The words of a line; the last one is empty after a space.

    Example:
        >>> words_of("occ-lab train 'a b'"), words_of("occ-lab ")
        (['occ-lab', 'train', 'a b'], ['occ-lab', ''])
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is open
        words = [each.lstrip("'\"") for each in line.split()]
    return [*words, ""] if line[-1:].isspace() or not words else words


def _all(before: Sequence[str], last: str) -> Iterator[tuple[str, str]]:
    if not before:
        yield from ((name, command.summary) for name, command in COMMANDS.items())
        yield from [("completion", "print a script for a shell"), ("--help", "all commands")]
        yield "--version", "the version"
        return
    name, *words = before
    command = name_of(name)
    if command == "completion":
        yield from ((shell, each.use) for shell, each in SCRIPTS.items() if not words)
    elif command in COMMANDS and COMMANDS[command].configured:
        yield from of_a_configuration(Options(module_of(command), words), words, last)
    elif command in COMMANDS:
        yield from of_a_parser(parser_of(command), words, last)


def of_a_configuration(
    options: Options, words: Sequence[str], last: str
) -> Iterator[tuple[str, str]]:
    """Candidates of a command with a configuration.

    Args:
        options: of the command and the words.
        words: before the last one.
        last: the word that is completed.
    """
    option = words[-1] if words else ""
    if option in ("--config-dir", "-cd"):
        yield ":folder", ""
    elif option in ("--cfg", "-c"):
        yield from [("job", "of the command"), ("hydra", "of Hydra"), ("all", "both")]
    elif "=" in last and option != "--info":
        yield from values(options, last)
    elif last.startswith("-"):
        yield from HYDRA.items()
    else:
        sign = "=" if option != "--info" else ""
        yield from ((f"{group}{sign}", "a group") for group in options.groups)
        yield from keys(options, last, sign)


def keys(options: Options, last: str, sign: str) -> Iterator[tuple[str, str]]:
    """Keys that begin with a word, as far as the next dot; those of a class only if asked for."""
    nodes = set()
    for key, found in options.leaves().items():
        private = key.rpartition(".")[2] in EVERYWHERE and "._" not in last
        if private or not key.startswith(last):
            continue
        end = key.find(".", len(last))
        if end < 0:
            yield f"{key}{sign}", first_sentence(found.said)
        elif key[: end + 1] not in nodes:
            nodes.add(key[: end + 1])
            yield key[: end + 1], "options"


def values(options: Options, last: str) -> Iterator[tuple[str, str]]:
    """Values of a key or choices of a group; of several, those of the last one."""
    typed, _, value = last.partition("=")
    key = typed.lstrip("+")
    begin = f"{typed}={value[: max(value.rfind(','), value.rfind('[')) + 1]}"
    if key in options.groups:
        for name, about in options.choices(key).items():
            yield f"{begin}{name}", first_sentence(about)
    elif (found := options.explained(key)) is not None and found.allowed is not None:
        allowed = Allowed(found.allowed)
        if allowed.path:
            yield f":{allowed.path}", begin
        for word in allowed.words:
            yield f"{begin}{word}", ""


def of_a_parser(
    parser: argparse.ArgumentParser, words: Sequence[str], last: str
) -> Iterator[tuple[str, str]]:
    """Candidates of a command whose arguments `argparse` reads.

    Args:
        parser: of the command.
        words: before the last one.
        last: the word that is completed.
    """
    taken = 0  # positional arguments before the last word
    option = None  # the one that the last word may belong to
    for word in words:
        if word in subcommands(parser):
            parser, taken, option = subcommands(parser)[word][0], 0, None
        elif word.startswith("-"):
            option = parser._option_string_actions.get(word)
            option = option if option is not None and option.nargs != 0 else None
        else:
            taken += option is None
            option = option if option is not None and option.nargs == "+" else None
    positional = [each for each in parser._actions if not each.option_strings]
    if option is None and positional:
        at = positional[min(taken, len(positional) - 1)]
        option = at if taken < len(positional) or at.nargs in ("+", "*") else None
    if option is not None and option.metavar == "DIR":
        yield ":folder", ""
    if option is not None and option.choices is not None:
        below = subcommands(parser)
        yield from ((each, below[each][1] if each in below else "") for each in option.choices)
    for action in parser._actions if last.startswith("-") else ():
        for each in action.option_strings:
            if each.startswith("--"):
                yield each, first_sentence(action.help or "")
