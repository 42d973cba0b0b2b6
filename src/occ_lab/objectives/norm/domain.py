"""The feasible domain of the norm, estimated without labels and without test images.

A squared score of the closed form is s₀² + norm² s₁² (see `norm_maps`), where s₁ is one linear
functional of the feature, that of the constant. The upper end of the domain is the norm at which
both parts have the same spread over normal images, norm* = √(D₀ / D₁): if s₁ does not respond to a
defect, the separation of image scores relative to that spread is smaller by √2 there. There is no
lower end. docs/reference/norm_objective.md derives both.

The images must be held out: with few images and many channels, the fit is so close that the s₀ and
s₁ of the training images say nothing (300 embeddings of 1280 channels put norm* off by a factor of
4).
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
        spread: image scores of the maps s₀², of held-out normal images ``[N]``, N at least 2.
        constant: image scores of the maps s₁², of the same images ``[N]``.

    Raises:
        InputError: one of them does not vary, so that there is no estimate.

    Example:
        >>> import torch
        >>> domain_end(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0]))
        2.0
    """
    ratio = float(spread.double().std() / constant.double().std())
    if not 0 < ratio < math.inf:
        raise InputError(
            "times: the scores of normal images do not vary, so that no domain can be estimated; "
            "set smaller times, or use more training images"
        )
    return math.sqrt(ratio)


def settled_end(end_at: Callable[[float], float]) -> float:
    """norm* of a score whose parts depend on the norm themselves, as those of several times do.

    Args:
        end_at: norm* by the parts at a norm.

    Returns:
        A norm that ``end_at`` maps to itself, to 1 %, or what twenty steps come to.

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
    """The norm, right of the best one, at which the AUROC has fallen by ``drop``.

    Between two norms the AUROC is interpolated linearly over log(norm).

    Args:
        norms: rising, above 0.
        auroc: the AUROC at each norm, in 0..1.
        drop: how far below the best AUROC, above 0.

    Returns:
        The norm, or None if the AUROC does not fall so far.

    Example:
        >>> round(measured_end([1.0, 4.0, 16.0], [0.70, 0.90, 0.80], drop=0.05), 6)
        8.0
    """
    floor = max(auroc) - drop
    right = range(int(np.argmax(auroc)) + 1, len(norms))
    below = next((index for index in right if auroc[index] < floor), None)
    if below is None:
        return None
    pair = [below, below - 1]  # np.interp wants rising values
    return float(np.exp(np.interp(floor, np.take(auroc, pair), np.log(np.take(norms, pair)))))
