"""Small generated datasets in the layouts of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(seed: int, side: int = 64) -> np.ndarray:
    """A smooth random texture, uint8 ``[side, side, 3]``."""
    coarse = np.random.default_rng(seed).integers(60, 200, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def class_tree(
    root: Path,
    classes: Sequence[str] = ("dot", "ring"),
    train: int = 6,
    test: int = 4,
    side: int = 8,
) -> Path:
    """A folder of images for each class, to train on and to test on."""
    for part, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            for place in range(count):
                seed = 1000 * number + 100 * (part == "test") + place
                save(root / part / name / f"{place:03d}.png", noise(seed, side))
    return root


def mvtec_tree(
    root: Path, category: str = "bolt", train: int = 6, good: int = 3, bad: int = 3, side: int = 64
) -> Path:
    """One category in MVTec AD's layout; a defect is a bright square with its mask."""
    folder = root / category
    for place in range(train):
        save(folder / "train" / "good" / f"{place:03d}.png", noise(place, side))
    for place in range(good):
        save(folder / "test" / "good" / f"{place:03d}.png", noise(100 + place, side))
    for place in range(bad):
        pixels, mask = noise(200 + place, side).copy(), np.zeros((side, side), np.uint8)
        spot = slice(side // 4 + place, side // 2 + place)
        pixels[spot, spot], mask[spot, spot] = 255, 255
        save(folder / "test" / "dent" / f"{place:03d}.png", pixels)
        save(folder / "ground_truth" / "dent" / f"{place:03d}_mask.png", mask)
    return folder
