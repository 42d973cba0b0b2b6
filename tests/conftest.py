"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("OCC_LAB_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set OCC_LAB_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the features of the tests out of the user's cache."""
    os.environ["OCC_LAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))
