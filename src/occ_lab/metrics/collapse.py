"""A check that a detector can distinguish images."""

from __future__ import annotations

from torch import Tensor

from occ_lab.utils.errors import InputError


def check_collapse(scores: Tensor, count: int) -> None:
    """Raise an error if all images have the same score: the hypersphere has collapsed to a point.

    Args:
        scores: image scores ``[N]``, or their minimum and maximum.
        count: the number of images.

    Raises:
        InputError: the scores differ by no more than float32 rounding.

    Example:
        >>> import torch
        >>> check_collapse(torch.tensor([0.5, 0.7]), 2)
    """
    low, high = (float(extreme) for extreme in scores.double().aminmax())
    if count > 1 and high - low <= 1e-6 * max(abs(low), abs(high)):
        raise InputError(
            f"the scores have collapsed: all {count} test images score {high:.6g}, so that "
            "images cannot be distinguished. The usual causes are: bias terms or a bounded "
            "activation in a trained network (Deep SVDD); a learning rate too high or too many "
            "epochs; a centre or target near the origin with strong weight decay; a target so far "
            "away (norm) that rounding hides the rest; or features that are all the same",
            part="objective",
        )
