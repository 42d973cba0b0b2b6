"""The page: one file of HTML with its style and program in it."""

from __future__ import annotations

from html import escape
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def page(title: str) -> str:
    """The HTML of a gallery, which reads its images and figures from the folder beside it.

    Args:
        title: shown at the top and in the browser's tab.
    """
    parts = {name: (TEMPLATES / f"gallery.{name}").read_text("utf-8") for name in ("css", "js")}
    text = (TEMPLATES / "gallery.html").read_text("utf-8")
    for name, content in (*parts.items(), ("title", escape(title))):
        text = text.replace(f"{{{{ {name} }}}}", content)
    return text
