"""The metrics against plain references, official values, and themselves in pieces."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics import Metric, MetricCollection

from occ_lab.metrics import metrics, packing
from occ_lab.metrics.metrics import (
    ImageAP,
    ImageAUROC,
    ImageF1Max,
    PixelAUPRO,
    PixelAUROC,
    PixelMetrics,
    best_f1,
)
from occ_lab.utils.errors import InputError

IMAGE_METRICS = [ImageAUROC, ImageAP, ImageF1Max]
PIXEL_METRICS = [PixelAUROC, PixelAUPRO]
CLOSE = 1e-9


def measure(metric: Metric, *batches: tuple[np.ndarray, np.ndarray]) -> float:
    for scores, truth in batches:
        metric.update(torch.from_numpy(scores), torch.from_numpy(truth))
    return float(metric.compute())


# Plain references: every threshold, every region, one after the other, in float64.


def thresholds(scores: np.ndarray) -> Iterable[float]:
    return np.unique(scores)[::-1]


def plain_area(x: list[float], y: list[float], limit: float) -> float:
    """Trapezoids up to `limit`, the last one cut, divided by `limit`."""
    area = 0.0
    for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if x0 < limit:
            end = min(x1, limit)
            at_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0) if x1 > x0 else y1
            area += (end - x0) * (y0 + at_end) / 2
    return area / limit


def plain_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    x = [0.0] + [(scores[~labels] >= t).mean() for t in thresholds(scores)]
    y = [0.0] + [(scores[labels] >= t).mean() for t in thresholds(scores)]
    return plain_area(x, y, 1.0)


def plain_ap(labels: np.ndarray, scores: np.ndarray) -> float:
    value = last_recall = 0.0
    for t in thresholds(scores):
        recall = (scores[labels] >= t).mean()
        value += (recall - last_recall) * labels[scores >= t].mean()
        last_recall = recall
    return value


def plain_f1max(labels: np.ndarray, scores: np.ndarray) -> float:
    found = [(labels & (scores >= t)).sum() for t in thresholds(scores)]
    called = [(scores >= t).sum() for t in thresholds(scores)]
    return max(2 * f / (c + labels.sum()) for f, c in zip(found, called, strict=True))


def plain_regions(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Pixels that touch, by an edge or a corner, are of one region."""
    left = {(int(i), int(j)) for i, j in np.argwhere(mask)}
    regions = []
    while left:
        region, border = set(), [left.pop()]
        while border:
            i, j = border.pop()
            region.add((i, j))
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            border.extend(near)
        regions.append(region)
    return regions


def plain_aupro(masks: np.ndarray, maps: np.ndarray, limit: float) -> float:
    regions = [
        np.array([image[pixel] for pixel in region])
        for image, mask in zip(maps, masks, strict=True)
        for region in plain_regions(mask)
    ]
    x, y = [0.0], [0.0]
    for t in thresholds(maps):
        x.append((maps[~masks] >= t).mean())
        y.append(float(np.mean([(region >= t).mean() for region in regions])))
    return plain_area(x, y, limit)


