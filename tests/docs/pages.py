"""The fenced blocks of a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Block(NamedTuple):
    """A fenced block: its language, empty for commands, and its text."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, from a comment in its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page of the documentation, maybe of one language alone."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found if language in (None, each[0])]


def commands(page: str, module: str) -> list[list[str]]:
    """The arguments of every ``python -m occ_lab.MODULE`` on a page."""
    lines = "".join(block.text for block in blocks(page, "")).replace("\\\n", " ").splitlines()
    start = f"python -m occ_lab.{module} "
    return [line.removeprefix(start).split() for line in lines if line.startswith(start)]
