"""Textures of any size without visible seams: image quilting (Efros & Freeman 2001)."""

from __future__ import annotations

import numpy as np

PATCH = 128  # pixels; the side of a patch copied from the texture
SHARED = 32  # pixels that neighbours share
TRIED = 40  # random patches, of which the best-fitting one is used


def quilt(texture: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A larger image of a texture: random patches, joined where they differ least.

    Args:
        texture: ``[h, w]``, each side at least that of a patch.
        size: H and W.
        random: the generator that chooses patches.

    Returns:
        float32 ``[H, W]``.
    """
    step = PATCH - SHARED
    rows, columns = (-(-max(1, side - SHARED) // step) for side in size)
    made = np.zeros((rows * step + SHARED, columns * step + SHARED), np.float32)
    for top in range(0, rows * step, step):
        for left in range(0, columns * step, step):
            there = made[top : top + PATCH, left : left + PATCH]
            patch = best_of(drawn(texture, random), there, top > 0, left > 0)
            keep = np.zeros(patch.shape, bool)  # pixels of earlier patches
            error = np.square(patch - there)
            if left:
                keep[:, :SHARED] |= before_cut(error[:, :SHARED])
            if top:
                keep[:SHARED] |= before_cut(error[:SHARED].T).T
            there[~keep] = patch[~keep]
    return made[: size[0], : size[1]]


def drawn(texture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Random patches, float32 ``[TRIED, PATCH, PATCH]``."""
    patches = np.lib.stride_tricks.sliding_window_view(texture, (PATCH, PATCH))
    rows, columns = (random.integers(side, size=TRIED) for side in patches.shape[:2])
    return patches[rows, columns].astype(np.float32)


def best_of(patches: np.ndarray, there: np.ndarray, above: bool, beside: bool) -> np.ndarray:
    """The patch that differs least from the existing pixels above and to the left."""
    error = np.zeros(len(patches))
    if above:
        error += np.square(patches[:, :SHARED] - there[:SHARED]).sum(axis=(1, 2))
    if beside:
        error += np.square(patches[:, :, :SHARED] - there[:, :SHARED]).sum(axis=(1, 2))
    return patches[error.argmin()]


def before_cut(error: np.ndarray) -> np.ndarray:
    """The pixels left of the path of least error from the first row to the last.

    Args:
        error: ``[n, SHARED]``.

    Returns:
        bool ``[n, SHARED]``.
    """
    total = error.astype(np.float64)
    for row in range(1, len(total)):
        before = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(before[:-2], before[1:-1]), before[2:])
    column = int(total[-1].argmin())
    kept = np.zeros(error.shape, bool)
    for row in range(len(total) - 1, -1, -1):
        if row < len(total) - 1:
            first = max(0, column - 1)
            column = first + int(total[row, first : column + 2].argmin())
        kept[row, :column] = True
    return kept
