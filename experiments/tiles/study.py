"""Small defects in large images: ``python -m experiments.tiles.study --help``.

Photographs of 4000 × 3000 pixels are generated: a texture, or crops of magnetic tiles, under uneven
light and with the noise of a sensor. The bad ones have one disc of 20 pixels on them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from PIL import Image
from scipy.ndimage import zoom

import occ_lab
from experiments.trial import TEXTURES, command_line, record, table
from occ_lab.config.composition import composed
from occ_lab.config.job import perform_run
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak

HERE = Path(__file__).parent
HEIGHT, WIDTH = 3000, 4000
COUNT = 30  # good images, half of them to train on, and as many bad ones
DISC = 20  # pixels across
CONTRAST = (40, 90)  # levels between a disc and what is around it
CELL = 250  # pixels of a crop of a magnetic tile
BACKGROUNDS = (*TEXTURES, "magnetic tiles")
WAYS = {
    "seen whole": ["dataset.tile=null"],
    "tile=auto": ["dataset.tile=auto"],
}
SIZES = ((1500, 2000), (3000, 4000), (6000, 8000))  # of the images whose cost is measured


def main() -> None:
    """Run what is not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials = [
        (f"{name} | {way}", partial(measured, name, overrides, data))
        for name in BACKGROUNDS
        for way, overrides in WAYS.items()
    ]
    trials += [(f"cost | {height}", partial(cost, height, width)) for height, width in SIZES]
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def measured(name: str, overrides: Sequence[str], data: Path) -> dict[str, Any]:
    """The figures of the default detector on a generated set."""
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), name, data)
        asked = [
            *("dataset=folder", f"dataset.normal='{folder}/good'"),
            *(f"dataset.abnormal='{folder}/bad'", f"dataset.masks='{folder}/masks'"),
            *("dataset.train_share=0.5", "loss=norm", "maps=0", "logger=none"),
            *("cache.enabled=false", "calibration.folds=0", "calibration.share=0", *overrides),
        ]
        reset_peak()
        (figures,) = perform_run(composed("train", asked), Path(folder) / "run").values()
    kept = ("image_auroc", "pixel_auroc", "pixel_aupro", "n_train", "n_test", "seconds")
    return {key: figures[key] for key in kept if key in figures} | {"peak_mb": peak_mb()}


def write_set(folder: Path, name: str, data: Path) -> None:
    """Write the good and bad images of a set, and the masks of the bad ones."""
    random = np.random.default_rng(BACKGROUNDS.index(name))
    for kind in ("good", "bad"):
        for number in range(COUNT):
            pixels = photograph(name, random, data)
            if kind == "bad":
                mask = with_disc(pixels, random)
                save(folder / f"masks/{number:02d}.png", mask)
            save(folder / f"{kind}/{number:02d}.jpg", pixels)


