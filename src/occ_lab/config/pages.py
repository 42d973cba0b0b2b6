"""What a command prints of itself: ``--help``, one screen, and ``--info``, all that there is."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from occ_lab.config.commands import COMMANDS, example_lines, name_of
from occ_lab.config.docstrings import Argument, argument_of
from occ_lab.config.options import EVERYWHERE, Options
from occ_lab.config.values import Allowed
from occ_lab.config.yaml_file import Key

WIDTH = 100  # of a page, if the terminal is as wide
COLUMN = 42  # letters of an option and its value in a list
SHOWN = 10  # options that stand in --help
MORE = (
    ("--info KEY", "explains an option: what it does, what it may be, its default"),
    ("--info GROUP", "explains the choices of a group; --info GROUP=NAME one of them"),
    ("--info", "lists all options"),
    ("--cfg job", "prints the configuration that the choices on the line make"),
    ("-m", "a sweep: KEY=A,B is a run for each value"),
    ("--config-dir DIR", "adds YAML files and classes of your own"),
)


def width() -> int:
    """The width of a page in letters."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def help_page(name: str, words: Sequence[str]) -> str:
    """The help of a command with a configuration.

    Args:
        name: of its module.
        words: of its command line, without ``--help``.
    """
    command = name_of(name)
    options = Options(name, words)
    about = COMMANDS[command]
    often = [key for key in about.often if key in options.keys][:SHOWN]
    choose = " [GROUP=NAME ...]" if options.groups else ""
    lines = [f"Usage: occ-lab {command}{choose} [KEY=VALUE ...]", ""]
    lines += [*textwrap.wrap(about.about, width()), "", "Examples", *example_lines(command)]
    if options.groups:
        lines += ["", "Groups: choose with GROUP=NAME; * is chosen"]
        lines += group_lines(options)
    lines += ["", "Options: change with KEY=VALUE", *option_lines(options, often)]
    more = [each for each in MORE if options.groups or each[0] not in ("--info GROUP", "-m")]
    return text([*lines, "", "More", *rows(more)])


def info_page(name: str, words: Sequence[str], asked: str) -> str | None:
    """What ``--info`` prints.

    Args:
        name: of the command's module.
        words: of its command line; what they choose and set is taken into account.
        asked: a key, a group, or ``GROUP=NAME``; empty is all.

    Returns:
        None where there is no such thing.
    """
    group, equals, choice = asked.partition("=")
    options = Options(name, [*words, asked] if equals else words)
    if not asked:
        return text(option_lines(options, listed(options)))
    if group in options.groups and equals:
        return (
            text(choice_lines(options, group, choice))
            if options.file(f"{group}/{choice}")
            else None
        )
    if group in options.groups:
        lines = [f"Choose with {group}=NAME; * is chosen", ""]
        for each, about in options.choices(group).items():
            star = "*" if each == options.groups[group] else " "
            lines += textwrap.wrap(
                f"{star} {each:<{LONGEST}} {about}", width(), subsequent_indent=" " * (LONGEST + 3)
            )
        return text([*lines, "", *keys_below(options, group)])
    if group in options.leaves() or options.explained(group):
        found = options.explained(group)
        if found is not None and found.value is None and found.allowed is None:
            return text(keys_below(options, group))
        return text(key_lines(name, options, group))
    if keys_below(options, group):
        return text(keys_below(options, group))
    added = argument(options, group)
    return text([group, *added_lines(name, group, added)]) if added else None


LONGEST = 20  # letters of a choice in a list
LINES_OF_GROUP = 3  # in the help


def choice_lines(options: Options, group: str, choice: str) -> list[str]:
    """A choice of a group, explained."""
    file = options.file(f"{group}/{choice}")
    assert file is not None
    lines = [f"{group}={choice}", *textwrap.wrap(file.about, width() - 2)]
    return [*lines[:1], *(f"  {line}" for line in lines[1:]), "", *keys_below(options, group)]


def keys_below(options: Options, key: str) -> list[str]:
    """All options below a key, one a line."""
    return option_lines(options, [each for each in listed(options) if each.startswith(f"{key}.")])


def listed(options: Options) -> list[str]:
    """The keys that stand in lists: those in a part that is explained as a whole are left out."""
    return [key for key in options.leaves() if not options.in_a_whole(key)]


def key_lines(name: str, options: Options, key: str) -> list[str]:
    """A key, explained."""
    found = options.explained(key)
    assert found is not None
    extra = argument(options, key) if found.allowed is None else None
    said = found.said or (extra.said if extra else "")
    lines = [key, *(f"  {line}" for line in textwrap.wrap(said, width() - 2)), ""]
    facts = []
    if found.allowed is not None:
        facts.append(("may be", Allowed(found.allowed).in_words))
    elif extra and extra.annotation:
        facts.append(("type", extra.annotation))
    default, value = options.default(key), options.value(key)
    facts.append(("default", "none; a value must be given" if default == "???" else str(default)))
    if value != default:
        facts.append(("here", str(value)))
    facts.append(("set it with", f"occ-lab {name_of(name)} {key}=VALUE"))
    return [*lines, *rows(facts)]


