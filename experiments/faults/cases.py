"""The commands that are killed, on data so small that a run takes a second."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from experiments.faults.crashes import Case
from occ_lab.config.composition import composed
from occ_lab.config.export import perform_export
from occ_lab.config.stream import perform_stream
from occ_lab.config.train import perform_run
from occ_lab.config.two_stage import perform_both_stages
from occ_lab.features.cache import FeatureCache
from occ_lab.reporting.cache_table import clear
from occ_lab.reporting.report.write import write_report
from occ_lab.utils.exclusive import exclusive

HERE = ["trainer.accelerator=cpu", "logger=none", "maps=1"]
BACKBONE = [
    *("backbone=resnet18", "backbone.model=resnet10t", "backbone.weights=random"),
    "backbone.strides=[8]",
]
SIZE = ["dataset.resize=64", "dataset.crop=64"]
TEXTURES = [*SIZE, "dataset.train=8", "dataset.normal=4", "dataset.defective=4"]
CLOSED = ["loss=norm", "loss.solver=closed_form", "loss.time=1"]
GRADIENT = [
    *("loss=norm", "loss.solver=gradient", "trainer.max_epochs=2", "checkpoint_every=1"),
    "loss.fit.batch_size=4",
]
STAGES = [
    *("dataset=class_folder", "dataset.resize=8", "dataset.crop=8"),
    *("representation.encoder.head=[16,8]", "representation.fit.batch_size=4"),
    *("representation.fit.epochs=2", "representation.fit.save_epochs=1"),
    *("density=[kde]", "features=[pooled]", "representation.own_score=null"),
]


def images(folder: Path, count: int, side: int = 64) -> None:
    """Smooth random textures, ``000.png`` and so on."""
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng(number).integers(60, 200, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:03d}.png")


def textures(given: Path, names: str, out: Path, how: list[str]) -> None:
    """Train and test detectors on generated textures; features are cached beside the run."""
    cfg = composed(
        "train",
        [
            *HERE,
            *BACKBONE,
            *TEXTURES,
            *how,
            f"dataset.category=[{names}]",
            "resume=true",
            f"dataset.root='{given}/textures'",
            f"cache.dir='{given}/cache'",
        ],
    )
    directory = out / "run"
    with exclusive(directory):
        perform_run(cfg, directory)


def make_textures(given: Path, names: str) -> None:
    """Generate the images and their features, so that this part is not killed."""
    textures(given, names, given / "once", CLOSED)


def train(given: Path, out: Path) -> None:
    """Two tasks in closed form."""
    textures(given, "brick,grass", out, CLOSED)


def train_by_gradient(given: Path, out: Path) -> None:
    """One task by gradient, with a state saved after each epoch."""
    textures(given, "brick", out, GRADIENT)


def stream(given: Path, out: Path) -> None:
    """Nine images, one of which cannot be read; the state is saved after every third."""
    cfg = composed(
        "stream",
        [
            *HERE,
            *BACKBONE,
            *SIZE,
            "loss.time=1",
            "cache.enabled=false",
            "save_every=3",
            f"input='{given}/images'",
            "resume=true",
            "overkill=0.25",
            "heatmaps=true",
        ],
    )
    with exclusive(out / "run"):
        perform_stream(cfg, out / "run")


def make_line(given: Path) -> None:
    """The images of a stream."""
    images(given / "images", 8)
    (given / "images" / "003_bad.png").write_bytes(b"no image")


def stream_of_a_dataset(given: Path, out: Path) -> None:
    """A stream of the training images of a task, followed by a test."""
    cfg = composed(
        "stream",
        [
            *HERE,
            *BACKBONE,
            *TEXTURES,
            "loss.time=1",
            "save_every=3",
            "resume=true",
            "dataset.category=brick",
            f"dataset.root='{given}/textures'",
            "cache.enabled=false",
        ],
    )
    with exclusive(out / "run"):
        perform_stream(cfg, out / "run")


def two_stages(given: Path, out: Path) -> None:
    """Two encoders, and a density for each."""
    cfg = composed(
        "two_stage",
        [
            *HERE,
            *STAGES,
            f"dataset.root='{given}/classes'",
            "cache.enabled=false",
            "resume=true",
        ],
    )
    with exclusive(out / "run"):
        perform_both_stages(cfg, out / "run")


def make_classes(given: Path) -> None:
    """Two classes."""
    for part in ("train", "test"):
        for name in ("a", "b"):
            images(given / "classes" / part / name, 4, 8)


def report(given: Path, out: Path) -> None:
    """One report over two runs."""
    write_report([given / "runs"], Console(), out=out / "report", resamples=50)


def make_runs(given: Path) -> None:
    """Two runs with different seeds."""
    for seed in (0, 1):
        textures(given, "brick", given / "runs" / str(seed), [*CLOSED, f"seed={seed}"])


def export(given: Path, out: Path) -> None:
    """An exported detector."""
    where = [f"run='{given}/once/run'", "format=torch_export", "input=tensor"]
    perform_export(composed("export", [*where, f"output='{out}/detector.pt2'"]))


def clear_cache(given: Path, out: Path) -> None:
    """Remove all features."""
    if (out / "cache").is_dir():
        clear(FeatureCache(out / "cache"), Console(), sure=True)


def fill_cache(given: Path, out: Path) -> None:
    """A copy of the features of a run."""
    shutil.copytree(given / "cache", out / "cache")


CASES: dict[str, Case] = {
    "train": Case(train, partial(make_textures, names="brick,grass")),
    "train by gradient": Case(train_by_gradient, partial(make_textures, names="brick")),
    "stream": Case(stream, make_line, code=1),
    "stream of a dataset": Case(stream_of_a_dataset, partial(make_textures, names="brick")),
    "two_stage": Case(two_stages, make_classes),
    "report": Case(report, make_runs),
    "export": Case(export, partial(make_textures, names="brick")),
    "cache clear": Case(clear_cache, partial(make_textures, names="brick"), fill_cache),
}
