"""From the configuration to a job: what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError
from occ_lab.config.job import make_job


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.fit.optimizer.lr=-1", r"loss\.fit\.optimizer: Invalid learning rate"),
        ("loss.fit.optimizer.lr=abc", r"loss\.fit\.optimizer: .* not supported"),
        ("+loss.fit.optimizer.more=1", r"loss\.fit\.optimizer: .*unexpected keyword"),
        ("loader.validation=2", r"loader\.validation must be a number"),
        ("loss.norm=-1", r"loss\.norm must be a number"),
    ],
)
def test_a_value_out_of_range_is_named_by_its_key(tmp_path: Path, override: str, said: str) -> None:
    small = ["dataset.train=2", "dataset.normal=1", "dataset.defective=1", "logger=none"]
    with pytest.raises(UserError, match=said):
        make_job(composed("train", [*small, f"dataset.root={tmp_path}", override]))