def random_images(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[N]`` with ties, the fewer levels the more, and labels of both classes."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    labels = rng.permutation([True, False, *(rng.random(n - 2) < rng.random())])
    return rng.integers(0, levels, n).astype(np.float32) + labels, labels


def random_maps(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps ``[B, h, w]`` with ties, and masks of many regions; some have none, some only those."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 14, 3))
    masks = rng.random(shape) < rng.choice([0, 0.1, 0.3, 1], size=(shape[0], 1, 1))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    maps = rng.integers(0, levels, shape) + levels / 4 * masks
    return maps.astype(np.float32), masks


some_images = st.builds(random_images, st.integers(0, 10**6), st.sampled_from([1, 3, 20, 10**6]))
some_maps = st.builds(random_maps, st.integers(0, 10**6), st.sampled_from([1, 3, 20, 10**6]))


@pytest.mark.parametrize(
    ("metric", "plain"),
    [(ImageAUROC, plain_auroc), (ImageAP, plain_ap), (ImageF1Max, plain_f1max)],
)
@given(sample=some_images)
@settings(deadline=None)
def test_image_metrics_equal_plain_references(
    metric: type[Metric], plain: Callable[..., float], sample: tuple[np.ndarray, np.ndarray]
) -> None:
    scores, labels = sample
    assert measure(metric(), sample) == pytest.approx(plain(labels, scores), abs=CLOSE)


@given(sample=some_maps, limit=st.sampled_from([0.01, 0.3, 1.0]))
@settings(deadline=None, max_examples=60)
def test_pixel_metrics_equal_plain_references(
    sample: tuple[np.ndarray, np.ndarray], limit: float
) -> None:
    maps, masks = sample
    assert measure(PixelAUPRO(limit), sample) == pytest.approx(
        plain_aupro(masks, maps, limit), abs=CLOSE
    )
    assert measure(PixelAUROC(), sample) == pytest.approx(plain_auroc(masks, maps), abs=CLOSE)


def test_equal_the_official_values(shared_data: Path) -> None:
    official = np.load(shared_data / "reference" / "postprocessing_official.npz")
    maps, masks, labels = official["smoothed"], official["mask"] > 0, official["label"]
    assert measure(ImageAUROC(), (maps.max((1, 2)), labels)) == official["image_auroc"]
    assert measure(PixelAUROC(), (maps, masks)) == pytest.approx(official["pixel_auroc"], abs=CLOSE)
    assert measure(PixelAUPRO(), (maps, masks)) == pytest.approx(
        official["pixel_aupro_exact"], abs=CLOSE
    )
    scaled = (maps - maps.min()) / (maps.max() - maps.min())  # the official threshold is of pixels
    _, threshold = best_f1(masks.ravel(), scaled.ravel())
    assert threshold == pytest.approx(official["threshold_f1"], rel=1e-6)


def increasing_values(seed: int, count: int, dtype: type) -> np.ndarray:
    """Any distinct values in order, from one infinity to the other and as near as floats get."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], 2 * count + 60)
    values = (signs * 10.0 ** rng.uniform(-30, 30, len(signs))).astype(dtype)
    near = np.nextafter(values, dtype(np.inf), dtype=dtype)
    values = np.unique(np.concatenate([values, near, np.array([-np.inf, 0, np.inf], dtype)]))
    assert len(values) > count
    return np.sort(rng.permutation(values)[:count])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
@given(data=st.data(), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_depend_on_the_order_alone(
    metric: type[Metric], dtype: type, data: st.DataObject, seed: int
) -> None:
    scores, truth = data.draw(some_images if metric in IMAGE_METRICS else some_maps)
    distinct, ranks = np.unique(scores, return_inverse=True)
    moved = increasing_values(seed, len(distinct), dtype)[ranks].reshape(scores.shape)
    assert measure(metric(), (moved, truth)) == measure(metric(), (scores, truth))


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_differences_below_float32_count(metric: type[Metric]) -> None:
    maps, masks = random_maps(seed=0, levels=20)
    maps = maps.astype(np.float64)
    assert measure(metric(), (1e8 + maps / 64, masks)) == measure(metric(), (maps, masks))


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_batches_and_their_order_do_not_matter(metric: type[Metric], data: st.DataObject) -> None:
    scores, truth = data.draw(some_images if metric in IMAGE_METRICS else some_maps)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=4)))
    parts = list(zip(np.split(scores, cuts), np.split(truth, cuts), strict=True))
    batches = data.draw(st.permutations(parts))
    assert measure(metric(), *batches) == pytest.approx(
        measure(metric(), (scores, truth)), abs=CLOSE
    )


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_working_in_blocks_does_not_matter(
    metric: type[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [random_maps(seed, levels=20) for seed in range(9)]
    at_once = measure(metric(), *samples)
    monkeypatch.setattr(metrics, "_POSITIVES_AT_ONCE", 50)
    monkeypatch.setattr(metrics, "_BYTES_AT_ONCE", 500)
    assert measure(metric(), *samples) == pytest.approx(at_once, abs=CLOSE)


@pytest.mark.parametrize("metric", [ImageAUROC, PixelAUROC])
def test_constant_scores_are_a_coin_toss(metric: type[Metric]) -> None:
    _, truth = (random_images if metric is ImageAUROC else random_maps)(seed=1, levels=1)
    assert measure(metric(), (np.full(truth.shape, 0.7, np.float32), truth)) == 0.5


def test_aupro_of_constant_scores_is_half_its_limit() -> None:
    _, masks = random_maps(seed=1, levels=1)  # one straight line from (0, 0) to (1, 1)
    assert measure(PixelAUPRO(0.3), (np.ones(masks.shape), masks)) == pytest.approx(0.15)


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
def test_a_perfect_order_is_one(metric: type[Metric]) -> None:
    _, truth = (random_images if metric in IMAGE_METRICS else random_maps)(seed=2, levels=3)
    assert measure(metric(), (truth.astype(np.float32), truth)) == 1.0


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    masks = np.zeros((1, 4, 9), dtype=bool)
    masks[0, [0, 1, 2], [0, 1, 2]] = True  # three pixels, missed
    masks[0, 0, 8] = True  # one pixel, found before any false positive
    maps = np.where(masks, -1.0, 0.0)
    maps[0, 0, 8] = 1.0
    assert measure(PixelAUPRO(), (maps, masks)) == pytest.approx(1 / 2)


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
@pytest.mark.parametrize("truth", [True, False])
def test_one_class_alone_is_nan(metric: type[Metric], truth: bool) -> None:
    shape = (3,) if metric in IMAGE_METRICS else (3, 4, 4)
    sample = np.random.default_rng(0).random(shape), np.full(shape, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(measure(metric(), sample))


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_at_all_is_nan(metric: type[Metric]) -> None:
    assert np.isnan(measure(metric()))


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
def test_half_precision_and_reset(metric: type[Metric]) -> None:
    scores, truth = (random_images if metric in IMAGE_METRICS else random_maps)(seed=3, levels=20)
    expected, one = measure(metric(), (scores, truth)), metric()
    for dtype in (torch.bfloat16, torch.float16):  # whole numbers up to 25 fit exactly
        one.reset()
        one.update(torch.from_numpy(scores).to(dtype), torch.from_numpy(truth))
        assert float(one.compute()) == expected


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
def test_refuses_nan_and_other_shapes(metric: type[Metric]) -> None:
    shape = (3,) if metric in IMAGE_METRICS else (3, 2, 2)
    truth = torch.zeros(shape, dtype=torch.bool)
    with pytest.raises(InputError, match="hold NaN"):
        metric().update(torch.full(shape, torch.nan), truth)
    with pytest.raises(ValueError, match=r"^(labels|masks) must be \(3,.* got \(2,"):
        metric().update(torch.zeros(shape), truth[:2])


@pytest.mark.parametrize("limit", [0.0, -1.0, 1.1, float("nan")])
def test_refuses_a_limit_out_of_range(limit: float) -> None:
    with pytest.raises(ValueError, match=r"^limit must be in \(0, 1\]"):
        PixelAUPRO(limit)


def test_refuses_a_change_of_dtype() -> None:
    maps, masks = random_maps(seed=0, levels=3)
    with pytest.raises(ValueError, match=r"^maps must stay torch.float32, got torch.float64"):
        measure(PixelAUROC(), (maps, masks), (maps.astype(np.float64), masks))


@given(
    hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(allow_nan=False, width=32))
    | hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=False))
)
def test_packing_loses_nothing(scores: np.ndarray) -> None:
    packed = packing.pack(scores)
    unpacked = packing.unpack(*packed)
    assert unpacked.dtype == scores.dtype
    assert len(packed[0]) == scores.nbytes // 2
    np.testing.assert_array_equal(unpacked, np.sort(scores))


def test_the_state_has_little_more_than_two_bytes_a_pixel() -> None:
    metric = PixelMetrics()
    rng = np.random.default_rng(0)
    for _ in range(3):
        maps = rng.standard_normal((4, 256, 256), dtype=np.float32)  # many signs and exponents
        masks = np.zeros(maps.shape, dtype=bool)
        masks[0, :64, :64] = True
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    tensors = [chunk for state in metric._defaults for chunk in getattr(metric, state)]
    assert sum(t.nbytes for t in tensors) < 2.5 * 3 * maps.size


@given(st.integers(0, 99), st.integers(1, 9), st.floats(0.05, 1))
def test_both_at_once_are_both(seed: int, levels: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.integers(0, levels, (3, 9, 9)).astype(np.float32))  # many ties
    masks = torch.from_numpy(rng.random((3, 9, 9)) < 0.2)
    both, auroc, aupro = PixelMetrics(limit), PixelAUROC(), PixelAUPRO(limit)
    for metric in (both, auroc, aupro):
        metric.update(maps, masks)
    assert both.compute() == {"pixel_auroc": auroc.compute(), "pixel_aupro": aupro.compute()}


def in_process(rank: int, store: str, expected: dict[str, float]) -> None:
    """One of two processes: it sees every other sample, the second one no anomalous pixel."""
    patience = timedelta(seconds=120)  # of one process for the other
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=patience)
    try:
        images, pixels, normal = collections()
        for labelled, mapped in samples()[rank::2]:
            images.update(*labelled)
            pixels.update(*mapped)
        for scores, _ in [mapped for _, mapped in samples()][rank::2]:
            normal.update(scores, torch.zeros_like(scores, dtype=torch.bool))
        assert not rank or not torch.cat(pixels["PixelAUROC"].positives).numel()
        for _ in range(2):  # gathering leaves each process's own state as it was
            values = {k: float(v) for k, v in (images.compute() | pixels.compute()).items()}
            assert values == pytest.approx(expected, abs=CLOSE)
        assert all(v.isnan() for v in normal.compute().values())
    finally:
        dist.destroy_process_group()


def collections() -> tuple[MetricCollection, MetricCollection, MetricCollection]:
    return (
        MetricCollection([m() for m in IMAGE_METRICS]),
        MetricCollection([m() for m in PIXEL_METRICS]),
        MetricCollection([m() for m in PIXEL_METRICS]),
    )


def samples() -> list[tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]]:
    found = []
    for seed in range(5):
        maps, masks = random_maps(seed, levels=20)
        found.append(
            (
                tuple(map(torch.from_numpy, random_images(seed, levels=20))),
                (torch.from_numpy(maps), torch.from_numpy(masks & (seed % 2 == 0))),
            )
        )
    return found


def test_two_processes_measure_the_whole(tmp_path: Path) -> None:
    images, pixels, _ = collections()
    for labelled, mapped in samples():
        images.update(*labelled)
        pixels.update(*mapped)
    expected = {k: float(v) for k, v in (images.compute() | pixels.compute()).items()}
    store = (tmp_path / "store").as_uri()
    other = multiprocessing.get_context("spawn").Process(
        target=in_process, args=(1, store, expected)
    )
    other.start()
    in_process(0, store, expected)
    other.join()
    assert other.exitcode == 0
