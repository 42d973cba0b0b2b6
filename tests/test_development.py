"""The code map of docs/development.md says what is in the tree; the project's other papers."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

from experiments.versions.lowest import lowest
from tests.test_house import COMMANDS, PACKAGE, RANKS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
LINKED = ["CONTRIBUTING.md", "CHANGELOG.md", ".github/pull_request_template.md"]
CHECK_SUBJECT = ROOT / ".ci" / "check_subject.py"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_room_is_on_the_map_with_its_rank() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section("The rooms of the package"), re.MULTILINE)
    assert {room: int(rank) for rank, room in rows} == {
        room: rank for room, rank in RANKS.items() if room not in COMMANDS
    }


def test_every_folder_of_the_checkout_is_on_the_map() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    shown = re.findall(r"^\| `([\w/]+)` \|", section("The checkout"), re.MULTILINE)
    assert all((ROOT / name).is_dir() for name in shown)
    if listed:  # in a checkout
        top = {name.split("/")[0] for name in listed.splitlines() if "/" in name and name[0] != "."}
        assert {name.split("/")[0] for name in shown} == top


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(occ_lab(?:\.\w+)+)`", PAGE))))
def test_every_name_on_the_map_exists(name: str) -> None:
    if name == "occ_lab.__version__":
        return
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_every_path_on_the_map_exists() -> None:
    paths = re.findall(r"`((?:src|conf|tests|data|objectives|experiments)/[\w/.]*)`", PAGE)
    assert paths
    for path in paths:
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), path


@pytest.mark.parametrize("page", LINKED)
def test_links_of_the_papers_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not link.startswith("http"):
            assert (ROOT / page).parent.joinpath(link).exists(), link


def test_make_targets_on_the_papers_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    for page in (*LINKED, "docs/development.md"):
        used = re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"))
        assert set(used) <= targets, page
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == targets  # each has a comment for make help


def test_forms_and_citation_are_valid() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.name == "config.yml":
            continue
        assert {"name", "description", "body"} <= set(content)
        for field in content["body"]:
            assert field["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
            assert field["type"] == "markdown" or field["attributes"]["label"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    json.dumps(citation)  # plain data


@pytest.mark.parametrize(
    ("message", "right"),
    [
        ("Stream: a state of another version is named\n\nLong lines below it are free.", True),
        ("x" * 71, True),
        ("x" * 72, False),
        ("# a comment of git\n", False),
        ("A subject\nand no empty line below", False),
    ],
)
def test_subjects_of_commits_are_checked(message: str, right: bool, tmp_path: Path) -> None:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message, encoding="utf-8")
    done = subprocess.run([sys.executable, CHECK_SUBJECT, file], capture_output=True, check=False)
    assert (done.returncode == 0) is right


def test_lowest_versions_are_the_lower_bounds() -> None:
    wanted = ["a>=1.2", "b<3,>=2.0.8", 'c>=4; extra == "x"', 'd>=5; extra == "dev"', "occ-lab[x]"]
    assert lowest(wanted) == ["a==1.2", "b==2.0.8", "c==4"]
    with pytest.raises(ValueError, match="unpack"):
        lowest(["a"])
    assert lowest(requires("occ-lab") or [])
