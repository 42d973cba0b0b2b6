"""The page of all options is whole, and every command is in a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.config.commands import COMMANDS, module_of
from occ_lab.config.options import Options
from occ_lab.config.reference import options_page
from tests.docs.pages import PAGES, page_text


@pytest.fixture(scope="module")
def page() -> str:
    return options_page()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_page_and_in_another(name: str, page: str) -> None:
    assert f"\n### occ-lab {name}\n" in page
    named = [f"occ-lab {name}", f"occ_lab.{module_of(name)}"]
    assert any(each in page_text(other) for each in named for other in PAGES)


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name].configured])
def test_every_group_choice_and_key_is_in_the_page(name: str, page: str) -> None:
    options = Options(module_of(name))
    for group in options.groups:
        assert f"\n### {group}\n" in page
        for choice in options.choices(group):
            assert f"\n#### {group}={choice}\n" in page
            found = Options(module_of(name), [f"{group}={choice}"])
            for key in found.leaves():
                own = not key.endswith(("_target_", "_partial_")) and not found.in_a_whole(key)
                assert f"`{key}" in page or not own, key


def test_tables_are_whole_and_nothing_is_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setenv("OCC_LAB_CACHE", "/this/machine")
    assert options_page() == page
    assert str(Path.home()) not in page
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") in (3, 5), line
