"""Plain references of the metrics, and random samples for them.

The references take every threshold and every region, one after the other, in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torchmetrics import Metric

CLOSE = 1e-9


def measure(metric: Metric, *batches: tuple[np.ndarray, np.ndarray]) -> float:
    for scores, truth in batches:
        metric.update(torch.from_numpy(scores), torch.from_numpy(truth))
    return float(metric.compute())


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


def plain_spro(
    masks: np.ndarray,
    maps: np.ndarray,
    regions: Sequence[tuple[int, np.ndarray, float]],
    limit: float,
) -> float:
    """Of regions, each with its image, its pixels, and how many of them are enough."""
    x, y = [0.0], [0.0]
    for t in thresholds(maps):
        x.append((maps[~masks] >= t).mean())
        overlaps = [min(1.0, (maps[i][mask] >= t).sum() / enough) for i, mask, enough in regions]
        y.append(float(np.mean(overlaps)))
    return plain_area(x, y, limit)


def plain_aupimo(
    masks: np.ndarray, maps: np.ndarray, normal: np.ndarray, low: float, high: float
) -> float:
    """By Gauss-Legendre quadrature over the logarithm of the rate, between all thresholds."""
    images = [image for image in range(len(maps)) if masks[image].any()]
    background = maps[normal][~masks[normal]]
    x, y = [0.0], [[0.0] * len(images)]
    for t in thresholds(maps):
        x.append(float((background >= t).mean()))
        y.append([float((maps[image][masks[image]] >= t).mean()) for image in images])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    area = 0.0
    for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        first, last = max(x0, low), min(x1, high)
        if first < last:
            half = np.log(last / first) / 2
            rates = np.exp(np.log(first) + half * (1 + nodes))
            mean = np.mean(y0) + (np.mean(y1) - np.mean(y0)) * (rates - x0) / (x1 - x0)
            area += half * float(weights @ mean)
    return area / float(np.log(high / low))


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
