"""What mkdocs does besides: pages from outside of docs/, their links, formulas."""

from __future__ import annotations

import posixpath
import re
from html import unescape
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from occ_lab.config.reference import options_page

PROJECT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
RECORDED = ("*.md", "*.png", "*.json", "*.csv")  # of experiments/
FIGURES = re.compile(r"(\d) ([±/]) (?=\d)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[]\s*(.*?)\s*\\[)\]]</\1>', flags=re.DOTALL
)


def recorded_pages() -> list[str]:
    """The pages of experiments/, by their paths in the project."""
    found = PROJECT.glob("experiments/**/*.md")
    return sorted(path.relative_to(PROJECT).as_posix() for path in found)


def on_config(config: MkDocsConfig) -> None:
    """Put every recorded page into the navigation."""
    (section,) = (each["Experiments"] for each in config.nav if "Experiments" in each)
    section.extend({Path(page).parent.name: page} for page in recorded_pages())


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add what is not below docs/, without copies."""
    for pattern in RECORDED:
        for path in sorted(PROJECT.glob(f"experiments/**/{pattern}")):
            add(files, config, path.relative_to(PROJECT).as_posix())
    for name in ROOT_PAGES:
        add(files, config, name)
    files.append(File.generated(config, "reference/options.md", content=options_page()))


def add(files: Files, config: MkDocsConfig, path: str) -> None:
    """Publish a file of the project under its path."""
    files.append(File.generated(config, path, abs_src_path=str(PROJECT / path)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links within the project into links within the site.

    A link to a file that is not in the site, such as source, becomes text.
    """
    here = page.file.src_uri
    generated = page.file.generated_by is not None
    folder = posixpath.dirname(here if generated else DOCS + here)

    def moved(found: re.Match[str]) -> str:
        mark, text, target, anchor = found.groups()
        if re.match(r"\w+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        uri = path.removeprefix(DOCS)
        if files.get_file_from_path(uri) is None:
            return text if (PROJECT / path).exists() else found[0]
        relative = posixpath.relpath(uri, posixpath.dirname(here) or ".")
        return f"{mark}[{text}]({relative}{anchor or ''})"

    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    blocks[::2] = [LINK.sub(moved, each) for each in blocks[::2]]
    return "".join(blocks)


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers show without a script; figures that keep together."""

    def formula(found: re.Match[str]) -> str:
        display = "block" if found[1] == "div" else "inline"
        mathml = convert(unescape(found[2]), display=display)
        return f'<{found[1]} class="formula">{mathml}</{found[1]}>'

    return FIGURES.sub("\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", FORMULA.sub(formula, html))


class Doctests(griffe.Extension):
    """``Example:`` of a docstring holds doctests, which griffe expects below ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
