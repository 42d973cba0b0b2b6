"""What the pages share: colours, and the control of the threshold."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).parent


def text_of(*files: Path) -> str:
    """The content of text files, one after another."""
    return "\n".join(each.read_text(encoding="utf-8") for each in files)


def style(own: Path) -> str:
    """A page's style sheet with the shared ones before it."""
    return text_of(SHARED / "colours.css", SHARED / "threshold.css", own)
