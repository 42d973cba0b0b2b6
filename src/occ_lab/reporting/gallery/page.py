"""The page: one file of HTML with its style and program in it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from occ_lab.reporting.shared import SHARED, style, text_of

TEMPLATES = Path(__file__).parent / "templates"


def page(title: str) -> str:
    """The HTML of a gallery, which reads its images and figures from the folder beside it.

    Args:
        title: shown at the top and in the browser's tab.
    """
    parts = {
        "threshold": text_of(SHARED / "threshold.html"),
        "css": style(TEMPLATES / "gallery.css"),
        "threshold.js": text_of(SHARED / "threshold.js"),
        "js": text_of(TEMPLATES / "gallery.js"),
        "title": escape(title),
    }
    text = text_of(TEMPLATES / "gallery.html")
    for name, content in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", content)
    return text
