"""Pixel metrics compared with plain references, official values, and themselves in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torchmetrics import Metric

from occ_lab.metrics import (
    ImageAUROC,
    PixelAP,
    PixelAUPIMO,
    PixelAUPRO,
    PixelAUROC,
    PixelF1Max,
    pixel_store,
)
from occ_lab.metrics.image import best_f1
from occ_lab.metrics.limits import HIGH, LOW
from occ_lab.metrics.pixel import PixelMetrics
from occ_lab.metrics.saturation import saturating
from tests.metrics.plain import (
    CLOSE,
    measure,
    plain_ap,
    plain_aupimo,
    plain_aupro,
    plain_auroc,
    plain_f1max,
    plain_regions,
    plain_spro,
    random_maps,
    some_maps,
)

PIXEL_METRICS = [PixelAUROC, PixelAP, PixelF1Max, PixelAUPRO, PixelAUPIMO]


def plain_values(masks: np.ndarray, maps: np.ndarray, limit: float) -> dict[str, float]:
    normal = ~masks.any((1, 2))
    known = {"pixel_aupimo": plain_aupimo(masks, maps, normal, LOW, HIGH)} if normal.any() else {}
    return known | {
        "pixel_auroc": plain_auroc(masks, maps),
        "pixel_aupro": plain_aupro(masks, maps, limit),
        "pixel_aupro_005": plain_aupro(masks, maps, 0.05),
        "pixel_ap": plain_ap(masks, maps),
        "pixel_f1max": plain_f1max(masks, maps),
    }


def values_of(metric: PixelMetrics) -> dict[str, float]:
    values = {name: float(value) for name, value in metric.compute().items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


@given(sample=some_maps, limit=st.sampled_from([0.01, 0.3, 1.0]))
@settings(deadline=None, max_examples=40)
def test_all_at_once_equal_plain_references(
    sample: tuple[np.ndarray, np.ndarray], limit: float
) -> None:
    maps, masks = sample
    metric = PixelMetrics(limit)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    assert values_of(metric) == pytest.approx(plain_values(masks, maps, limit), abs=CLOSE)


@given(sample=some_maps, seed=st.integers(0, 99), low=st.sampled_from([1e-3, 0.02, 0.3]))
@settings(deadline=None, max_examples=40)
def test_aupimo_equals_its_plain_reference(
    sample: tuple[np.ndarray, np.ndarray], seed: int, low: float
) -> None:
    """Of images that are normal, anomalous without a marked pixel, or marked."""
    maps, masks = sample
    normal = ~masks.any((1, 2)) & (np.random.default_rng(seed).random(len(masks)) < 0.7)
    metric, high = PixelAUPIMO(low, 3 * low), 3 * low
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks), normal=torch.from_numpy(normal))
    expected = plain_aupimo(masks, maps, normal, low, high) if normal.any() else np.nan
    assert float(metric.compute()) == pytest.approx(expected, abs=CLOSE, nan_ok=True)


@given(
    sample=some_maps,
    seed=st.integers(0, 99),
    limit=st.sampled_from([0.05, 0.3]),
    rounding=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_spro_equals_its_plain_reference(
    sample: tuple[np.ndarray, np.ndarray], seed: int, limit: float, rounding: bool
) -> None:
    """Of defects that overlap, and of any number of pixels that are enough."""
    maps, masks = sample
    rng, regions, gains = np.random.default_rng(seed), [], []
    for image, mask in enumerate(masks):
        own = [mask & (rng.random(mask.shape) < part) for part in (0.3, 0.9)]
        fractions = rng.uniform(0.01, 1, len(own))
        given = [(torch.from_numpy(each), part) for each, part in zip(own, fractions, strict=True)]
        gains.append(saturating(torch.from_numpy(maps[image]), given))
        regions += [
            (image, each, part * each.sum())
            for each, part in zip(own, fractions, strict=True)
            if each.any()
        ]
    metric = PixelMetrics(limit)
    batch = torch.from_numpy(maps), torch.from_numpy(masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_store, "EXACT_BYTES", 0 if rounding and maps.max() < 99 else 2**28)
        metric.update(*batch, gains=torch.stack(gains))
    found = values_of(metric)
    if not regions:
        assert "pixel_spro" not in found
        return
    assert found["pixel_spro"] == pytest.approx(plain_spro(masks, maps, regions, limit), abs=1e-6)
    expected = plain_spro(masks, maps, regions, 0.05)
    assert found["pixel_spro_005"] == pytest.approx(expected, abs=1e-6)


def test_ap_equals_that_of_scikit_learn() -> None:
    maps, masks = random_maps(seed=0, levels=5)
    expected = average_precision_score(masks.ravel(), maps.ravel())
    assert measure(PixelAP(), (maps, masks)) == pytest.approx(expected, abs=CLOSE)


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


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_differences_below_float32_count(metric: type[Metric]) -> None:
    maps, masks = random_maps(seed=0, levels=20)
    maps = maps.astype(np.float64)
    assert measure(metric(), (1e8 + maps / 64, masks)) == measure(metric(), (maps, masks))


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_working_in_blocks_does_not_matter(
    metric: type[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [random_maps(seed, levels=20) for seed in range(9)]
    at_once = measure(metric(), *samples)
    monkeypatch.setattr(pixel_store, "POSITIVES_AT_ONCE", 50)
    monkeypatch.setattr(pixel_store, "COUNTED_AT_ONCE", 120)
    monkeypatch.setattr(pixel_store, "BYTES_AT_ONCE", 500)
    assert measure(metric(), *samples) == pytest.approx(at_once, abs=CLOSE)


def test_aupro_of_constant_scores_is_half_its_limit() -> None:
    _, masks = random_maps(seed=1, levels=1)  # one straight line from (0, 0) to (1, 1)
    assert measure(PixelAUPRO(0.3), (np.ones(masks.shape), masks)) == pytest.approx(0.15)


def test_pixels_that_touch_by_a_corner_are_one_region() -> None:
    masks = np.zeros((1, 4, 9), dtype=bool)
    masks[0, [0, 1, 2], [0, 1, 2]] = True  # three pixels, missed
    masks[0, 0, 8] = True  # one pixel, found before any false positive
    maps = np.where(masks, -1.0, 0.0)
    maps[0, 0, 8] = 1.0
    assert measure(PixelAUPRO(), (maps, masks)) == pytest.approx(1 / 2)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1.1, float("nan")])
def test_refuses_a_limit_out_of_range(limit: float) -> None:
    with pytest.raises(ValueError, match=r"^limit must be in \(0, 1\]"):
        PixelAUPRO(limit)


def test_refuses_a_change_of_dtype() -> None:
    maps, masks = random_maps(seed=0, levels=3)
    with pytest.raises(ValueError, match=r"^maps must stay torch.float32, got torch.float64"):
        measure(PixelAUROC(), (maps, masks), (maps.astype(np.float64), masks))


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
def test_all_at_once_are_the_single_ones(seed: int, levels: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.integers(0, levels, (3, 9, 9)).astype(np.float32))  # many ties
    masks = torch.from_numpy(rng.random((3, 9, 9)) < 0.2)
    masks[0] = False
    every = PixelMetrics(limit)
    single = {
        "pixel_auroc": PixelAUROC(),
        "pixel_aupro": PixelAUPRO(limit),
        "pixel_aupro_005": PixelAUPRO(0.05),
        "pixel_ap": PixelAP(),
        "pixel_f1max": PixelF1Max(),
        "pixel_aupimo": PixelAUPIMO(),
    }
    for metric in (every, *single.values()):
        metric.update(maps, masks)
    assert values_of(every) == {name: float(each.compute()) for name, each in single.items()}


@pytest.mark.parametrize("rounding", [False, True])
@given(st.integers(0, 99), st.integers(1, 9), st.floats(0.05, 1))
def test_the_parts_of_groups_make_the_whole(
    rounding: bool, seed: int, levels: int, limit: float
) -> None:
    """Also one by one, against a metric that has no other anomalous pixels."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.integers(0, levels, (5, 9, 9)).astype(np.float32))
    masks = torch.from_numpy(rng.random((5, 9, 9)) < 0.2)
    masks[:, 4, 4], masks[4] = True, False
    metric = PixelMetrics(limit)
    assert metric.of(0) == {}
    groups = torch.tensor([5, 0, 2, 5, -1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_store, "EXACT_BYTES", 1000 if rounding else 2**28)
        for images in (slice(2), slice(2, 5)):
            metric.update(maps[images], masks[images], groups[images])
        whole = values_of(metric)
    weights = {
        "pixel_auroc": masks.sum((1, 2)),
        "pixel_aupro": regions(masks),
        "pixel_aupro_005": regions(masks),
        "pixel_aupimo": masks.any(2).any(1),
    }
    for name, of_image in weights.items():
        parts = [(metric.of(group)[name], of_image[groups == group].sum()) for group in (0, 2, 5)]
        mean = sum(value * weight for value, weight in parts) / of_image.sum()
        assert float(mean) == pytest.approx(whole[name])
    assert metric.of(1) == metric.of(9) == {}
    alone = PixelMetrics(limit)
    alone.update(maps[1:2], masks[1:2])
    for image in (0, 2, 3, 4):  # only the normal pixels of the others
        normal = maps[image][~masks[image]][None, None]
        nothing = torch.zeros(normal.shape, dtype=torch.bool)
        alone.update(normal, nothing, normal=torch.tensor([image == 4]))
    assert metric.of(0) == pytest.approx(values_of(alone))
    metric.reset()
    assert metric.of(0) == {}


def regions(masks: torch.Tensor) -> torch.Tensor:
    return torch.tensor([len(plain_regions(mask)) for mask in masks.numpy()])


def smooth_batches(count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Scores like those of a detector, one anomalous image of two."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        maps = rng.gamma(9, size=(2, 40, 40)).astype(np.float32)
        maps[0, 5:10, 5:10] += 3
        masks = np.zeros(maps.shape, dtype=bool)
        masks[0, 5:10, 5:10] = masks[0, 20, 20:22] = True
        yield torch.from_numpy(maps), torch.from_numpy(masks)


def assert_close(counted: dict[str, float], exact: dict[str, float]) -> None:
    """The best threshold may lie between two rounded scores; areas lose much less."""
    assert counted.pop("pixel_f1max") == pytest.approx(exact.pop("pixel_f1max"), abs=1e-5)
    assert counted == pytest.approx(exact, abs=1e-6)


def test_many_pixels_are_counted_in_memory_that_does_not_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = PixelMetrics()
    for maps, masks in smooth_batches(40):
        exact.update(maps, masks, torch.tensor([0, 1]))
    monkeypatch.setattr(pixel_store, "EXACT_BYTES", 30_000)
    monkeypatch.setattr(pixel_store, "ENTRIES", 10_000)
    counting, held = PixelMetrics(), []
    for maps, masks in smooth_batches(40):
        counting.update(maps, masks, torch.tensor([0, 1]))
        states = [getattr(counting, state) for state in counting._defaults]
        held.append(sum(chunk.nbytes for chunks in states for chunk in chunks))
    # At most so many distinct scores: of two binades between 2 and 32, and those kept for later.
    assert max(held[20:]) < 16 * 4 * 2**16
    assert_close(values_of(counting), values_of(exact))
    assert_close(counting.of(0), exact.of(0))
    # Processes gather what they have, some of it exact, in lists that become tensors.
    fewer = PixelMetrics()
    monkeypatch.setattr(pixel_store, "EXACT_BYTES", 2**28)
    fewer.update(maps, masks, torch.tensor([0, 1]))
    for state in counting._defaults:
        both = [*getattr(counting, state), *getattr(fewer, state)]
        assert len({chunk.dtype for chunk in both}) == 1  # or they could not be gathered
        setattr(counting, state, torch.cat(both))
    counting._computed = None  # torchmetrics keeps the last result
    exact.update(maps, masks)
    assert_close(values_of(counting), values_of(exact))


@given(sample=st.builds(random_maps, st.integers(0, 10**6), st.sampled_from([1, 3, 20])))
@settings(deadline=None, max_examples=30)
def test_rounding_loses_nothing_of_few_digits(sample: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = sample
    at_once, counted = PixelMetrics(), PixelMetrics()
    at_once.update(torch.from_numpy(maps), torch.from_numpy(masks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixel_store, "EXACT_BYTES", 0)
        for map_, mask in zip(maps, masks, strict=True):
            counted.update(torch.from_numpy(map_[None]), torch.from_numpy(mask[None]))
    assert values_of(counted) == pytest.approx(values_of(at_once), abs=CLOSE)


@given(sample=some_maps)
@settings(deadline=None, max_examples=30)
def test_pixels_are_parted_on_a_device_as_on_the_cpu(
    sample: tuple[np.ndarray, np.ndarray],
) -> None:
    maps, masks = (torch.from_numpy(each) for each in sample)
    given = maps, masks, torch.arange(len(maps)) % 2 == 0
    for here, there in zip(
        pixel_store.parted(*given), pixel_store.parted_there(*given), strict=True
    ):
        np.testing.assert_array_equal(here, there)
