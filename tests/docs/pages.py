"""The fenced blocks of all pages, and the command lines in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(path.name for path in PROJECT.glob("*.md")),
    *sorted(path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("docs/**/*.md")),
]
VARIABLE = re.compile(r"[A-Z_]+=")  # of the environment, before a command
SHELL = ("", "bash", "console", "powershell", "shell")


class Block(NamedTuple):
    """A fenced block: its language, empty for commands, and its text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, from a comment in its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


class Command(NamedTuple):
    """A command line: its program and the arguments."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def page_text(page: str) -> str:
    """A page by its path in the project."""
    return (PROJECT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page, of some languages alone if they are given."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page_text(page), re.MULTILINE | re.DOTALL)
    every = [Block(language, textwrap.dedent(text)) for language, text in found]
    return [each for each in every if not languages or each.language in languages]


def commands(page: str) -> list[Command]:
    """The command lines of a page."""
    text = "".join(block.text for block in blocks(page, *SHELL)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    plain = [list(dropwhile(VARIABLE.match, words)) for words in lines]
    return [Command(tuple(words)) for words in plain if words]


def all_commands() -> list[Command]:
    """The command lines of all pages, each once."""
    return list(dict.fromkeys(command for page in PAGES for command in commands(page)))
