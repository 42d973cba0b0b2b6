"""A folder that has all that the pages speak of, and the commands of the pages run in it."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from occ_lab.__main__ import main
from occ_lab.backbones import presets
from occ_lab.backbones.encoder import Encoder
from occ_lab.backbones.learned import save_encoder
from occ_lab.engine import compare, steps
from tests.data.trees import class_tree, mvtec_tree, noise, save
from tests.docs.pages import PAGES, Command, blocks

# What makes the directories and files that commands and programs of the pages begin with.
MAKERS = {
    "model": "train dataset=folder dataset.normal=parts/good hydra.run.dir=model",
    "model/tasks/folder/export": "export run=model",
    "bottle_raw.pt2": (
        "export run=outputs/mvtec/norm/DATE task=bottle format=torch_export output=bottle_raw.pt2"
    ),
    "parts_raw.onnx": "export run=outputs/tiles output=parts_raw.onnx",
    "outputs/tiles": (
        "train dataset=folder dataset.normal=parts/good dataset.tile=64 hydra.run.dir=outputs/tiles"
    ),
    "outputs/mvtec/norm/DATE": "train dataset=mvtec hydra.run.dir=outputs/mvtec/norm/DATE",
    "outputs/folder/norm/DATE": (
        "train dataset=folder dataset.normal=parts/good moments=true "
        "hydra.run.dir=outputs/folder/norm/DATE"
    ),
    "outputs/textures/cosine/DATE": (
        "train --config-dir plugin loss=cosine backbone=edges "
        "hydra.run.dir=outputs/textures/cosine/DATE"
    ),
    "outputs/compare/folder/DATE": (
        "compare dataset=folder dataset.normal=parts/good hydra.run.dir=outputs/compare/folder/DATE"
    ),
    "outputs/sweeps/DATE": "train -m loss=norm,padim seed=0,1 hydra.sweep.dir=outputs/sweeps/DATE",
}
WRITES = ("hydra.run.dir=", "hydra.sweep.dir=", "output=")
DEFAULTS = ("dataset.root=data/mvtec", "loss=norm", "seed=0,1,2")
# Less work for the same commands, with an argument or any. What the page says takes precedence,
# then what comes later here.
LESS = [
    ("train compare stream norm_study", "", ["dataset.resize=64", "dataset.crop=64"]),
    ("train compare stream norm_study", "", ["backbone=resnet18", "backbone.weights=random"]),
    (
        "train compare stream norm_study",
        "",
        ["backbone.model=test_resnet", "backbone.strides=[4,8]"],
    ),
    ("train compare two_stage", "", ["maps=1", "trainer.accelerator=cpu"]),
    ("train compare stream", "dataset=textures", ["dataset.category=brick", "dataset.train=6"]),
    ("train compare", "dataset=textures", ["dataset.normal=3", "dataset.defective=5"]),
    ("train stream two_stage", "dataset=mvtec", ["dataset.category=bottle"]),
    ("train two_stage", "dataset=cifar10", ["dataset.category=airplane"]),
    ("train compare", "dataset=folder", ["dataset.crop=whole"]),
    ("train", "dataset=folder", ["calibration.folds=2"]),
    ("train", "dataset=class_folder", ["calibration.folds=0"]),
    ("train", "dataset=listed", ["calibration.folds=0"]),
    ("train", "explain=occlusion", ["explain.window=0.5", "explain.stride=0.5"]),
    ("train", "explain=integrated_gradients", ["explain.count=2", "explain.steps=2"]),
    ("compare", "", ["methods=[norm,padim]", "calibration.folds=0"]),
    ("stream", "dataset=mvtec", ["dataset.train_limit=6"]),
    ("norm_study", "", ["norms=[1,4]", "times=[10]"]),
    ("two_stage", "", ["dataset.resize=32", "dataset.crop=32", "density=[kde]"]),
    ("two_stage", "", ["representation.fit.epochs=1", "representation.fit.batch_size=4"]),
    # Rotations collapse so early.
    ("two_stage", "", ["dataset.train_limit=4", "representation=contrastive"]),
]
COMMANDS = {command for commands, _, _ in LESS for command in commands.split()}
LESS_THAN = {"loss.fit.steps=200": "loss.fit.steps=2", "explain.count=60": "explain.count=2"}
ALWAYS = {"cache clear": ["--yes"], "report": ["--resamples", "20"]}


def maker(line: str) -> Command:
    """A line of `MAKERS` as a command."""
    return Command(("occ-lab", *line.split()))


class Outcome(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    text: str


class World:
    """The folder, and what has been run in it: every command once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[Command, Outcome] = {}
        for category in ("bottle", "transistor"):
            mvtec_tree(folder / "data" / "mvtec", category, train=20)
        tiles = folder / "data" / "magnetic_tile"
        for index in range(6):
            for name in ("MT_Free", "MT_Crack"):
                save(tiles / name / "Imgs" / f"{index}.jpg", noise(index))
            mask = np.zeros((64, 64), np.uint8)
            mask[20:40, 20:40] = 255
            save(tiles / "MT_Crack" / "Imgs" / f"{index}.png", mask)
        class_tree(folder / "data" / "classes")
        class_tree(folder / "data", ["airplane", "automobile"], side=32)  # CIFAR-10
        for name, count in (("parts/good", 26), ("parts/new", 2), ("parts/bad", 3), ("lot2", 20)):
            for index in range(count):
                save(folder / name / f"{index}.png", noise(index + 100 * len(name)))
        for index in range(3):
            save(folder / "line1" / f"{index}.png", noise(500 + index))
        for name in ("part1", "part2", "left", "right"):
            save(folder / f"{name}.png", noise(len(name)))
        (folder / "verdicts.csv").write_text("path,verdict\nline1/0.png,false alarm\n")
        listed_parts(folder / "listed")
        learned = folder / "outputs" / "two_stage" / "cifar10" / "rotation" / "DATE" / "backbones"
        learned.mkdir(parents=True)
        save_encoder(Encoder(side=32), patches=0, path=learned / "airplane.safetensors")
        for page in PAGES:
            for block in blocks(page):
                if block.file:
                    path = folder / block.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.text, encoding="utf-8")
        (folder / "plugin" / "mine" / "__init__.py").touch()

    def make(self, text: str) -> None:
        """Make the directories and files of `MAKERS` that a text names."""
        for path, line in MAKERS.items():
            if re.search(rf"(?<![\w/]){path}\b", text) and not (self.folder / path).exists():
                found = self.run(maker(line))
                assert found.code == 0, found.text

    def run(self, command: Command) -> Outcome:
        """Run ``occ-lab ...`` in this process.

        The second time, or if it differs from an earlier one in where it writes or in what is the
        default anyway, it gives what it gave before.
        """
        same = essence(command)
        command = MADE.get(same, command)
        if command not in self.done:
            name, *arguments = command.words[1:]
            self.make(str(same))
            with inside(self.folder):
                self.done[command] = called(name, shrunk(name.replace("-", "_"), arguments))
        return self.done[command]


