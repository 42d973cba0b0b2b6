"""What the pages must name, their links, and the site that is made of them."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import occ_lab
from occ_lab.config.commands import COMMANDS
from occ_lab.config.composition import conf_dir
from tests.docs.pages import PAGES, PROJECT, page_text

TEXT = "".join(page_text(page) for page in PAGES)
GROUPS = sorted({path.parent.name for path in Path(conf_dir()).glob("*/*.yaml")})
PUBLIC = [
    *(f"occ_lab.{name}" for name in occ_lab._HOMES),
    *(
        f"occ_lab.{room}.{name}"
        for room in occ_lab._ROOMS
        for name in getattr(import_module(f"occ_lab.{room}"), "__all__", ())
    ),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page_text(page)):
        generated = link.endswith("reference/options.md") or link == "options.md"
        if not link.startswith("http") and not generated:
            assert (PROJECT / page).parent.joinpath(link).exists(), link


def test_every_command_is_in_a_page() -> None:
    page = page_text("docs/reference/commands.md")
    assert [name for name in COMMANDS if f"`occ-lab {name}`" not in page] == []


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_in_a_page(group: str) -> None:
    assert re.search(rf"\b{group}=\w", TEXT)


def rows(page: str) -> dict[str, list[str]]:
    """The cells of all rows of tables of a page, by the first one."""
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    return {cells[0]: cells[1:] for cells in reversed(found) if cells}


def test_the_tables_of_methods_are_the_recorded_one() -> None:
    recorded = rows(page_text("experiments/method_table/README.md"))
    shown = rows(page_text("docs/guides/choosing.md").split("## Figures")[1])
    methods = [name for name in shown if name in recorded and name not in ("method", "---")]
    assert len(methods) == 9
    assert all(shown[name] == recorded[name] for name in methods)
    names = {
        **{"loss=norm": "norm", "loss.solver=gradient": "norm, by gradient", "loss=padim": "PaDiM"},
        **{"loss=cfa": "CFA", "loss=knn": "nearest neighbours", "loss=gaussian": "one Gaussian"},
        "loss=svdd loss.projector_bias=true": "Deep SVDD",
    }
    table = rows(page_text("README.md").split("## Methods")[1])
    for label, cells in table.items():
        command = re.search(r"`([^`]+)`$", label)
        if command:
            expected = recorded[names.pop(command[1])]
            assert cells == [re.split(" ± | / ", cell)[0] for cell in expected]
    assert not names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(PROJECT)
        build(load_config("mkdocs.yml", strict=True, site_dir=str(folder)))
    return folder


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    html = "".join(path.read_text("utf-8") for path in site.glob("reference/api/*.html"))
    assert len(PUBLIC) > 50
    assert [name for name in PUBLIC if f'id="{name}"' not in html] == []


def test_every_recorded_page_is_in_the_overview(site: Path) -> None:
    overview = page_text("docs/experiments/index.md")
    for page in PROJECT.glob("experiments/**/README.md"):
        name = page.relative_to(PROJECT).as_posix()
        assert f"({'../../' + name})" in overview
        assert (site / name.replace("README.md", "index.html")).is_file()


def test_search_works_from_disk_and_nothing_is_fetched(site: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith("file:") else troubles.append(asked.url),
    )
    page.goto((site / "guides" / "choosing.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("label[for=__search]")
    page.locator("input[data-md-component=search-query]").press_sequentially("overkill")
    page.wait_for_selector(".md-search-result__item a")
    links = page.eval_on_selector_all(".md-search-result__item a", "all => all.map(a => a.href)")
    assert any("thresholds.html" in link for link in links)
    assert troubles == []
    context.close()
