"""Overlap with defects that are found well enough before all of their pixels are: sPRO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def saturating(scores: Tensor, defects: Sequence[tuple[Tensor, float]]) -> Tensor:
    """What each pixel of an image adds to the saturated overlaps as the threshold falls.

    The saturated overlap of a defect with a saturation of S pixels is the number of its pixels
    above the threshold over S, but at most 1 (Bergmann et al. 2022, "Beyond dents and scratches",
    IJCV 130). The S pixels with the highest scores therefore raise it by 1/S each, and the others
    by nothing. S need not be whole, and the order of equal scores does not matter.

    Args:
        scores: the anomaly map, float ``[h, w]``.
        defects: of each defect of the image its pixels, bool ``[h, w]``, and the fraction of them
            that is enough to find it, above 0 and at most 1; it may have no pixels.

    Returns:
        float32 ``[h, w]`` on the CPU; its sum is the number of defects that have pixels.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1, 0.7, 0.5]])
        >>> saturating(scores, [(torch.ones(1, 4, dtype=torch.bool), 0.5)])
        tensor([[0.5000, 0.0000, 0.5000, 0.0000]])
    """
    values = scores.detach().cpu().double().numpy()
    gains = np.zeros(values.shape)
    for mask, fraction in defects:
        inside = mask.cpu().numpy().astype(bool)
        ranks = np.empty(int(inside.sum()), np.int64)
        ranks[np.argsort(-values[inside], kind="stable")] = np.arange(len(ranks))
        enough = fraction * len(ranks)
        gains[inside] += np.clip(enough - ranks, 0, 1) / enough
    return torch.from_numpy(gains.astype(np.float32))
