"""The tutorials run from top to bottom, and show what their text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NAMES = ("objectives_and_norms", "add_an_objective", "own_parts")


def notebook(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name: str, folder: Path) -> tuple[str, int]:
    """What a notebook prints, and the number of its pictures."""
    content = notebook(name)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [each for cell in content.cells for each in cell.get("outputs", [])]
    assert not [each for each in outputs if each.get("name") == "stderr"]
    pictures = [each for each in outputs if "image/png" in each.get("data", {})]
    printed = "".join(each.text for each in outputs if each.output_type == "stream")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed), len(pictures)


def percents(found: list[str]) -> list[float]:
    return [float(each) for each in found]


def test_all_are_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_stored_without_outputs(name: str) -> None:
    content = notebook(name)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert set(content.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", NAMES)
def test_their_links_lead_somewhere(name: str) -> None:
    text = "\n".join(cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert link.startswith("http") or (FOLDER / link).exists(), link


def test_own_parts(tmp_path: Path) -> None:
    printed, pictures = executed("own_parts", tmp_path)
    assert pictures == 4
    listed = dict(re.findall(r"^(\d\d_\w+)\.png .* (accept|reject)$", printed, re.MULTILINE))
    assert {name: said for name, said in listed.items() if "good" not in name} == {
        f"{number}_{kind}": "reject"
        for number, kind in enumerate(["scratch", "stain", "undrilled"] * 3, start=15)
    }
    assert list(listed.values()).count("accept") >= 2  # of the three good parts that are listed
    assert percents(re.findall(r"image AUROC (.*)%", printed)) == pytest.approx([100] * 2, abs=2)
    assert (tmp_path / "model" / "config.yaml").is_file()


def test_objectives_and_norms(tmp_path: Path) -> None:
    printed, pictures = executed("objectives_and_norms", tmp_path)
    assert pictures == 8
    assert percents(re.findall(r"image AUROC (.*?)%", printed))[0] > 85


def test_add_an_objective(tmp_path: Path) -> None:
    printed, pictures = executed("add_an_objective", tmp_path)
    assert pictures == 2
    assert "along: 0.0  across: 5.0" in printed
    residual, _, _, first, last = percents(re.findall(r"image AUROC (.*?)%", printed))
    assert residual > 80
    assert last > first + 20  # the autoencoder learns
    command = re.search(r"^ *brick +24 +30 +(\S+)", printed, re.MULTILINE)
    assert command  # the table of the command shows the figure of the call
    assert float(command[1]) == pytest.approx(residual, abs=0.11)
