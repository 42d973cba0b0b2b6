"""The local closed form in plain float64 NumPy: loops over images, positions and cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import expm


def cell_of(position: int, length: int, cell: int | None) -> int:
    """The index of the cell, along one axis, of a position; the grid is centred."""
    side = min(cell or length, length)
    count = -(-length // side)
    first = side - (count * side - length) // 2  # positions of the first cell
    return 0 if position < first else 1 + (position - first) // side


def cells_of(shape: tuple[int, int], cell: int | None) -> dict[tuple[int, int], list]:
    """The positions of each cell, row by row."""
    found: dict[tuple[int, int], list] = {}
    wanted = max(shape) if cell is None else cell
    for y in range(shape[0]):
        for x in range(shape[1]):
            key = (cell_of(y, shape[0], wanted), cell_of(x, shape[1], wanted))
            found.setdefault(key, []).append((y, x))
    return dict(sorted(found.items()))


def kept(deviations: list[np.ndarray], noise: list[np.ndarray], n: int) -> np.ndarray:
    """The fraction of deviations of means that is kept, for each channel."""
    size = len(deviations[0])
    result = np.zeros(size)
    if n == 1:
        return result
    for k in range(size):
        observed = sum(d[k] ** 2 for d in deviations)
        of_means = sum(e[k] ** 2 for e in noise) / (n - 1) / n
        result[k] = max(0.0, 1 - of_means / observed) if observed > 0 else 0.0
    return result


def plain_means(f: np.ndarray, cells: dict[tuple[int, int], list]) -> np.ndarray:
    """Shrunk means ``[H, W, C]`` of features ``[N, H, W, C]``."""
    n, height, width, channels = f.shape
    every = [place for places in cells.values() for place in places]
    of_map = [np.mean([f[i][p] for p in every], axis=0) for i in range(n)]
    of_cells = {
        key: [np.mean([f[i][p] for p in places], axis=0) for i in range(n)]
        for key, places in cells.items()
    }
    centre = np.mean(of_map, axis=0)
    # Every cell counts as often as it has positions.
    far, off = [], []
    for key, places in cells.items():
        mean = np.mean(of_cells[key], axis=0)
        for _ in places:
            far.append(mean - centre)
            off += [of_cells[key][i] - of_map[i] - (mean - centre) for i in range(n)]
    across = kept(far, off, n)
    result = np.zeros((height, width, channels))
    for key, places in cells.items():
        mean = np.mean(of_cells[key], axis=0)
        apart, rest = {}, []
        for place in places:
            own = [f[i][place] - of_cells[key][i] for i in range(n)]
            apart[place] = np.mean(own, axis=0)
            rest += [each - apart[place] for each in own]
        within = kept(list(apart.values()), rest, n)
        for place in places:
            result[place] = centre + across * (mean - centre) + within * apart[place]
    return result


def plain_scores(
    f: np.ndarray,
    tested: np.ndarray,
    cell: int | None,
    bias: str,
    times: Sequence[float],
    moment: float,
    norm: float,
) -> np.ndarray:
    """Squared scores ``[M, H, W]``.

    Args:
        f: training features, float64 ``[N, H, W, C]``.
        tested: features ``[M, H, W, C]``.
        cell: positions along a side of a cell, or None.
        bias: ``flow`` or ``solved``.
        times: t.
        moment: the second moment of the initial weights.
        norm: ‖c‖₂.
    """
    n, height, width, channels = f.shape
    cells = cells_of((height, width), cell)
    s = (np.mean(f**2) * channels + 1) / (channels + 1)  # of [f; 1], with either bias
    if bias == "solved":
        mean = plain_means(f, cells)
        f, tested = f - mean, tested - mean
        prior = moment * np.eye(channels)
    else:
        f = np.concatenate([f, np.ones((*f.shape[:3], 1))], axis=3)
        tested = np.concatenate([tested, np.ones((*tested.shape[:3], 1))], axis=3)
        prior = moment * np.eye(channels + 1)
        prior[-1, -1] += norm**2
    own = {
        key: sum(np.outer(f[i][p], f[i][p]) for i in range(n) for p in places) / (n * len(places))
        for key, places in cells.items()
    }
    positions = height * width
    whole = sum(len(places) * own[key] for key, places in cells.items()) / positions
    size = len(whole)
    sigma = {}
    for key, places in cells.items():
        m = n * len(places)
        a = m / (m + size)
        sigma[key] = a * own[key] + (1 - a) * whole
    score = np.zeros(tested.shape[:3])
    means, terms = [], []
    for t in times:
        term, mean_term = np.zeros_like(score), 0.0
        for key, places in cells.items():
            flow = expm(-t * sigma[key] / s)
            form = flow @ prior @ flow
            variances, directions = np.linalg.eigh(sigma[key])
            along = np.einsum("dk,de,ek->k", directions, form, directions)
            mean_term += len(places) / positions * (along @ np.maximum(variances, 1e-7 * s))
            for place in places:
                for i in range(len(tested)):
                    term[i][place] = tested[i][place] @ form @ tested[i][place]
        terms.append(term)
        means.append(mean_term)
    for term, mean_term in zip(terms, means, strict=True):
        score += np.mean(means) / mean_term * term
    return score
