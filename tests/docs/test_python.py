"""The programs of README.md and pages of docs/, run in the order of the page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from occ_lab.engine import steps
from tests.data.trees import mvtec_tree, noise, save
from tests.docs.pages import blocks


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the programs run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(page: str) -> dict[str, Any]:
    """Run all Python blocks of a page; what they define."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(block.text, f"{page}, block {number}", "exec"), names)
    return names


def test_the_readme_runs(place: Path) -> None:
    mvtec_tree(place / "data" / "mvtec", "transistor", train=4)
    for index in (1, 2):
        save(place / f"part{index}.png", noise(index))
    names = outcome("README.md")
    assert set(names["result"].metrics) >= {"image_auroc", "pixel_auroc"}
    assert names["detector"].score("part1.png").maps.shape == (1, 64, 64)  # of the image


def test_the_page_on_python_runs(place: Path) -> None:
    mvtec_tree(place / "data" / "mvtec", "transistor", train=20)
    for index in range(2):
        save(place / "parts" / f"part{index}.png", noise(index))
    names = outcome("docs/python.md")
    assert names["first"].map.shape[1:] == (224, 224)
    assert len(names["first"].path) == len(names["first"].label) == len(names["first"].score)
    assert names["scores"].score.shape == (2,)
    assert [level.shape for level in names["levels"]] == [(2, 64, 16, 16), (2, 128, 8, 8)]
    assert names["z"].shape == (2, 192, 16, 16)
    assert names["judged"].anomalous.shape == (1,)
    assert names["verdict"].learned
    assert names["stream"].online.images == 2
    assert (place / "outputs" / "transistor" / "metrics.json").is_file()


def test_the_page_on_training_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mvtec_tree(place / "data" / "mvtec", "transistor", train=4)
    monkeypatch.setattr(steps, "MOST", 2)
    assert outcome("docs/training.md")["result"].steps in (1, 2)
