"""Bilinear upsampling as a matrix."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F


@lru_cache(maxsize=32)
def upsampling_matrix(source: int, target: int) -> np.ndarray:
    """Linear interpolation along one axis, as ``F.interpolate`` computes it.

    Bilinear interpolation of a map applies one such matrix to its rows and one to its columns. The
    result is cached, so it must not be modified.

    Args:
        source: the number of positions along the axis before interpolation.
        target: the number of positions after it.

    Returns:
        float64 ``[target, source]``.

    Example:
        >>> upsampling_matrix(2, 4)
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]])
    """
    units = torch.eye(source, dtype=torch.float64)[None]  # a column: the image of a unit vector
    return F.interpolate(units, size=target, mode="linear", align_corners=False)[0].numpy().T
