"""Heatmap pictures: image, ground truth, anomaly map and overlay side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata
from torch import Tensor

PANEL = 224
CAPTION = 26
GAP = 4
CONTOUR = (0, 255, 170)
INK = (25, 25, 25)


@dataclass(frozen=True)
class Subject:
    """A test image that a picture is about.

    Attributes:
        pixels: uint8 ``[h, w, 3]``.
        mask: bool ``[h, w]``, or None where the task has no masks.
        title: place in the order, folder, name and kind.
        file: the picture's name.
    """

    pixels: np.ndarray
    mask: np.ndarray | None
    title: str
    file: str


def subject(rank: int, sample: dict[str, Any], anomalous: bool) -> Subject:
    """The image of a sample, that stands at ``rank``, counted from 1, among those shown."""
    source = Path(sample["path"])
    kind = "defect" if anomalous else "normal"
    return Subject(
        pixels_of(sample["image"]),
        sample["mask"].numpy() if "mask" in sample else None,
        f"{rank}. {source.parent.name}/{source.name} ({kind})",
        f"{rank:03d}_{kind}_{source.parent.name}_{source.stem}.png",
    )


def pixels_of(image: Tensor) -> np.ndarray:
    """An image ``[3, h, w]`` in 0..1 as uint8 ``[h, w, 3]``."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def worst_first(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places of the images, the worst misses first.

    How badly an image is missed is the share of images of the other label that stand on its wrong
    side: normal images that score higher than a defect, defects that score lower than a normal
    image. Images no worse than each other come with the defects first, then by score.

    Args:
        scores: float ``[N]``.
        labels: int ``[N]``, 1 anomalous.

    Returns:
        int ``[N]``.
    """
    defect = labels == 1
    below = np.empty(len(scores))  # images of the other label that score lower, ties by half
    overall = rankdata(scores)
    for own in (defect, ~defect):
        if own.any():
            below[own] = overall[own] - rankdata(scores[own])
    others = np.where(defect, (~defect).sum(), defect.sum())
    share = below / np.maximum(others, 1)
    miss = np.where(defect, 1 - share, share)
    return np.lexsort((np.where(defect, scores, -scores), ~defect, -miss))


def strip(
    image: np.ndarray, mask: np.ndarray | None, heat: np.ndarray | None, caption: str
) -> Image.Image:
    """One picture: image, ground truth, map and overlay, as far as there are any, and a caption.

    Args:
        image: uint8 ``[h, w, 3]``.
        mask: bool ``[h, w]`` or None.
        heat: float ``[h, w]`` in 0..1, 1 the most anomalous, or None.
        caption: one line.
    """
    panels = [image]
    if mask is not None:
        panels.append(outlined(image, mask))
    if heat is not None:
        colours = (matplotlib.colormaps["inferno"](heat)[..., :3] * 255).astype(np.uint8)
        weight = 0.75 * heat[..., None] ** 2  # the image shows but where the map is high
        panels += [colours, ((1 - weight) * image + weight * colours).astype(np.uint8)]
    return beside(panels, caption)


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with a line around what the mask ``[h, w]`` covers."""
    outline = binary_dilation(mask, iterations=2) & ~mask
    return np.where(outline[..., None], CONTOUR, image).astype(np.uint8)


def beside(panels: list[np.ndarray], caption: str) -> Image.Image:
    """Panels, each uint8 ``[h, w, 3]``, side by side, and a caption of one line above."""
    font = ImageFont.load_default(15)
    width = max(len(panels) * (PANEL + GAP) - GAP, math.ceil(font.getlength(caption)) + 8)
    canvas = Image.new("RGB", (width, PANEL + CAPTION), "white")
    ImageDraw.Draw(canvas).text((4, 4), caption, INK, font)
    for place, pixels in enumerate(panels):
        panel = Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
        canvas.paste(panel, (place * (PANEL + GAP), CAPTION))
    return canvas


def save_pictures(
    folder: Path,
    sample: Callable[[int], dict[str, Any]],
    heat: Callable[[int], np.ndarray] | None,
    scores: np.ndarray,
    labels: np.ndarray,
    count: int,
) -> list[Path]:
    """Save the ``count`` worst misses into ``folder`` and name the files, worst first.

    Args:
        folder: where to; it is made.
        sample: gives the sample of a place: ``image`` float ``[3, h, w]`` in 0..1, ``path``, and
            ``mask`` bool ``[h, w]`` if the task has masks.
        heat: gives the anomaly map ``[h, w]`` of a place; None where the task has no maps.
        scores: image scores ``[N]``.
        labels: ``[N]``, 1 anomalous.
        count: how many pictures at most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = worst_first(scores, labels)[:count].tolist()
    maps = one_scale([heat(place) for place in places]) if heat else [None] * len(places)

    def save(rank: int, place: int, values: np.ndarray | None) -> Path:
        shown = subject(rank, sample(place), bool(labels[place]))
        caption = f"{shown.title}   score {scores[place]:.4g}   {below_text(scores, labels, place)}"
        picture = strip(shown.pixels, shown.mask, values, caption)
        picture.save(folder / shown.file, compress_level=1)  # four times as fast, a fifth larger
        return folder / shown.file

    with ThreadPoolExecutor() as pool:  # most of the work is decoding and encoding
        return list(pool.map(save, range(1, len(places) + 1), places, maps))


def one_scale(maps: list[np.ndarray]) -> list[np.ndarray]:
    """Maps brought to 0..1 by one scale for all, so that their colours can be compared."""
    low, high = min(map(np.min, maps), default=0.0), max(map(np.max, maps), default=1.0)
    return [(values - low) / max(high - low, np.finfo(np.float32).tiny) for values in maps]


def below_text(scores: np.ndarray, labels: np.ndarray, place: int) -> str:
    """How one image stands against those of the other label, in words."""
    others = scores[labels != labels[place]]
    if labels[place]:
        return f"{(others >= scores[place]).sum()} of {len(others)} normal images score higher"
    return f"{(others <= scores[place]).sum()} of {len(others)} defects score lower"
