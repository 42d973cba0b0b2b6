"""The encoders of all tasks without a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from occ_lab.backbones.learned import LearnedBackbone
from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.engine.two_stage import begun, keep_curve, learn_encoders, report
from tests.data.trees import class_tree
from tests.engine.plans import plan


def test_every_task_gets_an_encoder_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toys = ClassFolder(root=class_tree(tmp_path / "toys"), resize=8, crop=8)
    directory = tmp_path / "out"
    assert not begun(directory)
    found = learn_encoders(plan(epochs=1), toys, directory)
    assert begun(directory)
    assert list(found) == ["dot", "ring"]
    assert {figures["steps"] for figures in found.values()} == {1}
    backbone = LearnedBackbone(directory / "backbones", "pooled")
    assert backbone.for_task("dot").identity != backbone.for_task("ring").identity
    capsys.readouterr()
    assert learn_encoders(plan(epochs=1), toys, directory) == found
    assert capsys.readouterr().out.count("trained before, skipped") == 2


@pytest.mark.parametrize(
    "damaged", ["backbones/dot.safetensors", "stage1/dot/stage1.json", "stage1/dot/last.ckpt"]
)
def test_a_damaged_part_is_named_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    toys = ClassFolder(root=class_tree(tmp_path / "toys"), resize=8, crop=8)
    directory = tmp_path / "out"
    learn_encoders(plan(epochs=1), toys, directory)
    encoder = directory / "backbones" / "dot.safetensors"
    whole = {name: values.clone() for name, values in load_file(encoder).items()}
    if damaged.endswith("last.ckpt"):
        encoder.unlink()
        (directory / damaged).write_bytes(b"PK")
    else:
        (directory / damaged).write_bytes((directory / damaged).read_bytes()[:-9])
    assert learn_encoders(plan(epochs=1), toys, directory)["dot"]["steps"] == 1
    again = load_file(encoder)
    assert all(torch.equal(values, again[name]) for name, values in whole.items())
    assert str(directory / damaged) in caplog.text


def test_a_checkpoint_that_a_kill_has_left_behind_is_removed(tmp_path: Path) -> None:
    toys = ClassFolder(root=class_tree(tmp_path / "toys"), resize=8, crop=8)
    learn_encoders(plan(epochs=1), toys, tmp_path / "out")
    left = tmp_path / "out" / "stage1" / "dot" / "last.ckpt"
    left.touch()
    learn_encoders(plan(epochs=1), toys, tmp_path / "out")
    assert not left.exists()


def test_the_summary_has_stage_1_and_the_means_of_each_density(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = {"dataset": "toys", "representation": "rotation", "seed": 0, "version": "1"}
    seconds = {"seconds": {"fit": 1.0}}
    tasks = {"dot": {"image_auroc": 0.5, **seconds}, "ring": {"image_auroc": 1.0, **seconds}}
    report(tmp_path, header, {"dot": {"seconds": 2.0}}, {"kde_pooled": tasks})
    summary = json.loads((tmp_path / "two_stage.json").read_text())
    assert summary["densities"] == {
        "kde_pooled": {"tasks": tasks, "mean": {"image_auroc": pytest.approx(0.75)}}
    }
    said = capsys.readouterr().out
    for text in ("rotation on toys, seed 0, stage 1 in 2", "kde_pooled", "75.0", "backbones:"):
        assert text in said


def test_the_curves_of_stopped_trainings_are_numbered(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "metrics.csv").write_text("loss")
        keep_curve(tmp_path)
    keep_curve(tmp_path)  # there is none
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.1.csv", "metrics.2.csv"]
