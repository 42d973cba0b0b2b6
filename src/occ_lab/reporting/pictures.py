"""Heatmap pictures: image, ground truth, anomaly map and overlay side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata
from torch import Tensor

from occ_lab.utils.names import file_name, printable
from occ_lab.utils.png import save_png

PANEL = 224
CAPTION = 26
GAP = 4
CONTOUR = (0, 255, 170)
INK = (25, 25, 25)


@dataclass(frozen=True)
class Subject:
    """A test image with its ground truth and the title of its picture.

    Attributes:
        pixels: uint8 ``[h, w, 3]``.
        mask: bool ``[h, w]``, or None if the task has no masks.
        title: rank, folder, name and kind.
        file: the file name of the picture.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    title: str
    file: str


def subject(rank: int, sample: dict[str, Any], anomalous: bool) -> Subject:
    """The image of a sample, with its ``rank`` among the pictures, counted from 1."""
    source = Path(sample["path"])
    kind = "defect" if anomalous else "normal"
    return Subject(
        pixels_of(sample["image"]),
        sample["mask"].numpy() if "mask" in sample else None,
        f"{rank}. {source.parent.name}/{source.name} ({kind})",
        file_name(f"{rank:03d}_{kind}_{source.parent.name}_{source.stem}", ".png"),
    )


def pixels_of(image: Tensor) -> np.ndarray:
    """An image ``[3, h, w]`` in 0..1 as uint8 ``[h, w, 3]``."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def worst_first(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the images, the worst misses first.

    The degree of a miss is the fraction of images of the other label on the wrong side: of the
    normal images that score higher than an anomalous image, or of the anomalous images that score
    lower than a normal image. Ties are broken by the label, anomalous first, and then by the score.

    Args:
        scores: float ``[N]``.
        labels: int ``[N]``, 1 anomalous.

    Returns:
        int ``[N]``.
    """
    defect = labels == 1
    below = np.empty(len(scores))  # number of images of the other label below; ties count half
    overall = rankdata(scores)
    for own in (defect, ~defect):
        if own.any():
            below[own] = overall[own] - rankdata(scores[own])
    others = np.where(defect, (~defect).sum(), defect.sum())
    fraction = below / np.maximum(others, 1)
    miss = np.where(defect, 1 - fraction, fraction)
    return np.lexsort((np.where(defect, scores, -scores), ~defect, -miss))


def strip(
    image: np.ndarray,
    mask: np.ndarray | None,
    heat: np.ndarray | None,
    caption: str,
    size: tuple[int, ...] = (PANEL, PANEL),
) -> Image.Image:
    """One picture: image, ground truth, map and overlay, if available, and a caption.

    Args:
        image: uint8 ``[h, w, 3]``.
        mask: bool ``[h, w]`` or None.
        heat: float ``[h, w]`` in 0..1, 1 the most anomalous, or None.
        caption: one line.
        size: height and width of each part.
    """
    panels: list[np.ndarray | Image.Image] = [image]
    if mask is not None:
        panels.append(outlined(image, mask))
    if heat is not None:
        colours = matplotlib.colormaps["inferno"](heat, bytes=True)[..., :3]
        weight = np.rint(255 * 0.75 * heat**2)  # keeps the image visible where the map is low
        parts = map(Image.fromarray, (colours, image, weight.astype(np.uint8)))
        panels += [colours, Image.composite(*parts)]
    return beside(panels, caption, size)


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with a line around the mask, bool ``[h, w]``."""
    if not mask.any():
        return image
    outline = binary_dilation(mask, iterations=2) & ~mask
    return np.where(outline[..., None], CONTOUR, image).astype(np.uint8)


def beside(
    panels: Sequence[np.ndarray | Image.Image],
    caption: str,
    size: tuple[int, ...] = (PANEL, PANEL),
) -> Image.Image:
    """Panels, each a picture or uint8 ``[h, w, 3]``, side by side, below a caption of one line."""
    caption = printable(caption)
    font = ImageFont.load_default(15)
    tall, wide = size
    width = max(len(panels) * (wide + GAP) - GAP, math.ceil(font.getlength(caption)) + 8)
    canvas = Image.new("RGB", (width, tall + CAPTION), "white")
    ImageDraw.Draw(canvas).text((4, 4), caption, INK, font)
    for index, pixels in enumerate(panels):
        panel = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
        if panel.size != (wide, tall):
            panel = panel.resize((wide, tall), Image.Resampling.BILINEAR)
        canvas.paste(panel, (index * (wide + GAP), CAPTION))
    return canvas


def save_pictures(
    folder: Path,
    sample: Callable[[int], dict[str, Any]],
    heat: Callable[[int], np.ndarray] | None,
    scores: np.ndarray,
    labels: np.ndarray,
    count: int,
    whole: bool = False,
) -> list[Path]:
    """Save pictures of the worst misses.

    Args:
        folder: the folder for the pictures; it is created.
        sample: returns the sample at an index: ``image`` float ``[3, h, w]`` in 0..1, ``path``, and
            ``mask`` bool ``[h, w]`` if the task has masks.
        heat: returns the anomaly map ``[h, w]`` at an index; None if the task has no maps.
        scores: image scores ``[N]``.
        labels: ``[N]``, 1 anomalous.
        count: the largest number of pictures.
        whole: whether pictures keep the size of the samples; otherwise they are squares.

    Returns:
        The files, the worst miss first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    indices = worst_first(scores, labels)[:count].tolist()
    maps = one_scale([heat(index) for index in indices]) if heat else [None] * len(indices)

    def save(rank: int, index: int, values: np.ndarray | None) -> Path:
        shown = subject(rank, sample(index), bool(labels[index]))
        caption = f"{shown.title}   score {scores[index]:.4g}   {below_text(scores, labels, index)}"
        size = shown.pixels.shape[:2] if whole else (PANEL, PANEL)
        picture = strip(shown.pixels, shown.mask, values, caption, size)
        save_png(picture, folder / shown.file)
        return folder / shown.file

    with ThreadPoolExecutor() as pool:  # most of the work is decoding and encoding
        return list(pool.map(save, range(1, len(indices) + 1), indices, maps))


def one_scale(maps: list[np.ndarray]) -> list[np.ndarray]:
    """Scale all maps to 0..1 in the same way, so that their colours can be compared."""
    scale = Normalize()
    if maps:
        scale.vmin = min(float(values.min()) for values in maps)
        scale.vmax = max(float(values.max()) for values in maps)
    return [np.asarray(scale(values)) for values in maps]


def below_text(scores: np.ndarray, labels: np.ndarray, index: int) -> str:
    """A phrase that compares the score of an image with those of the other label."""
    others = scores[labels != labels[index]]
    if labels[index]:
        return f"{(others >= scores[index]).sum()} of {len(others)} normal images score higher"
    return f"{(others <= scores[index]).sum()} of {len(others)} anomalous images score lower"
