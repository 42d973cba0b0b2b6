"""Properties of every metric: it depends only on the order, over batches and processes."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import Metric, MetricCollection

from occ_lab.metrics import (
    ImageAP,
    ImageAUROC,
    ImageF1Max,
    PixelAP,
    PixelAUPIMO,
    PixelAUPRO,
    PixelAUROC,
    PixelF1Max,
)
from occ_lab.utils.errors import InputError
from tests import warm
from tests.metrics.plain import (
    CLOSE,
    measure,
    random_images,
    random_maps,
    some_images,
    some_maps,
)

IMAGE_METRICS = [ImageAUROC, ImageAP, ImageF1Max]
PIXEL_METRICS = [PixelAUROC, PixelAUPRO, PixelAP, PixelF1Max]


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


@pytest.mark.parametrize("metric", [ImageAUROC, PixelAUROC])
def test_constant_scores_are_a_coin_toss(metric: type[Metric]) -> None:
    _, truth = (random_images if metric is ImageAUROC else random_maps)(seed=1, levels=1)
    assert measure(metric(), (np.full(truth.shape, 0.7, np.float32), truth)) == 0.5


@pytest.mark.parametrize("metric", IMAGE_METRICS + PIXEL_METRICS)
def test_a_perfect_order_is_one(metric: type[Metric]) -> None:
    _, truth = (random_images if metric in IMAGE_METRICS else random_maps)(seed=2, levels=3)
    assert measure(metric(), (truth.astype(np.float32), truth)) == 1.0


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
    with pytest.raises(InputError, match="contain NaN"):
        metric().update(torch.full(shape, torch.nan), truth)
    with pytest.raises(ValueError, match=r"^(labels|masks) must be \(3,.* got \(2,"):
        metric().update(torch.zeros(shape), truth[:2])


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
        MetricCollection([m() for m in (*PIXEL_METRICS, PixelAUPIMO)]),
        MetricCollection([m() for m in (*PIXEL_METRICS, PixelAUPIMO)]),
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
    other = warm.started(in_process, 1, store, expected)
    in_process(0, store, expected)
    other.join()
    assert other.exitcode == 0
