"""Stage 1 of a task: a training that is stopped and resumed ends as if it had not been."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file

from occ_lab.backbones.learned import LearnedBackbone
from occ_lab.config.composition import build, composed
from occ_lab.engine.representation import learn
from tests.backbones.tiny import TINY
from tests.data.trees import class_tree


class CtrlC(Callback):
    """What a user does in the middle of an epoch, or when all epochs are over."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, at: int) -> None:
        if trainer.current_epoch == self.epoch and at == 0:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if trainer.max_epochs == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def answers_ctrl_c() -> Iterator[None]:
    """Lightning makes the process deaf to it for good."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("toys"), ["dot"], train=9)


def learned(
    toys: Path, folder: Path, *overrides: str, stop: int | None = None, curve: bool = False
) -> dict[str, Any]:
    """Learn into ``folder``; 9 images in batches of 4 are two steps an epoch."""
    cfg = composed(
        "two_stage",
        [
            "dataset=class_folder",
            f"dataset.root='{toys}'",
            "dataset.resize=8",
            "dataset.crop=8",
            f"representation.encoder.model={TINY}",
            "representation.encoder.head=[16,8]",
            "representation.optimizer.lr=0.05",
            "representation.fit.epochs=4",
            "representation.fit.batch_size=4",
            "representation.fit.save_epochs=1",
            "trainer.accelerator=cpu",
            *overrides,
        ],
    )
    loggers = [CSVLogger(folder, name="", version="", prefix="")] if curve else []
    watchers = [] if stop is None else [CtrlC(stop)]
    benchmark = build(cfg.dataset, "dataset")
    target = folder / "dot.safetensors"
    return learn(cfg, benchmark, "dot", folder / "stage1", target, loggers, watchers)


def stopped(toys: Path, folder: Path, *overrides: str, epoch: int) -> None:
    with pytest.raises(SystemExit):
        learned(toys, folder, *overrides, stop=epoch)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["representation=rotation"], [2]),
        (["representation=contrastive_da"], [1, 3]),
        (["representation=contrastive", "representation.fit.save_epochs=2"], [3]),
        (["representation=contrastive", "loader.workers=1"], [2]),
        (["representation=contrastive", "dataset.rotate=20"], [2]),
        (["representation=rotation", "dataset.resize=12", "dataset.crop=12"], [2]),
    ],
)
def test_a_resumed_training_ends_the_same_to_the_bit(
    toys: Path, tmp_path: Path, overrides: list[str], epochs: list[int]
) -> None:
    if "dataset.crop=12" in overrides:
        overrides = [*overrides, "representation.encoder.side=8", "representation.patches=2"]
    whole = learned(toys, tmp_path / "whole", *overrides)
    for epoch in epochs:
        stopped(toys, tmp_path / "stopped", *overrides, epoch=epoch)
    torch.manual_seed(epochs[0])  # has no say in it
    resumed = learned(toys, tmp_path / "stopped", *overrides)
    one, two = (load_file(tmp_path / name / "dot.safetensors") for name in ("whole", "stopped"))
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    untimed = {name: value for name, value in resumed.items() if name != "seconds"}
    assert untimed == {name: value for name, value in whole.items() if name != "seconds"}
    assert not (tmp_path / "stopped" / "stage1" / "last.ckpt").exists()


def test_another_seed_learns_something_else(toys: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        learned(toys, tmp_path / str(seed), f"seed={seed}", "representation.fit.epochs=1")
    one, two = (load_file(tmp_path / str(seed) / "dot.safetensors") for seed in (0, 1))
    assert not torch.equal(one["net.conv1.weight"], two["net.conv1.weight"])


def test_what_is_told_and_left(toys: Path, tmp_path: Path) -> None:
    told = learned(toys, tmp_path, "representation=contrastive", curve=True)
    figures = {name: value for name, value in told.items() if name not in ("loss", "seconds")}
    assert figures == {
        "n_train": 9,
        "epochs": 4,
        "steps": 8,
        "chance": pytest.approx(1.3862944),  # one of four images
    }
    assert 0 < told["loss"] < 3
    assert told["seconds"] > 0
    assert json.loads((tmp_path / "stage1" / "stage1.json").read_text()) == told
    curve = (tmp_path / "metrics.csv").read_text().splitlines()
    assert set(curve[0].split(",")) == {"chance", "epoch", "loss", "step"}
    assert len(curve) == 1 + 4
    backbone = LearnedBackbone(tmp_path / "dot.safetensors", "pooled")
    assert backbone(torch.rand(2, 3, 8, 8))[0].shape == (2, 32, 1, 1)


def test_a_stop_right_after_the_last_epoch_loses_nothing(toys: Path, tmp_path: Path) -> None:
    whole = learned(toys, tmp_path / "whole")
    stopped(toys, tmp_path / "stopped", epoch=4)
    told = learned(toys, tmp_path / "stopped")
    assert told["steps"] == whole["steps"] == 8
    one, two = (load_file(tmp_path / name / "dot.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_more_patches_are_fewer_images_a_step(toys: Path, tmp_path: Path) -> None:
    patches = ["dataset.resize=12", "dataset.crop=12", "representation.encoder.side=8"]
    for count, steps in ((2, 4), (8, 9)):  # two images a step, at least one
        asked = [*patches, "representation.fit.epochs=1", f"representation.patches={count}"]
        told = learned(toys, tmp_path / str(count), *asked)
        assert told["steps"] == steps
