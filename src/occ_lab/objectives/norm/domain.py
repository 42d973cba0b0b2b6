"""The feasible domain of the norm, estimated without labels and without test images.

A squared score of the closed form is s₀² + norm² s₁² (see `norm_maps`): s₀ sees a feature in all
directions, s₁ is one linear functional of it, the constant's. What an image score
can be told apart by is measured against how far normal images stray. Let D₀ and D₁ be the standard
deviations, over normal images that Σ was not made of, of the image scores of the maps s₀² and s₁².
Take the worst case, in which s₁ tells nothing of a defect, is independent of s₀, and a defect
raises the score by δ. The separation is then

    d′(norm) = δ / √(D₀² + norm⁴ D₁²) = d′(0) / √(1 + (norm/norm*)⁴),   norm* = √(D₀ / D₁),

the domain's upper end: there the drowning part strays as far as the seeing one, and the separation
is down by √2, the half-power point of a filter. The power of four makes it sharp: half as large a
norm loses 3 % of the separation, twice as large a norm 76 %. Where s₁ tells something after all,
the AUROC falls later or less than that.

There is no lower end. As the norm falls the score tends to s₀, which still is a score, with all of
its order: in the closed form a small norm costs nothing, and the domain begins at 0. What training
by few noisy gradient steps loses at small norms is no property of the objective, and not seen here.

The images must be held out: few images against many channels are fitted so closely that their own
s₀ and s₁ say nothing (300 embeddings of 1280 channels put norm* off by a factor of 4).
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
        InputError: one of them does not vary, so that no norm can be told.
    """
    ratio = float(spread.double().std() / constant.double().std())
    if not 0 < ratio < math.inf:
        raise InputError(
            "times: scores of normal images do not vary, so that no domain can be estimated; "
            "take smaller times, or more training images"
        )
    return math.sqrt(ratio)


def measured_end(norms: Sequence[float], auroc: Sequence[float], drop: float) -> float | None:
    """The norm, right of the best one, at which the AUROC has fallen by ``drop``.

    Between two norms it is taken to fall linearly over log(norm).

    Args:
        norms: rising, above 0.
        auroc: of each, in 0..1.
        drop: how far below the best, above 0.

    Returns:
        None where it does not fall so far.
    """
    floor = max(auroc) - drop
    places = range(int(np.argmax(auroc)) + 1, len(norms))
    below = next((place for place in places if auroc[place] < floor), None)
    if below is None:
        return None
    pair = [below, below - 1]  # np.interp wants rising values
    return float(np.exp(np.interp(floor, np.take(auroc, pair), np.log(np.take(norms, pair)))))
