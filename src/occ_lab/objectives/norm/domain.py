"""The feasible domain of the norm, estimated without labels and without test images.

A squared score of the closed form is s₀² + norm² s₁² (see `norm_maps`): s₀ depends on a feature in
all directions, s₁ is one linear functional of it, that of the constant. The separation of image
scores is measured relative to their spread over normal images. Let D₀ and D₁ be the standard
deviations, over normal images that Σ was not computed from, of the image scores of the maps s₀² and
s₁². Consider the worst case, in which s₁ carries no information on a defect, is independent of s₀,
and a defect raises the score by δ. The separation is then

    d′(norm) = δ / √(D₀² + norm⁴ D₁²) = d′(0) / √(1 + (norm/norm*)⁴),   norm* = √(D₀ / D₁),

the upper end of the domain: there both parts have the same spread, and the separation is smaller by
√2, as at the half-power point of a filter. The power of four makes the end sharp: half the norm
loses 3 % of the separation, twice the norm 76 %. Where s₁ does carry information, the AUROC falls
later or less than that.

There is no lower end. As the norm falls the score tends to s₀, which is still a score with the same
order of images: in the closed form a small norm costs nothing, and the domain begins at 0. What
training by few noisy gradient steps loses at small norms is not a property of the objective and
does not appear here.

The images must be held out: with few images and many channels, the fit is so close that the s₀ and
s₁ of the training images say nothing (300 embeddings of 1280 channels put norm* off by a factor of
4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
