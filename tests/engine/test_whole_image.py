"""A user's own images are used whole, whatever their shapes; their surroundings do not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from occ_lab.backbones import TimmBackbone
from occ_lab.data.datasets.folder import Folder
from occ_lab.data.modules import Folder as FolderData
from occ_lab.data.transforms import Preprocessing, WholeImage
from occ_lab.detector import Detector
from occ_lab.engine.api import fit
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.features.cells import Cells
from occ_lab.features.regions import listed, valid_positions
from occ_lab.objectives import CFA, KNN, DeepSVDD, Gaussian, Objective, PaDiM
from occ_lab.objectives.norm.local_form import shrunk_means, solved_form, solved_spectra
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.objectives.norm.objective import Norm

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "norm": Norm,
    "norm_one_projector": lambda: Norm(cell=None, bias="flow", time=10),
    "norm_chosen_time": lambda: Norm(time="auto"),
    "norm_gradient": lambda: Norm(solver="gradient"),
    "padim": lambda: PaDiM(dims=8),
    "knn": lambda: KNN(bank=500),
    "gaussian": Gaussian,
    "cfa": CFA,
    "svdd_soft": lambda: DeepSVDD("soft", warmup=0),
}


def part(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A part: a smooth shading with a little noise."""
    rows, columns = np.mgrid[0:height, 0:width] / 8
    grey = 120 + 40 * np.sin(rows) * np.cos(columns) + random.normal(0, 4, (height, width))
    return np.stack([grey] * 3, axis=-1).clip(0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def parts(folder: Path, sizes: list[tuple[int, int]], bad: int = 10) -> Folder:
    """Normal parts of several sizes, and anomalous ones: a block at a border, with its mask."""
    random = np.random.default_rng(0)
    for number in range(24):
        write(folder / f"good/{number}.png", part(random, *sizes[number % len(sizes)]))
    for number in range(bad):
        height, width = sizes[number % len(sizes)]
        pixels, mask = part(random, height, width), np.zeros((height, width), np.uint8)
        row, column = [(0, width // 2), (height - 9, width // 2), (height // 2, 0), (0, width - 9)][
            number % 4
        ]
        block = (slice(row, row + 9), slice(column, column + 9))
        pixels[block], mask[block] = (220, 30, 30), 255
        write(folder / f"bad/{number}.png", pixels)
        write(folder / f"masks/{number}.png", mask)
    given = {"normal": folder / "good", "abnormal": folder / "bad", "masks": folder / "masks"}
    return Folder("parts", **given, resize=64)


def backbone() -> TimmBackbone:
    return TimmBackbone("test_resnet", weights="random", strides=[4, 8])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_block_at_the_border_of_ten_parts_is_found(name: str, tmp_path: Path) -> None:
    """Parts of three shapes, so that most of them leave a part of the frame free."""
    benchmark = parts(tmp_path, [(96, 128), (128, 96), (96, 150)])
    data = FolderData(**arguments(benchmark), eval_batch_size=5, batch_size=5)
    objective = OBJECTIVES[name]()
    result = fit(data, objective, backbone(), steps=None if objective.one_pass else 4, cache=False)
    if objective.one_pass:  # over random features, few steps of a gradient learn next to nothing
        assert result.metrics["image_auroc"] > 0.95
        assert result.metrics["pixel_auroc"] > 0.9
    assert result.detector.frame == WholeImage(64, 64)


def arguments(benchmark: Folder) -> dict[str, object]:
    return {
        "normal": benchmark.root,
        "abnormal": benchmark.abnormal,
        "masks": benchmark.masks,
        "resize": benchmark.resize,
    }


def test_maps_have_the_size_of_the_image_and_peak_at_the_defect(tmp_path: Path) -> None:
    benchmark = parts(tmp_path, [(96, 128)])
    data = FolderData(**arguments(benchmark))
    plan = CalibrationPlan(folds=3, overkill=0.2)
    result = fit(data, backbone=backbone(), cache=False, calibration=plan)
    assert result.detector.frame == WholeImage(48, 64)
    assert data.test_images.boxes is None  # all images fill the frame
    for number in range(4):
        mask = np.asarray(Image.open(tmp_path / f"masks/{number}.png")) > 0
        found = result.predictor.score(tmp_path / f"bad/{number}.png")
        assert isinstance(found.maps, torch.Tensor)
        assert found.maps.shape == (1, 96, 128)
        assert found.p_values is not None
        top = np.unravel_index(int(found.maps[0].argmax()), (96, 128))
        rows, columns = np.nonzero(mask)
        assert np.hypot(rows - top[0], columns - top[1]).min() < 8


def test_images_of_several_sizes_have_maps_of_their_own_sizes() -> None:
    detector = Detector(backbone(), Norm(solver="gradient"), preprocessing=WholeImage(48, 64))
    images = [np.zeros((30, 40, 3), np.uint8), np.zeros((50, 20, 3), np.uint8)]
    found = detector.score(images)
    assert [each.shape for each in found.map] == [(30, 40), (50, 20)]


def test_what_a_crop_cuts_off_is_zero_in_the_map() -> None:
    detector = Detector(backbone(), Norm(solver="gradient"), preprocessing=Preprocessing(64, 32))
    (found,) = detector.score(np.full((128, 64, 3), 90, np.uint8)).map
    assert found.shape == (128, 64)
    assert bool((found[32:96, 16:48] > 0).all())
    assert float(found.sum()) == pytest.approx(float(found[32:96, 16:48].sum()))


@pytest.mark.parametrize("size", [(30, 64), (64, 30), (50, 64)])
def test_what_is_around_an_image_changes_neither_score_nor_map(size: tuple[int, int]) -> None:
    """The features around the image may have any value; score and map stay the same."""
    detector = Detector(backbone(), Norm(solver="gradient"), preprocessing=WholeImage(64, 64))
    box = torch.tensor([detector.frame.box(*size)])
    patches = torch.rand(1, 16, 16)
    spoiled = patches.clone()
    spoiled[~valid_positions(box, (64, 64), (16, 16))] = 1000
    (maps, scores), (same_maps, same) = (
        detector.maps_and_scores(each, None, box) for each in (patches, spoiled)
    )
    assert maps is not None
    assert same_maps is not None
    torch.testing.assert_close(same, scores)
    torch.testing.assert_close(same_maps, maps)
    top, left, height, width = box[0].tolist()
    assert float(maps.sum()) == pytest.approx(
        float(maps[0, top : top + height, left : left + width].sum())
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_around_images_changes_no_fit(name: str) -> None:
    """Two fits on levels that differ around the images give the same detector."""
    boxes = torch.tensor([[0, 0, 64, 40], [16, 0, 30, 64], [0, 0, 64, 40], [0, 0, 64, 64]])
    random = torch.Generator().manual_seed(0)
    levels = [torch.rand(4, 6, side, side, generator=random) for side in (16, 8)]
    scores = []
    for noise in (0.0, 50.0):
        torch.manual_seed(0)
        own = [level.clone() for level in levels]
        for level in own:  # a coarse position next to the image reaches into it when upsampled
            fine = valid_positions(boxes, (64, 64), (16, 16)).float()[:, None]
            near = torch.nn.functional.max_pool2d(fine, 5, 1, 2)
            near = torch.nn.functional.adaptive_max_pool2d(near, level.shape[-2:])
            level += noise * (near == 0)
        detector = Detector(Flat(), OBJECTIVES[name](), preprocessing=WholeImage(64, 64))
        batch = {"levels": own, "box": boxes, "label": torch.zeros(4)}
        trained_once(detector, batch)
        scores.append(detector.score_levels(levels)[valid_positions(boxes, (64, 64), (16, 16))])
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


class Flat(TimmBackbone):
    """Represents the network whose levels a batch holds."""

    def __init__(self) -> None:
        super().__init__("test_resnet", weights="random", strides=[4, 8])
        self.channels = [6, 6]


def trained_once(detector: Detector, batch: dict[str, object]) -> None:
    """One step of the detector's learning, without a trainer."""
    features = detector.levels(batch)
    valid = detector.valid(batch, features[0])
    detector._training_features = lambda: iter([(features, valid)])  # type: ignore[method-assign]
    if detector.projector.needs_setup:
        detector.projector.setup(detector._training_levels())
    if detector.objective.needs_setup:
        detector.objective.setup(detector._training_maps())
    if detector.objective.one_pass:
        detector.training_step(batch, 0)
        detector.objective.finish(detector.projector)
        return
    optimizer = detector.objective.configure_optimizer(detector.parameters())
    z = detector.project(batch)
    assert valid is not None
    detector.objective.loss(listed(z, valid)).backward()
    optimizer.step()


def test_moments_of_parts_of_maps_are_those_of_their_positions() -> None:
    valid = torch.zeros(5, 6, 8, dtype=torch.bool)
    for image, (rows, columns) in enumerate([(6, 8), (4, 8), (6, 5), (6, 8), (3, 8)]):
        valid[image, :rows, :columns] = True
    level = torch.rand(5, 3, 6, 8)
    moments, alone = LocalMoments(cell=3), LocalMoments(cell=3)
    moments.update([level], valid)
    for image in range(5):
        alone.update([level[image : image + 1]], valid[image : image + 1])
    cells = Cells.of(3, (6, 8))
    x = cells.split(level).double() * cells.split(valid[:, None].double())
    torch.testing.assert_close(moments.sums, x.sum(dim=1), rtol=1e-5, atol=1e-6)
    rows = x.flatten(1, 2)
    torch.testing.assert_close(moments.squares, rows.mT @ rows, rtol=1e-5, atol=1e-6)
    for name, value in moments.state().items():
        torch.testing.assert_close(value, alone.state()[name], rtol=1e-5, atol=1e-6)
    assert moments.seen_in_cells.sum() == valid.sum()


def test_a_position_that_no_image_covers_has_the_model_of_the_map() -> None:
    valid = torch.zeros(6, 4, 8, dtype=torch.bool)
    valid[:, :, :4] = True
    moments = LocalMoments(cell=4)
    moments.update([torch.rand(6, 3, 4, 8)], valid)
    form = solved_form(solved_spectra(moments), [3.0], moment=1.0)
    assert bool(form.weight.isfinite().all())
    torch.testing.assert_close(form.weight[1].abs(), form.weight[0].abs())
    of_map = moments.sums[0].sum(dim=0) / moments.counts.sum()
    torch.testing.assert_close(shrunk_means(moments)[1], of_map.expand(16, 3))


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (7, 9), (480, 640), (2000, 1000)])
def test_nothing_is_cut_off_and_the_aspect_ratio_is_kept(size: tuple[int, int]) -> None:
    frame = WholeImage(48, 64)
    box = frame.box(*size)
    assert 0 <= box.top <= box.top + box.height <= 48
    assert 0 <= box.left <= box.left + box.width <= 64
    assert box.height == 48 or box.width == 64
    assert abs(box.height * size[1] / size[0] - box.width) <= size[1] / size[0] + 1
    assert frame(np.zeros((*size, 3), np.uint8)).shape == (48, 64, 3)
    assert frame.of_mask(np.ones(size, bool)).sum() == box.height * box.width


def test_a_frame_is_filled_by_reflection() -> None:
    """A repeated border would be a texture that no real image has, and would score high."""
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    framed = WholeImage(48, 80)(image)
    np.testing.assert_array_equal(framed[:, 16:64], image)
    np.testing.assert_array_equal(framed[:, :16], image[:, 15::-1])
    np.testing.assert_array_equal(framed[:, 64:], image[:, :31:-1])
