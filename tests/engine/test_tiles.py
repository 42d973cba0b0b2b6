"""Large images in tiles: every pixel counts once, small defects are found, any size works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from occ_lab.backbones import TimmBackbone
from occ_lab.backbones.base import FrozenBackbone
from occ_lab.data.modules import Folder
from occ_lab.data.tiling import Stitching, Tiles
from occ_lab.detector import Detector
from occ_lab.engine.api import FitResult, fit
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.live import Stream
from occ_lab.features.cache import FeatureCache
from occ_lab.objectives import CFA, KNN, Objective, PaDiM
from occ_lab.objectives.norm.objective import Norm
from occ_lab.utils.errors import InputError

SIZES = [(200, 260), (140, 330)]
TILE, OVERLAP = 96, 32


class Colours(FrozenBackbone):
    """The mean colour of patches: no position sees beyond its patch, as if the image were whole."""

    def __init__(self, stride: int = 4) -> None:
        super().__init__("colours")
        self.channels = [3]
        self.mean = torch.nn.AvgPool2d(stride)

    def levels(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.mean(image)]


def folders(folder: Path, count: int = 8) -> dict[str, Path]:
    """Textured images of two sizes; the anomalous ones have a disc of 6 pixels, and masks."""
    random = np.random.default_rng(0)
    for kind, number in ((kind, number) for kind in ("good", "bad") for number in range(count)):
        height, width = SIZES[number % 2]
        pixels = random.normal(120, 10, (height, width, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((height, width), bool)
        if kind == "bad":
            rows, columns = np.mgrid[0:height, 0:width]
            row, column = random.integers(3, height - 3), random.integers(3, width - 3)
            mask = (rows - row) ** 2 + (columns - column) ** 2 <= 9
            pixels[mask] = (230, 60, 60)
        for name, content in ((kind, pixels), (f"masks_{kind}", (mask * 255).astype(np.uint8))):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    return {"normal": folder / "good", "abnormal": folder / "bad", "masks": folder / "masks_bad"}


def fit_tiles(
    folder: Path, objective: Objective | None = None, cache: Any = False, **options: Any
) -> FitResult:
    data = Folder(**folders(folder), tile=TILE, overlap=OVERLAP, batch_size=8)
    backbone = TimmBackbone("test_resnet", weights="random", strides=[4, 8])
    return fit(data, objective, backbone, cache=cache, **options)


@settings(max_examples=60, deadline=None)
@given(
    tile=st.integers(2, 8).map(lambda n: 16 * n),
    overlap=st.floats(0, 0.5),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    stride=st.sampled_from([2, 4, 8, 16]),
)
def test_stitched_scores_are_those_of_the_whole_image(
    tile: int, overlap: float, size: tuple[int, int], stride: int
) -> None:
    """If a score depends on its patch alone, the map shows neither seams nor tiles."""
    frame = Tiles(tile, int(overlap * tile))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    stitching = Stitching(frame, size)
    for origin in frame.origins(*size):
        cut = torch.from_numpy(frame.cut(image, origin)).double().mean(dim=2)
        stitching.add(cut.unfold(0, stride, stride).unfold(1, stride, stride).mean((2, 3))[None])
    margins = [(0, -side % stride) for side in size]
    whole = torch.from_numpy(np.pad(image, [*margins, (0, 0)], mode="symmetric"))
    whole = whole.double().mean(dim=2)
    expected = whole.unfold(0, stride, stride).unfold(1, stride, stride).mean((2, 3))
    height, width = frame.grid(size, stride)
    torch.testing.assert_close(stitching.map, expected[:height, :width])


def test_an_image_is_continued_by_reflection() -> None:
    """A repeated border would be a texture that no real image has, and would score high."""
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    (_, origin) = Tiles(48, 16).origins(40, 70)
    cut = Tiles(48, 16).cut(image, origin)
    assert origin == (0, 32)
    np.testing.assert_array_equal(cut[:40, :38], image[:, 32:])
    np.testing.assert_array_equal(cut[40:, :38], image[39:31:-1, 32:])
    np.testing.assert_array_equal(cut[:40, 38:], image[:, 69:59:-1])


@pytest.mark.parametrize(
    "objective",
    [Norm, lambda: PaDiM(dims=8), lambda: KNN(bank=500), lambda: CFA(bank_compression=4)],
    ids=["norm", "padim", "knn", "cfa"],
)
def test_small_defects_are_found(objective: Callable[[], Objective], tmp_path: Path) -> None:
    made = objective()
    result = fit_tiles(tmp_path, made, steps=None if made.one_pass else 4)
    if made.one_pass:
        assert result.metrics["image_auroc"] > 0.95
        assert result.metrics["pixel_auroc"] > 0.95
    assert result.detector.frame == Tiles(TILE, OVERLAP)
    assert len(result.scores) == 10


def test_the_cache_and_a_detector_from_a_run_give_the_same_scores(tmp_path: Path) -> None:
    plan = CalibrationPlan(folds=2, overkill=0.2)
    cached = fit_tiles(tmp_path, cache=FeatureCache(tmp_path / "cache"), calibration=plan)
    computed = fit_tiles(tmp_path, calibration=plan)
    np.testing.assert_allclose(cached.scores, computed.scores, rtol=1e-2)
    assert computed.predictor.calibration is not None
    assert len(computed.predictor.calibration.scores) == 6  # images, not tiles
    found = computed.predictor.score(computed.paths)
    np.testing.assert_allclose(found.image, computed.scores, rtol=1e-4)
    assert isinstance(found.maps, list)
    assert [tuple(each.shape) for each in found.maps[-2:]] == SIZES
    assert found.p_values is not None


@pytest.mark.parametrize(("asked", "found"), [("auto", None), (2, 2)])
def test_a_position_of_a_tile_means_nothing(asked: Any, found: int | None) -> None:
    """A whole image has a projector for each cell; tiles have one, unless a cell is given."""
    backbone = TimmBackbone("test_resnet", weights="random", strides=[4, 8])
    detector = Detector(backbone, Norm(cell=asked), preprocessing=Tiles(TILE, OVERLAP))
    assert (detector.objective.cell, detector.projector.cell) == (found, found)
    assert Detector(backbone, Norm(cell=asked)).projector.cell == (found or 4)


def test_a_map_peaks_at_the_defect(tmp_path: Path) -> None:
    result = fit_tiles(tmp_path)
    for number in range(4):
        mask = np.asarray(Image.open(tmp_path / f"masks_bad/{number}.png")) > 0
        (found,) = result.detector.score(tmp_path / f"bad/{number}.png").map
        top = np.unravel_index(int(found.argmax()), found.shape)
        rows, columns = np.nonzero(mask)
        assert np.hypot(rows - top[0], columns - top[1]).min() < 8


def test_a_stream_of_tiles_learns_what_the_batch_fit_learns(tmp_path: Path) -> None:
    result = fit_tiles(tmp_path, Norm(time=3))
    backbone = TimmBackbone("test_resnet", weights="random", strides=[4, 8])
    stream = Stream(Detector(backbone, Norm(time=3), preprocessing=Tiles(TILE, OVERLAP)))
    good = sorted(path for path in (tmp_path / "good").iterdir() if str(path) not in result.paths)
    for path in good:
        verdict = stream.push(path)
    assert verdict.map is not None
    assert tuple(verdict.map.shape) in SIZES
    stream.solve(always=True)
    found = stream.detector.score(result.paths).score
    np.testing.assert_allclose(found, result.scores, rtol=1e-3)


def test_tiles_must_form_a_grid() -> None:
    detector = Detector(Colours(24), KNN(), preprocessing=Tiles(96, 0))
    detector.objective.observe([torch.rand(2, 3, 4, 4)])
    detector.objective.finish(detector.projector)
    with pytest.raises(InputError, match="stride must divide 16"):
        detector.score(np.zeros((200, 200, 3), np.uint8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tile": 100}, "multiple of 16"),
        ({"tile": 64, "overlap": 40}, "overlap"),
        ({"tile": 64, "rotate": 10}, "rotated"),
        ({"tile": 64, "kind": "semantic"}, "kind"),
    ],
)
def test_tiles_that_cannot_be_are_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Folder(tmp_path, **given)


def test_auto_takes_tiles_for_large_images_alone(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (400, 300)).save(tmp_path / f"{number}.png")
    small, large = (Folder(tmp_path, tile="auto", resize=side) for side in (128, 96))
    assert not isinstance(small.preprocessing, Tiles)
    assert large.preprocessing == Tiles(256, 32)
