"""Defects drawn into photographs, each with the exact mask of the pixels it changes.

A drawing function takes a grey image (float64 ``[h, w]``, 0..255) and returns the image with the
defect. It does not make the mask: `draw` compares the two images. Everything is computed in float64
and rounded once, so that every machine draws the same pixels. Lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.float64]
Mask = NDArray[np.bool_]

VISIBLE = 3  # grey levels; smaller changes cannot be seen in these textures
SMALLEST = 30  # pixels; a defect that changes fewer pixels is drawn again


def draw(
    kind: str,
    clean: NDArray[np.uint8],
    donors: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Mask]:
    """Draw one defect.

    Args:
        kind: a key of `DEFECTS`.
        clean: the image without a defect, uint8 ``[h, w]``.
        donors: photographs that a foreign patch may come from, uint8.
        rng: the generator of every random choice.

    Returns:
        The image with the defect, uint8 ``[h, w]``, and its mask, bool ``[h, w]``: outside the mask
        the image equals ``clean``.

    Raises:
        ValueError: the image is so plain that this defect would not be visible anywhere.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> clean = rng.integers(80, 180, (64, 64), dtype=np.uint8)
        >>> image, mask = draw("hole", clean, [clean], rng)
        >>> bool((image[~mask] == clean[~mask]).all()), int(mask.sum()) >= SMALLEST
        (True, True)
    """
    for _ in range(100):
        drawn = DEFECTS[kind](clean.astype(np.float64), donors, rng)
        rounded = np.rint(drawn).clip(0, 255).astype(np.uint8)
        mask = changed(clean, rounded)
        if mask.sum() >= SMALLEST:
            return np.where(mask, rounded, clean), mask
    raise ValueError(f"clean is too plain to show a {kind}")


def changed(clean: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> Mask:
    """The pixels that visibly differ, with pinholes filled where both images agree by chance."""
    different = np.abs(drawn.astype(int) - clean) >= VISIBLE
    mask: Mask = ndimage.binary_fill_holes(different | ndimage.binary_closing(different))
    return mask


def scratch(image: Grey, donors: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Grey:
    """A thin line, dark or bright, that bends and varies in width and strength."""
    points, bold = 24, boldness(image)
    length = bold * log_uniform(rng, 25, 75)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(-0.16, 0.16, points))
    steps = length / points * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    path = np.cumsum(steps, axis=0)
    path += position(image, rng) - path.mean(axis=0)
    width = bold * log_uniform(rng, 0.5, 1.5) * rng.uniform(0.7, 1.3, points)
    opacity = rng.uniform(0.7, 1.0) * rng.uniform(0.8, 1.0, points)

    cover = np.zeros_like(image)
    for start, end, half, strength in zip(path[:-1], path[1:], width, opacity, strict=False):
        inside = (half + 0.5 - distance_to_segment(image.shape, start, end)).clip(0, 1)
        cover = np.maximum(cover, strength * inside)
    level = image.mean() + rng.choice([-1, 1]) * rng.uniform(38, 64) * bold
    soft: Grey = ndimage.gaussian_filter(cover, 0.4)
    drawn: Grey = image + soft * (level - image)
    return drawn


def stain(image: Grey, donors: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Grey:
    """A darker or lighter blob that hides some of the texture, with the edge of a dried drop."""
    bold = boldness(image)
    radius = bold * log_uniform(rng, 5, 14)
    depth = blob(image, radius, rng)
    cover = ramp(depth, rng.uniform(0.1, 0.5) * radius)
    ring = np.exp(-((depth / (0.2 * radius) - 0.5) ** 2))
    tint = rng.choice([-1, 1]) * rng.uniform(0.12, 0.28) * bold
    film = rng.uniform(0.4, 1.0) * cover
    under = image + film * (ndimage.gaussian_filter(image, radius) - image)
    drawn: Grey = under * (1 + tint * cover * (0.75 + rng.uniform(0, 0.5) * ring))
    return drawn


def blur(image: Grey, donors: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Grey:
    """An area out of focus, or smeared along one direction."""
    radius = log_uniform(rng, 8, 26)
    cover = ramp(blob(image, radius, rng), 4)
    if rng.random() < 0.5:
        soft = ndimage.gaussian_filter(image, rng.uniform(0.8, 2.5))
    else:
        reach, angle = rng.uniform(2, 8), rng.uniform(0, np.pi)
        shifts = np.linspace(-reach, reach, 17)
        soft = np.mean(
            [
                ndimage.shift(image, (s * np.sin(angle), s * np.cos(angle)), order=1, mode="mirror")
                for s in shifts
            ],
            axis=0,
        )
    drawn: Grey = image + cover * (soft - image)
    return drawn


def patch(image: Grey, donors: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Grey:
    """A piece from elsewhere, rotated and rescaled, with the brightness of what it covers."""
    donor = donors[int(rng.integers(len(donors)))].astype(np.float64)
    radius = boldness(image) * log_uniform(rng, 5, 13)
    depth = blob(image, radius, rng)
    cover = ramp(depth, 3)

    angle, scale = rng.uniform(0, 2 * np.pi), log_uniform(rng, 0.35, 0.8)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.indices(image.shape).reshape(2, -1)
    middle = np.average(grid, axis=1, weights=cover.ravel())
    source = turn @ (grid - middle[:, None]) + position(donor, rng)[:, None]
    piece = ndimage.map_coordinates(donor, source, order=1, mode="mirror").reshape(image.shape)

    inside = depth > 0
    contrast = min(1.0, image.std() / max(piece[inside].std(), 1.0))
    piece = image[inside].mean() + contrast * (piece - piece[inside].mean())
    drawn: Grey = image + cover * (piece - image)
    return drawn


def hole(image: Grey, donors: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Grey:
    """A dark pit: its rim catches the light on one side and throws a shadow from the other."""
    bold = boldness(image)
    radius = bold * log_uniform(rng, 3, 7)
    depth = blob(image, radius, rng)
    cover = ramp(depth, 1.5)
    down, right = np.gradient(ndimage.gaussian_filter(depth, 1.0))
    light = rng.uniform(0, 2 * np.pi)
    facing = np.sin(light) * down + np.cos(light) * right
    rim = np.exp(-(((depth + 1) / 1.5) ** 2))
    strength = rng.uniform(22, 45) * bold
    floor = image.mean() - strength + 0.2 * (ndimage.gaussian_filter(image, 1.0) - image.mean())
    floor = floor * (1 - 0.3 * ramp(depth - 2 * facing - 2, 3))
    drawn: Grey = image + cover * (floor - image) + 0.25 * strength * facing * rim
    return drawn


DEFECTS: dict[str, Callable[[Grey, Sequence[NDArray[np.uint8]], np.random.Generator], Grey]] = {
    "blur": blur,
    "hole": hole,
    "patch": patch,
    "scratch": scratch,
    "stain": stain,
}


def blob(image: Grey, radius: float, rng: np.random.Generator) -> Grey:
    """The depth in pixels of each pixel inside a random, roughly round shape; negative outside."""
    row, column = position(image, rng)
    down, right = np.indices(image.shape) - np.array([row, column])[:, None, None]
    angle = np.arctan2(down, right)
    outline = np.ones_like(image)
    for waves in (1, 2, 3, 4, 5):
        outline += rng.uniform(-0.45, 0.45) / waves * np.cos(waves * angle + rng.uniform(0, 6.3))
    depth: Grey = radius * outline - np.hypot(down, right)
    return depth


def ramp(depth: Grey, width: float) -> Grey:
    """A smooth step from 0 to 1 over ``width`` pixels around depth 0."""
    t = (depth / width + 0.5).clip(0, 1)
    step: Grey = t * t * (3 - 2 * t)
    return step


def boldness(image: Grey) -> float:
    """The factor by which a defect must be larger and stronger than on a plain texture to be seen.

    It grows with the median difference between a pixel and its surroundings: it is about 1.2 on
    brick, 2.1 on gravel and 2.3 on grass.
    """
    return 1 + float(np.median(np.abs(image - ndimage.gaussian_filter(image, 3)))) / 15


def position(image: Grey, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random position (row, column) away from the border, where a defect would be cut off."""
    return rng.uniform(0.15, 0.85, 2) * image.shape


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number in ``low..high`` whose logarithm is uniform."""
    size: float = low * (high / low) ** rng.random()
    return size


def distance_to_segment(
    shape: tuple[int, ...], start: NDArray[np.float64], end: NDArray[np.float64]
) -> Grey:
    """Distance in pixels of every pixel from the line between two points (row, column)."""
    offset = np.moveaxis(np.indices(shape), 0, -1) - start
    along = end - start
    t = (offset @ along / (along @ along)).clip(0, 1)
    distance: Grey = np.linalg.norm(offset - t[..., None] * along, axis=-1)
    return distance
