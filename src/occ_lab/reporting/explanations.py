"""Pictures of explained scores: image, baseline, attribution."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.colors import CenteredNorm
from PIL import Image

from occ_lab.reporting.pictures import Subject, beside, outlined

FADED = 0.3  # contrast of the image behind the colours


def explanation(
    shown: Subject, baseline: np.ndarray, values: np.ndarray, caption: str
) -> Image.Image:
    """A picture of the image, the baseline, and the attribution over the image with ground truth.

    Args:
        shown: the explained image.
        baseline: the image to compare with, uint8 ``[h, w, 3]``.
        values: the attribution, float ``[h, w]``: red above 0, blue below 0, strongest at the
            largest magnitude.
        caption: one line.
    """
    overlay = coloured(values, shown.pixels)
    if shown.mask is not None:
        overlay = outlined(overlay, shown.mask)
    return beside([shown.pixels, baseline, overlay], caption)


def coloured(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Signed values ``[h, w]`` in colours over a faded image ``[h, w, 3]``; zero has no colour."""
    scale = CenteredNorm(halfrange=max(np.abs(values).max(), np.finfo(np.float32).tiny))
    colours = matplotlib.colormaps["RdBu_r"](scale(values))[..., :3]
    faded = 255 - FADED * (255 - image.mean(axis=2, keepdims=True))
    return np.asarray(colours * faded, np.float64).astype(np.uint8)