def added_lines(name: str, key: str, added: Argument) -> list[str]:
    """An argument of a class that the configuration does not have, explained."""
    facts = [("type", added.annotation)] if added.annotation else []
    facts.append(("add it with", f"occ-lab {name_of(name)} +{key}=VALUE"))
    said = [f"  {line}" for line in textwrap.wrap(added.said, width() - 2)]
    return [*said, "", *rows(facts)]


def argument(options: Options, key: str) -> Argument | None:
    """The argument of a class that a key is for, from the class's docstring."""
    part, _, last = key.rpartition(".")
    target = options.keys.get(f"{part}._target_")
    if target is None or target.value is None:
        return None
    return argument_of(target.value, last, options.folders)


def group_lines(options: Options) -> list[str]:
    """The groups with their choices; of many only the first, so that a page stays short."""
    longest = max(map(len, options.groups))
    indent = " " * (longest + 4)
    lines = []
    for group, chosen in options.groups.items():
        names = [f"*{each}" if each == chosen else each for each in options.choices(group)]

        def wrapped(names: Sequence[str], group: str = group) -> list[str]:
            return textwrap.wrap(
                f"  {group:<{longest}}  {' '.join(names)}",
                width(),
                subsequent_indent=indent,
                break_on_hyphens=False,
            )

        own = wrapped(names)
        if len(own) > LINES_OF_GROUP:
            first = wrapped(sorted(names, key=lambda each: not each.startswith("*")))[0]
            own = [first, f"{indent}... {len(names)} in all: --info {group}"]
        lines += own
    return lines


def option_lines(options: Options, keys: Sequence[str]) -> list[str]:
    """Options with their values and the first sentence about each, one a line."""
    table = []
    for key in keys:
        found = options.explained(key) or Key(None)
        if key.rpartition(".")[2] not in EVERYWHERE:
            value = options.value(key)
            shown = f"{key}={'(required)' if value == '???' else value}"
            if len(shown) > COLUMN:
                shown = f"{shown[: max(COLUMN - 3, len(key) + 1)]}..."
            table.append((shown, first_sentence(found.said)))
    return rows(table)


def first_sentence(said: str) -> str:
    """The first sentence, or the part of it before a semicolon.

    Example:
        >>> first_sentence("Side in pixels; the longer one with crop=whole. It is free.")
        'Side in pixels'
        >>> first_sentence("CFA (Lee et al. 2022).")
        'CFA (Lee et al. 2022)'
    """
    return re.split(r"(?<!et al)(?<!\.)[.;](?: |$)", said, maxsplit=1)[0]


def rows(table: Iterable[tuple[str, str]]) -> list[str]:
    """A table of two columns, a row a line; a long second column ends in dots."""
    table = list(table)
    wide = max((len(first) for first, _ in table), default=0)
    room = width() - wide - 4
    return [f"  {first:<{wide}}  {shortened(second, room)}".rstrip() for first, second in table]


def shortened(said: str, room: int) -> str:
    """As many words as there is room for."""
    return said if len(said) <= room else textwrap.shorten(said, max(room, 12), placeholder=" ...")


def text(lines: Iterable[str]) -> str:
    """Lines as one text."""
    return "\n".join(lines) + "\n"


def answer(name: str, words: list[str]) -> bool:
    """Print the help or the information that a command line asks for, if it does.

    Args:
        name: of the command's module.
        words: of its command line.

    Raises:
        SystemExit: there is no such option; the message is on stderr.
    """
    if {"-h", "--help"} & set(words):
        sys.stdout.write(help_page(name, [each for each in words if each not in ("-h", "--help")]))
        return True
    at = next((at for at, each in enumerate(words) if each.partition("=")[0] == "--info"), None)
    if at is None:
        return False
    asked = words[at].partition("=")[2]
    rest = words[at + 1 :]
    if not asked and rest and not rest[0].startswith("-"):
        asked, *rest = rest
    page = info_page(name, [*words[:at], *rest], asked)
    if page is None:
        sys.stderr.write(f"{absent(name, words, asked)}\n")
        raise SystemExit(1)
    sys.stdout.write(page)
    return True


def absent(name: str, words: list[str], asked: str) -> str:
    """What to say where there is nothing to explain."""
    from occ_lab.config.suggestions import nearest, no_such_option  # by Hydra, which takes a second

    options = Options(name, words)
    group, equals, choice = asked.partition("=")
    if equals and group in options.groups:
        return no_such_option(group, choice, list(options.choices(group)))
    meant = nearest(group, [*options.groups, *options.leaves()])
    guess = f"did you mean {' or '.join(meant)}?" if meant else "--info alone lists all"
    return f"{asked}: there is no such option; {guess}"
