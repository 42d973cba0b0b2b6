"""The links and the commands of all pages."""

from __future__ import annotations

import re

import pytest

from occ_lab.config.composition import unresolved
from tests.docs.pages import PAGES, PROJECT, commands, page_text

COMPOSED = (
    *("train", "compare", "two_stage", "norm_study"),
    *("stream", "predict", "calibrate", "export"),
)
ASKED = [
    pytest.param(module, arguments, id=f"{page} {module} {' '.join(arguments)}")
    for page in PAGES
    for module in COMPOSED
    for arguments in commands(page, module)
    if "--config-dir" not in arguments  # the examples of docs/extending.md, which are run
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page_text(page)):
        if not link.startswith("http"):
            assert (PROJECT / page).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_pages_lead_to_a_heading(page: str) -> None:
    for link, anchor in re.findall(r"\]\((\w*\.?\w*)#([^)\s]+)\)", page_text(page)):
        target = f"{page.rpartition('/')[0]}/{link}".lstrip("/") if link else page
        headings = re.findall(r"^#+ (.+)$", page_text(target), re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]
        assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize(("module", "arguments"), ASKED)
def test_a_command_names_what_there_is(module: str, arguments: list[str]) -> None:
    overrides = [
        first_choice(each) for each in arguments if each != "-m" and not each.startswith("hydra.")
    ]
    unresolved(module, overrides)


def first_choice(override: str) -> str:
    """One value of an override that names several for a sweep."""
    key, _, value = override.partition("=")
    if value.startswith(("[", "range(", "choice(")):
        return f"{key}=[]" if value.startswith("[") else f"{key}=1"
    return f"{key}={value.split(',')[0]}"
