"""The folder in which commands and programs of the pages run."""

from __future__ import annotations

import pytest

from tests.docs.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all pages: what one makes, the others use."""
    return World(tmp_path_factory.mktemp("world"))
