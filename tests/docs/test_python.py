"""The programs of README.md and pages of docs/, run in the order of the page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from occ_lab.engine import steps
from tests import warm
from tests.commands import command
from tests.data.trees import mvtec_tree, noise, save
from tests.docs.pages import blocks, commands

OWN = {"hydra.run.dir=model", "run=model"}  # in the commands of README's own parts


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the programs run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(page: str) -> dict[str, Any]:
    """Run all Python blocks of a page, and return the names that they define."""
    names: dict[str, Any] = {}
    programs = [each for each in blocks(page, "python") if not each.file]
    for number, block in enumerate(programs, start=1):
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


def test_the_walk_on_ones_own_parts_runs(place: Path) -> None:
    for index in range(20):
        save(place / "parts" / "good" / f"{index}.png", noise(index))
    for index in range(2):
        save(place / "parts" / "new" / f"{index}.png", noise(100 + index))
    (program,) = (each for each in blocks("README.md", "python") if each.file)
    assert program.file
    (place / program.file).write_text(program.text, encoding="utf-8")
    printed = {}
    for module in ("train", "predict", "export"):
        (asked,) = (each for each in commands("README.md", module) if OWN & {*each})
        done = command(module, *asked, cwd=place)
        assert done.returncode == 0, done.stderr
        printed[module] = done.stdout
    assert "so are 5.9 % of normal images" in printed["train"]  # 1 of 17
    assert "2 of 2 images scored" in printed["predict"]
    assert len(list((place / "inspected").rglob("*.png"))) == 2
    assert "folder_raw.onnx" in printed["export"]
    done = warm.run([program.file], cwd=place)
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] in ("accept", "reject") for line in done.stdout.splitlines()] == [
        True
    ] * 2


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