def photograph(name: str, random: np.random.Generator, data: Path) -> np.ndarray:
    """A background under uneven light, with noise: uint8 ``[3000, 4000]``."""
    if name in TEXTURES:
        photo = getattr(skimage.data, name)()
        photo = np.rot90(photo, random.integers(4))
        start = random.integers(512, size=2)
        margins = [(0, HEIGHT + start[0] - 512), (0, WIDTH + start[1] - 512)]
        values = np.pad(photo, margins, mode="symmetric")[start[0] :, start[1] :]
    else:
        values = mosaic(random, data)
    light = zoom(random.uniform(0.85, 1.15, (4, 5)), (HEIGHT / 4, WIDTH / 5), order=1)
    noisy = values * light + random.normal(0, 3, values.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def mosaic(random: np.random.Generator, data: Path) -> np.ndarray:
    """Random crops of magnetic tiles without defects, side by side: ``[3000, 4000]``."""
    paths = sorted((data / "magnetic_tile/MT_Free/Imgs").glob("*.jpg"))
    values = np.empty((HEIGHT, WIDTH))
    for top in range(0, HEIGHT, CELL):
        for left in range(0, WIDTH, CELL):
            tile = np.asarray(Image.open(paths[random.integers(len(paths))]).convert("L"))
            margins = [(0, max(0, CELL - side)) for side in tile.shape]
            tile = np.pad(tile, margins, mode="symmetric")
            row, column = (random.integers(side - CELL + 1) for side in tile.shape)
            values[top : top + CELL, left : left + CELL] = tile[
                row : row + CELL, column : column + CELL
            ]
    return values


def with_disc(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a disc that is lighter or darker than what is around it; returns its mask."""
    row, column = (random.integers(DISC, side - DISC) for side in pixels.shape)
    around = pixels[row - DISC : row + DISC, column - DISC : column + DISC].mean()
    step = random.uniform(*CONTRAST)
    level = around + (step if around + step <= 255 and random.random() < 0.5 else -step)
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    mask = (rows - row) ** 2 + (columns - column) ** 2 <= (DISC / 2) ** 2
    pixels[mask] = np.clip(level + random.normal(0, 3, mask.sum()), 0, 255)
    return (mask * 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def cost(height: int, width: int) -> dict[str, float]:
    """Seconds and memory to score an image of a size in tiles, beyond the image itself."""
    frame = occ_lab.data.Tiles(256, 32)
    detector = occ_lab.Detector(preprocessing=frame).eval()
    random = np.random.default_rng(0)
    tiles = random.integers(0, 256, (8, *frame.size, 3), dtype=np.uint8)
    with torch.inference_mode():
        detector.objective.observe(detector.levels({"image": as_batch(tiles)}))
        detector.objective.finish(detector.projector)
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        detector.score_pixels(image[None, :512, :512])
        reset_peak()
        before, started = peak_mb(), time.perf_counter()
        detector.score_pixels(image[None])
    return {
        "megapixels": height * width / 1e6,
        "tiles": len(frame.origins(height, width)),
        "seconds": time.perf_counter() - started,
        "added_mb": peak_mb() - before,
    }


def as_batch(tiles: np.ndarray) -> torch.Tensor:
    """Uint8 ``[N, h, w, 3]`` as float32 ``[N, 3, h, w]`` in 0..1."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows, costs = [], []
    for name in BACKGROUNDS:
        if f"{name} | tile=auto" not in results:
            rows.append([name, *["not recorded"] * (2 * len(WAYS) + 1)])
            continue
        row = [name]
        for way in WAYS:
            found = results[f"{name} | {way}"]
            row += [f"{100 * found[key]:.1f}" for key in ("image_auroc", "pixel_auroc")]
        seconds = results[f"{name} | tile=auto"]["seconds"]
        images = sum(results[f"{name} | tile=auto"][key] for key in ("n_train", "n_test"))
        spent = (seconds["fit"] + seconds["test"]) / images / (HEIGHT * WIDTH / 1e6)
        rows.append([*row, f"{spent:.2f}"])
    for height, width in SIZES:
        if f"cost | {height}" not in results:
            costs.append([f"{width} × {height}", *["not recorded"] * 4])
            continue
        found = results[f"cost | {height}"]
        costs.append(
            [
                f"{width} × {height}",
                f"{found['tiles']}",
                f"{found['seconds']:.1f}",
                f"{found['seconds'] / found['megapixels']:.2f}",
                f"{found['added_mb']:.0f}",
            ]
        )
    return "\n".join(
        [
            "# Small defects in large images",
            "",
            f"Discs of {DISC} pixels, {CONTRAST[0]} to {CONTRAST[1]} levels lighter or darker than",
            f"what is around them, on generated photographs of {WIDTH} × {HEIGHT} pixels: {COUNT}",
            f"good ones, of which half are trained on, and {COUNT} bad ones for each background.",
            "The default detector and backbone with `dataset.tile=auto` (tiles of 256 pixels that",
            "overlap by 32), and seen whole, resized to 256 pixels; per cent. The last column is",
            "what fit and test cost for a megapixel, reading the files included.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.tiles.study --data DIR`.",
            "",
            *table(
                [
                    "background",
                    *(f"{way}, {of} AUROC" for way in WAYS for of in ("image", "pixel")),
                    "s per megapixel",
                ],
                rows,
            ),
            "",
            "An image that is in memory, scored in tiles. Only a few tiles are in the network at",
            "once; of the rest of the image a map of a sixteenth of its pixels is kept.",
            "",
            *table(["image", "tiles", "s", "s per megapixel", "memory added, MB"], costs),
            "",
        ]
    )


if __name__ == "__main__":
    main()
