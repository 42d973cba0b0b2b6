"""Every Python block of every page, in the order of the page."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import occ_lab
from occ_lab.data import Benchmark
from tests.docs.pages import PAGES, blocks
from tests.docs.world import World, inside

Names = dict[str, Any]
PROGRAMS = [page for page in PAGES if blocks(page, "python")]


def outcome(page: str, world: World) -> Names:
    """Run all Python blocks of a page but those of files in a folder; what they define."""
    programs = [each for each in blocks(page, "python") if "/" not in (each.file or "")]
    text = "".join(each.text for each in programs)
    world.make(text)
    if "bottle_raw.onnx" in text:  # as any other export
        world.make("model/tasks/folder/export")
        made = world.folder / "model" / "tasks" / "folder" / "export" / "folder_raw.onnx"
        shutil.copy(made, world.folder / "bottle_raw.onnx")
    shutil.rmtree(world.folder / "outputs" / "transistor", ignore_errors=True)  # of another page
    names: Names = {"__name__": "__main__"}
    with inside(world.folder), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Benchmark, "resize", 64)
        patch.setattr(Benchmark, "crop", 64)
        warnings.simplefilter("ignore")
        for number, block in enumerate(programs, start=1):
            exec(compile(block.text, f"{page}, block {number}", "exec"), names)
    return names


def readme(names: Names, world: World) -> None:
    assert set(names["result"].metrics) >= {"image_auroc", "pixel_auroc"}
    assert names["detector"].score(world.folder / "part1.png").maps.shape == (1, 64, 64)


def own_parts(names: Names, world: World) -> None:
    assert len(names["found"].anomalous) == len(names["paths"]) == 2


def python(names: Names, world: World) -> None:
    assert names["first"].map.shape[1:] == (64, 64)  # 224 of the defaults
    assert len(names["first"].path) == len(names["first"].label) == len(names["first"].score)
    assert names["scores"].score.shape == (2,)
    assert [level.shape for level in names["levels"]] == [(2, 64, 16, 16), (2, 128, 8, 8)]
    assert names["z"].shape == (2, 192, 16, 16)
    assert names["judged"].anomalous.shape == (1,)
    assert names["verdict"].learned
    assert names["stream"].online.images == 2
    assert (world.folder / "outputs" / "transistor" / "metrics.json").is_file()


def training(names: Names, world: World) -> None:
    assert names["result"].steps in (1, 2)


def extending(names: Names, world: World) -> None:
    assert names["again"].objective.margin == 0.01
    listed = import_module("mine.listed").Listed(root=world.folder / "listed")
    data = occ_lab.data.AnomalyDataModule(listed, task="bolt")
    assert len(data.train_images) == 6


def whole_image(names: Names, world: World) -> None:
    """The loop over tiles gives the scores of the detector."""
    image = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    score, heat = names["score"](image)
    predictor = occ_lab.load(world.folder / "outputs" / "tiles")
    with torch.inference_mode():
        expected = predictor.detector.score_pixels(image[None])
    assert score == pytest.approx(float(expected.score), rel=1e-4)
    np.testing.assert_allclose(heat, expected.map[0], rtol=1e-4, atol=1e-5)
    assert Image.open(world.folder / "part1.png").size == (64, 64)


CHECKS: dict[str, Callable[[Names, World], None]] = {
    "README.md": readme,
    "docs/guides/extending.md": extending,
    "docs/guides/training.md": training,
    "docs/guides/whole_image.md": whole_image,
    "docs/start/own_parts.md": own_parts,
    "docs/start/python.md": python,
}


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_programs_of_a_page_run(
    page: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(world.folder / "plugin"))
    CHECKS.get(page, lambda names, world: None)(outcome(page, world), world)
