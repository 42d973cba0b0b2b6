"""Stage 1 of a task: a stopped and resumed training ends like one without interruption."""

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
from occ_lab.data.datasets.class_folder import ClassFolder
from occ_lab.engine.representation import RepresentationPlan, check_side, learn
from occ_lab.utils.errors import InputError
from tests.data.trees import class_tree
from tests.engine.plans import plan


class CtrlC(Callback):
    """Simulates a user who stops in the middle of an epoch, or after all epochs."""

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
    """Restores the handler, because Lightning makes the process ignore the signal for good."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("toys"), ["dot"], train=9)


def learned(
    toys: Path,
    folder: Path,
    how: RepresentationPlan,
    side: int = 8,
    rotate: float = 0,
    stop: int | None = None,
    curve: bool = False,
) -> dict[str, Any]:
    """Learn into ``folder``."""
    loggers = [CSVLogger(folder, name="", version="", prefix="")] if curve else []
    callbacks = [] if stop is None else [CtrlC(stop)]
    benchmark = ClassFolder(root=toys, resize=side, crop=side, rotate=rotate)
    target = folder / "dot.safetensors"
    return learn(how, benchmark, "dot", folder / "stage1", target, loggers, callbacks)


def stopped(toys: Path, folder: Path, how: RepresentationPlan, epoch: int, **view: Any) -> None:
    with pytest.raises(SystemExit):
        learned(toys, folder, how, stop=epoch, **view)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["last.ckpt"]


def same_weights(one: Path, two: Path) -> bool:
    first, second = (load_file(folder / "dot.safetensors") for folder in (one, two))
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "settings", "view", "epochs"),
    [
        ("rotation", {}, {}, [2]),
        ("contrastive_da", {}, {}, [1, 3]),
        ("contrastive", {"save_every": 2}, {}, [3]),
        ("contrastive", {"workers": 1}, {}, [2]),
        ("contrastive", {}, {"rotate": 20}, [2]),
        ("rotation", {"patches": 2}, {"side": 12}, [2]),
    ],
)
def test_a_resumed_training_ends_the_same_to_the_bit(
    toys: Path,
    tmp_path: Path,
    name: str,
    settings: dict[str, int],
    view: dict[str, Any],
    epochs: list[int],
) -> None:
    how = plan(name, **settings)
    whole = learned(toys, tmp_path / "whole", how, **view)
    for epoch in epochs:
        stopped(toys, tmp_path / "stopped", how, epoch, **view)
    torch.manual_seed(epochs[0])  # does not matter
    resumed = learned(toys, tmp_path / "stopped", how, **view)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    untimed = {name: value for name, value in resumed.items() if name != "seconds"}
    assert untimed == {name: value for name, value in whole.items() if name != "seconds"}
    assert not (tmp_path / "stopped" / "stage1" / "last.ckpt").exists()


def test_another_seed_learns_something_else(toys: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        learned(toys, tmp_path / str(seed), plan(seed=seed, epochs=1))
    assert not same_weights(tmp_path / "0", tmp_path / "1")


def test_what_is_returned_and_written(toys: Path, tmp_path: Path) -> None:
    found = learned(toys, tmp_path, plan("contrastive"), curve=True)
    figures = {name: value for name, value in found.items() if name not in ("loss", "seconds")}
    assert figures == {
        "n_train": 9,
        "epochs": 4,
        "steps": 8,
        "chance": pytest.approx(1.3862944),  # one of four images
    }
    assert 0 < found["loss"] < 3
    assert found["seconds"] > 0
    assert json.loads((tmp_path / "stage1" / "stage1.json").read_text()) == found
    curve = (tmp_path / "metrics.csv").read_text().splitlines()
    assert set(curve[0].split(",")) == {"chance", "epoch", "loss", "step"}
    assert len(curve) == 1 + 4
    backbone = LearnedBackbone(tmp_path / "dot.safetensors", "pooled")
    assert backbone(torch.rand(2, 3, 8, 8))[0].shape == (2, 32, 1, 1)


def test_a_stop_right_after_the_last_epoch_loses_nothing(toys: Path, tmp_path: Path) -> None:
    whole = learned(toys, tmp_path / "whole", plan())
    stopped(toys, tmp_path / "stopped", plan(), epoch=4)
    found = learned(toys, tmp_path / "stopped", plan())
    assert found["steps"] == whole["steps"] == 8
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_more_patches_are_fewer_images_a_step(toys: Path, tmp_path: Path) -> None:
    for count, steps in ((2, 4), (8, 9)):  # two images a step, at least one
        found = learned(toys, tmp_path / str(count), plan(patches=count, epochs=1), side=12)
        assert found["steps"] == steps


@pytest.mark.parametrize(
    ("patches", "side", "message"),
    [
        (0, 8, ""),
        (2, 12, ""),
        (0, 12, "encoder.side: 8 px, but images are cropped to 12 px"),
        (2, 7, "encoder.side: patches of 8 px are larger than the images"),
    ],
)
def test_the_encoder_must_fit_the_images(toys: Path, patches: int, side: int, message: str) -> None:
    representation = plan(patches=patches).module()
    benchmark = ClassFolder(root=toys, resize=side, crop=side)
    if not message:
        check_side(representation, benchmark)
        return
    with pytest.raises(InputError, match=message) as error:
        check_side(representation, benchmark)
    assert error.value.part == "representation"


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("batch_size", 0), ("save_every", 0), ("workers", -1)]
)
def test_numbers_out_of_range(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        plan(**{name: value})
