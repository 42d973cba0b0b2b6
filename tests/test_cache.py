"""The cache's command, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occ_lab.features.cache import FeatureCache
from tests import commands


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return commands.command("cache", *arguments, cwd=Path(), env={"COLUMNS": "200", **environment})


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """Two entries."""
    kept = FeatureCache(tmp_path / "Merkmale ä")
    for backbone, count in (("resnet18", 3), ("vgg19", 5)):
        features = [np.ones((count, 2, 2, 100))]
        images = [[f"/data/{backbone}/{index}.png", 1, 2, None] for index in range(count)]
        key = {"backbone": backbone, "images": images}
        kept.get(key, count, lambda levels=features: [levels])
    return kept


def test_list_shows_each_entry_and_the_total(cache: FeatureCache) -> None:
    done = command("list", "--dir", str(cache.dir))
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert rows["resnet18"][1] == "3"
    assert rows["vgg19"][1] == "5"
    assert rows["vgg19"][-1] == str(Path("/data/vgg19"))
    total = sum(entry.size for entry in cache.entries()) / 1e6
    assert f"2 entries, {total:.1f} MB in {cache.dir}" in done.stdout


def test_the_folder_is_that_of_the_configuration(cache: FeatureCache) -> None:
    assert f"in {cache.dir}" in command("list", OCC_LAB_CACHE=str(cache.dir)).stdout


@pytest.mark.parametrize("what", ["list", "check"])
def test_an_absent_folder_is_empty(tmp_path: Path, what: str) -> None:
    done = command(what, "--dir", str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    assert "0 entries" in done.stdout
    assert not (tmp_path / "none").exists()


def test_check_names_the_damaged_file(cache: FeatureCache) -> None:
    assert command("check", "--dir", str(cache.dir)).returncode == 0
    damaged = next(cache.entries()).folder / "level0.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    done = command("check", "--dir", str(cache.dir))
    assert done.returncode == 1
    assert f"{damaged}: its content has changed" in done.stdout
    assert "2 entries, 1 problems" in done.stdout


def test_clear_says_what_it_freed(cache: FeatureCache) -> None:
    total = sum(path.stat().st_size for path in cache.dir.rglob("*") if path.is_file())
    done = command("clear", "--yes", "--dir", str(cache.dir))
    assert done.returncode == 0, done.stderr
    assert f"freed {total / 1e6:.1f} MB" in done.stdout
    assert list(cache.dir.iterdir()) == []


def test_clear_without_a_terminal_wants_to_be_told(cache: FeatureCache) -> None:
    done = command("clear", "--dir", str(cache.dir))
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(list(cache.entries())) == 2


def test_clear_spares_a_folder_that_holds_other_things(cache: FeatureCache) -> None:
    other = cache.dir / "photographs"
    other.mkdir()
    done = command("clear", "--yes", "--dir", str(cache.dir))
    assert done.returncode == 2
    assert "photographs" in done.stderr
    assert other.is_dir()
    assert len(list(cache.entries())) == 2


def test_help_names_the_commands() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(what in done.stdout for what in ("list", "check", "clear"))


def test_the_list_needs_no_slow_import(cache: FeatureCache) -> None:
    spy = (
        "import sys; from occ_lab.cache import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'lightning', 'timm', 'albumentations') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", spy, "list", "--dir", str(cache.dir)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
