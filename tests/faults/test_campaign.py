"""The fault campaign in a short form; ``make faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.faults.cases import CASES
from experiments.faults.crashes import Campaign, Case, prepare
from experiments.faults.hostile import hostile
from experiments.faults.images import EARLY, LATE, damaged, fuzz

FILES = 200


@pytest.fixture(scope="module")
def brick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The input of the cases that need a texture, and features of it."""
    given = tmp_path_factory.mktemp("brick") / "given"
    prepare(CASES["train by gradient"], given)
    return given


def survived(campaign: Campaign, stride: int, first: int) -> None:
    found = campaign.run(campaign.points(stride, first))
    assert found.injected > 1
    assert found.lost == []


@pytest.mark.parametrize(
    ("name", "stride", "first"), [("train by gradient", 16, 3), ("cache clear", 5, 2)]
)
def test_a_kill_costs_nothing(
    brick: Path, tmp_path: Path, name: str, stride: int, first: int
) -> None:
    survived(Campaign(CASES[name], tmp_path, brick), stride, first)


@pytest.mark.parametrize(("name", "stride", "first"), [("stream", 24, 9), ("two_stage", 80, 25)])
def test_a_kill_of_what_needs_no_run_costs_nothing(
    tmp_path: Path, name: str, stride: int, first: int
) -> None:
    survived(Campaign(CASES[name], tmp_path), stride, first)


def nothing(given: Path) -> None:
    """There is no input."""


def careless(given: Path, out: Path) -> None:
    """Two files that belong together, written one after the other, the second one only once."""
    (out / "first").write_text("1")
    if not (out / "second").exists():
        (out / "second").write_text(str(len(list(out.iterdir()))))


def test_a_command_that_a_kill_harms_is_found(tmp_path: Path) -> None:
    campaign = Campaign(Case(careless, nothing), tmp_path / "kills")
    assert campaign.changes == ["open first", "open second"]
    assert campaign.run(campaign.points()).lost == []

    campaign.wanted["third"] = "there"
    (lost,) = campaign.run([2]).lost
    assert lost == "killed before change 2 of 2 (open second): third is missing (1 differences)"


def test_damaged_images_are_read_or_named(tmp_path: Path) -> None:
    found, outcomes = fuzz(FILES, tmp_path / "images", seed=1)
    assert (found.injected, found.lost) == (FILES, [])
    assert sum(outcomes.values()) == FILES
    assert outcomes[EARLY] + outcomes[LATE] < FILES // 10


def test_hostile_run_directories_run_no_code(brick: Path, tmp_path: Path) -> None:
    found, outcomes = hostile(brick, tmp_path / "runs", stride=5)
    assert found.injected > 30
    assert found.lost == []
    assert min(outcomes.values()) > 0


def test_the_same_files_are_damaged_every_time() -> None:
    assert list(damaged(20, seed=3)) == list(damaged(20, seed=3))
    assert len({Path(name).suffix for name, _ in damaged(20)}) == 6
