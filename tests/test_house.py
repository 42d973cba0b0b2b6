"""The rooms of the package: the content of its top level, and the direction of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from occ_lab.config import commands

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "occ_lab"
ROOMS = {"data"}  # a room that is a command as well
COMMANDS = [each for each in map(commands.module_of, commands.COMMANDS) if each not in ROOMS]
# A room imports rooms of its own rank and of lower ones.
RANKS = {
    "utils": 0,
    "data": 1,
    "backbones": 2,
    "features": 3,
    "projectors": 4,
    "objectives": 5,
    "pretraining": 5,
    "postprocessing": 6,
    "metrics": 6,
    "explain": 6,
    "detector": 7,
    "reporting": 8,
    "engine": 9,
    "inference": 9,
    "deploy": 9,
    "serving": 10,
    "config": 11,
    **dict.fromkeys(COMMANDS, 12),
}
CONFIGURATION = {"hydra", "omegaconf"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions and for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "occ_lab":
                yield from (f"occ_lab.{alias.name}" for alias in node.names)
            else:
                yield node.module


def names(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_the_top_holds_commands_detector_and_projectors() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == {*COMMANDS, "__init__", "__main__", "detector", "projectors"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(RANKS) - {*COMMANDS, "detector", "projectors"}


@pytest.mark.parametrize("path", modules(), ids=names)
def test_imports_point_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py" or path.name == "__main__.py":
        return  # the public names of all rooms, all commands, and one inside a room
    upwards = [
        module
        for module in imported(path)
        if module.startswith("occ_lab.") and RANKS.get(module.split(".")[1], 0) > RANKS[room(path)]
    ]
    assert not upwards


@pytest.mark.parametrize("path", modules(), ids=names)
def test_only_config_and_commands_know_hydra(path: Path) -> None:
    if room(path) == "config" or room(path) in COMMANDS or path.name == "__main__.py":
        return
    assert not {module.split(".")[0] for module in imported(path)} & CONFIGURATION


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_short(command: str) -> None:
    lines = (PACKAGE / f"{command}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
