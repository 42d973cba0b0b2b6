"""A user's own configuration and classes, from a folder or an installed package."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from occ_lab.config.folders import folder_of
from occ_lab.config.packages import make_importable
from tests.commands import command
from tests.data.trees import noise, save

CLASSES = '''
from lightning.pytorch.callbacks import Callback

from occ_lab.data.base import Benchmark
from occ_lab.data.files import image_files
from occ_lab.data.items import Item, Split
from occ_lab.objectives import Objective


class Length(Objective):
    """The squared length of the features."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        self.scale = scale

    def forward(self, z):
        return self.scale * z.square().sum(dim=1)

    def loss(self, z):
        return self(z).mean()


class Parts(Benchmark):
    """good/ and bad/ in one folder."""

    def available(self):
        return ["part"] if (self.root / "good").is_dir() else []

    def published_split(self, task):
        good, bad = (image_files(self.root / name) for name in ("good", "bad"))
        test = [Item(path, 0) for path in good[4:]] + [Item(path, 1) for path in bad]
        return Split([Item(path, 0) for path in good[:4]], test)


class Note(Callback):
    """Writes the name of the task."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        with open(self.path, "w") as file:
            file.write(type(pl_module.objective).__name__)
'''
LOSS = """
_target_: my_parts.Length
name: length
scale: 2
fit:
  epochs: 1
  batch_size: 4
"""
DATASET = """
defaults:
  - base/structured@_here_
  - _self_
_target_: my_parts.Parts
name: parts
root: ???
resize: 64
crop: 64
"""
CALLBACKS = """
defaults:
  - default
  - _self_
note:
  _target_: my_parts.Note
  path: ${task.folder}/note.txt
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classes and configuration of the user's own, and with images."""
    folder = tmp_path_factory.mktemp("my own parts")
    files = {"loss/length": LOSS, "dataset/parts": DATASET, "callbacks/note": CALLBACKS}
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir()
        path.write_text(text)
    (folder / "my_parts.py").write_text(CLASSES)
    for number in range(6):
        save(folder / "images" / "good" / f"{number}.png", noise(number))
    for number in range(2):
        save(folder / "images" / "bad" / f"{number}.png", 255 - noise(50 + number))
    return folder


def asked(plugin: Path, *more: str) -> list[str]:
    return [
        *("--config-dir", str(plugin), "loss=length", "dataset=parts", "callbacks=note"),
        *(f"dataset.root='{plugin}/images'", "maps=0", "trainer.accelerator=cpu", *more),
    ]


def test_a_folder_of_ones_own_is_enough(plugin: Path, tmp_path: Path) -> None:
    done = command("train", *asked(plugin, "hydra.run.dir=out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["dataset"], written["loss"], list(written["tasks"])) == (
        *("parts", "length"),
        ["part"],
    )
    assert (tmp_path / "out" / "tasks" / "part" / "note.txt").read_text() == "Length"


def test_so_it_is_in_a_multirun_side_by_side(plugin: Path, tmp_path: Path) -> None:
    sweep = [
        "-m",
        *asked(plugin, "loss.scale=choice(1,-1)", "launcher=cores"),
        "hydra.sweep.dir=out",
    ]
    done = command("train", *sweep, cwd=tmp_path, fresh=True)  # it starts processes of its own
    assert done.returncode == 1  # of the scale below 0
    assert "job 1 (loss.scale=-1): loss.scale must be above 0, got -1" in done.stdout
    assert [path.parent.name for path in (tmp_path / "out").glob("*/metrics.json")] == ["0"]
    assert "loss.scale must be above 0" in (tmp_path / "out" / "1" / "error.txt").read_text()
    assert (tmp_path / "out" / "0" / "tasks" / "part" / "note.txt").read_text() == "Length"


def test_a_search_path_of_ones_own(plugin: Path, tmp_path: Path) -> None:
    path = f"hydra.searchpath=['file://{plugin}']"
    done = command("train", path, "loss=length", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).loss._target_ == "my_parts.Length"
    refused = command("train", path, "loss=length", "hydra.run.dir=out", cwd=tmp_path)
    assert refused.returncode == 1
    assert "loss._target_: my_parts.Length cannot be imported" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_installed_package_joins_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "mine" / "conf" / "loss"
    conf.mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("")
    (conf / "length.yaml").write_text(LOSS)
    (conf / "norm.yaml").write_text("name: not ours")
    about = tmp_path / "mine-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    entries = "[occ_lab.configs]\nmine = mine.conf\nlost = not_there.conf\n"
    (about / "entry_points.txt").write_text(entries)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command("train", "loss=length", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).loss.name == "length"
    assert "occ_lab.configs: the package not_there.conf of lost cannot be found" in done.stderr
    done = command("train", "--cfg", "job", cwd=tmp_path)
    assert OmegaConf.create(done.stdout).loss.name == "norm"  # the project's own comes first


def test_the_folder_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "has_conf" / "conf").mkdir(parents=True)
    (tmp_path / "has_conf" / "__init__.py").write_text("")
    assert folder_of("has_conf") == tmp_path / "has_conf" / "conf"
    assert folder_of("has_conf.conf") == tmp_path / "has_conf" / "conf"
    assert folder_of("has_conf.nothing") is None
    assert folder_of("json.nothing") is None


def test_modules_beside_the_configuration_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.chdir(tmp_path)
    make_importable(["--cfg", "job", "loss=norm"])
    assert os.environ["PYTHONPATH"] == "elsewhere"
    for _ in range(2):
        make_importable(["loss=norm", "-m", "--config-dir=own"])
        assert sys.path[0] == str(tmp_path / "own")
        assert os.environ["PYTHONPATH"] == f"{tmp_path / 'own'}{os.pathsep}elsewhere"