def essence(command: Command) -> Command:
    """A command without where it writes, and without what is the default anyway."""
    left = [each for each in command.words if not each.startswith(WRITES) and each not in DEFAULTS]
    return Command(tuple(left))


MADE = {essence(made): made for line in MAKERS.values() for made in [maker(line)]}


def listed_parts(folder: Path) -> None:
    """Images in a table, as the benchmark of docs/guides/extending.md reads them."""
    rows = [("train", 0)] * 6 + [("test", 0)] * 2 + [("test", 1)] * 3
    listed = []
    for index, (part, label) in enumerate(rows):
        pixels, mask = noise(index).copy(), np.zeros((64, 64), np.uint8)
        if label:
            pixels[20:40, 20:40], mask[20:40, 20:40] = 255, 255
            save(folder / f"{index}_mask.png", mask)
        save(folder / f"{index}.png", pixels)
        listed.append(["bolt", f"{index}.png", part, label, f"{index}_mask.png" if label else ""])
    with (folder / "parts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["task", "path", "part", "label", "mask"])
        writer.writerows(listed)


def shrunk(module: str, arguments: list[str]) -> list[str]:
    """The arguments of a command, with less work for it."""
    for start, more in ALWAYS.items():
        if " ".join([module, *arguments]).startswith(start):
            return [*arguments, *more]
    if module not in COMMANDS or "--help" in arguments or "--cfg" in arguments:
        return arguments
    keys = {each.partition("=")[0] for each in arguments}
    if keys & {"dataset.resize", "dataset.crop"}:
        keys |= {"dataset.resize", "dataset.crop"}
    if "backbone" in keys:
        keys |= {"backbone.model", "backbone.weights", "backbone.strides"}
    named = [*arguments, *([] if "dataset" in keys else ["dataset=textures"]), ""]
    less: dict[str, str] = {}
    for commands, argument, overrides in LESS:
        if module in commands.split() and argument in named:
            less |= dict(each.split("=", 1) for each in overrides)
    added = [f"{key}={value}" for key, value in less.items() if key not in keys]
    given = [LESS_THAN.get(each, each) for each in arguments]
    return [*(first_two(each) if "-m" in arguments else each for each in given), *added]


def first_two(override: str) -> str:
    """An override of a sweep with at most two of its values; one of a seed."""
    key, equals, value = override.partition("=")
    if "[" in value or "," not in value:
        return override
    most = 1 if key == "seed" else 2
    return f"{key}{equals}{','.join(value.split(',')[:most])}"


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """A block that runs in a folder, with less training and a small backbone by default."""

    def small(name: str, **overrides: Any) -> Any:
        if name == "efficientnet_lite0":
            name = "resnet18"
            overrides = {
                "model": "test_resnet",
                "weights": "random",
                "strides": [4, 8],
                **overrides,
            }
        return create(name, **overrides)

    create = presets.create
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(steps, "MOST", 2)
        patch.setattr(compare, "SECONDS", 0.01)
        patch.setattr(presets, "create", small)
        yield


def loggers() -> list[logging.Logger]:
    """All loggers that there are by now."""
    known = logging.Logger.manager.loggerDict.values()
    return [each for each in known if isinstance(each, logging.Logger)]


def called(name: str, arguments: list[str]) -> Outcome:
    """``occ-lab NAME ARGUMENTS`` in this process."""
    printed, code = io.StringIO(), 0
    root = logging.getLogger()
    handlers, level, path, environment = root.handlers[:], root.level, sys.path[:], dict(os.environ)
    enabled = [each for each in loggers() if not each.disabled]
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["occ-lab", name, *arguments])
        patch.setenv("COLUMNS", "140")
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            except Exception:
                printed.write(traceback.format_exc())
                code = 1
    GlobalHydra.instance().clear()
    root.handlers[:], sys.path[:] = handlers, path
    root.setLevel(level)
    for each in enabled:  # Hydra disables all where a command has no log of its own
        each.disabled = False
    os.environ.clear()
    os.environ.update(environment)
    return Outcome(code, printed.getvalue())
