"""The densities of Sohn et al. 2021 on photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run


@pytest.mark.parametrize(
    ("loss", "least"), [("kde", 0.9), ("gde", 0.9), ("ocsvm_rbf", 0.9), ("ocsvm_linear", 0.8)]
)
def test_real_automobiles(loss: str, least: float, shared_data: Path, tmp_path: Path) -> None:
    where = ["dataset=cifar10", f"dataset.root='{shared_data}/cifar10_subset'"]
    small = ["dataset.category=automobile", "dataset.resize=64", "dataset.crop=64", "logger=none"]
    perform_run(
        composed("train", [*where, *small, "trainer.accelerator=cpu", f"loss={loss}"]), tmp_path
    )
    summary = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert summary["loss"] == loss
    assert summary["mean"]["image_auroc"] > least
