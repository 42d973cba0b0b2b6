"""The fenced blocks of a page, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A fenced block: its language, empty for commands, and its text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, from a comment in its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


def page_text(page: str) -> str:
    """A page by its path in the project."""
    return (PROJECT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page, optionally of one language only."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page_text(page), re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found if language in (None, each[0])]


def commands(page: str, module: str) -> list[list[str]]:
    """The arguments of every ``python -m occ_lab.MODULE`` in the blocks of a page."""
    lines = "".join(block.text for block in blocks(page, "")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m ")]
    return [each[3:] for each in words if each[2] == f"occ_lab.{module}"]
