"""The feasible domain of the norm, estimated without labels and without test images.

A squared score of the closed form is s₀² + norm² s₁² (see `norm_maps`), where s₁ is a single linear
functional of the feature, the one that belongs to the constant. The upper end of the domain is the
norm at which both parts have the same spread over normal images, norm* = √(D₀ / D₁). If s₁ does not
respond to a defect, the separation of image scores relative to that spread is smaller by √2 at this
norm. There is no lower end. docs/reference/norm_objective.md derives both.

The images must be held out. With few images and many channels, the fit is so close that s₀ and s₁
of the training images carry no information (with 300 embeddings of 1280 channels, norm* was off by
a factor of 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from occ_lab.utils.errors import InputError


def domain_end(spread: Tensor, constant: Tensor) -> float:
    """norm*, the upper end of the feasible domain.

    Args:
        spread: image scores of the maps s₀² of N held-out normal images, ``[N]``, N at least 2.
        constant: image scores of the maps s₁² of the same images, ``[N]``.

    Raises:
        InputError: one of them does not vary, so no estimate is possible.

    Example:
        >>> import torch
        >>> domain_end(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0]))
        2.0
    """
    ratio = float(spread.double().std() / constant.double().std())
    if not 0 < ratio < math.inf:
        raise InputError(
            "times: the scores of normal images do not vary, so no domain can be estimated; "
            "set smaller times, or use more training images"
        )
    return math.sqrt(ratio)


def settled_end(end_at: Callable[[float], float]) -> float:
    """norm* of a score whose parts depend on the norm themselves, as with several times.

    Args:
        end_at: computes norm* from the parts at a given norm.

    Returns:
        A norm that ``end_at`` maps to itself within 1 %, or the result of twenty iterations.

    Example:
        >>> round(settled_end(lambda norm: 2 + norm / 2), 1)
        4.0
    """
    norm = end_at(0.0)
    for _ in range(20):
        before, norm = norm, end_at(norm)
        if abs(math.log(norm / before)) < 0.01:
            break
    return norm


def measured_end(norms: Sequence[float], auroc: Sequence[float], drop: float) -> float | None:
    """The norm, above the best one, at which the AUROC has fallen by ``drop``.

    Between two norms the AUROC is interpolated linearly over log(norm).

    Args:
        norms: in ascending order, above 0.
        auroc: the AUROC at each norm, in 0..1.
        drop: the distance below the best AUROC, above 0.

    Returns:
        The norm, or None if the AUROC does not fall that far.

    Example:
        >>> round(measured_end([1.0, 4.0, 16.0], [0.70, 0.90, 0.80], drop=0.05), 6)
        8.0
    """
    floor = max(auroc) - drop
    right = range(int(np.argmax(auroc)) + 1, len(norms))
    below = next((index for index in right if auroc[index] < floor), None)
    if below is None:
        return None
    pair = [below, below - 1]  # np.interp needs ascending values
    return float(np.exp(np.interp(floor, np.take(auroc, pair), np.log(np.take(norms, pair)))))
