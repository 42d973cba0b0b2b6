"""Small defects in large images: ``python -m experiments.tiles.study --help``.

Photographs are generated: a texture, or crops of magnetic tiles, under uneven light and with the
noise of a sensor. The anomalous ones show one disc of 20 pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import skimage
import torch
from PIL import Image

import occ_lab
from experiments.tiles.quilting import quilt
from experiments.trial import TEXTURES, command_line, record, table
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data.images import read_image
from occ_lab.data.tiled_images import tile_batches
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import peak_mb, reset_peak

HERE = Path(__file__).parent
DISC = 20  # pixels across
CONTRAST = (40, 90)  # grey levels between a disc and its surroundings
NOISE = 3  # grey levels, of a sensor
CELL = 250  # pixels; the side of a crop of a magnetic tile before enlargement
ENLARGED = 4  # times; grains are then larger than the discs
SURFACES = (*TEXTURES, "magnetic tiles")
WAYS = {"seen whole": ["dataset.tile=null"], "tile=auto": ["dataset.tile=auto"]}
METHODS = {f"loss={loss}": ["dataset.tile=auto", f"loss={loss}"] for loss in ("padim", "knn")}
COMPARED = "grass"  # also tested with these methods
SIZES = ((1500, 2000), (3000, 4000), (4500, 6000))  # of the photographs whose cost is measured
FILLED = {"edge": "border repeated", "symmetric": "reflected"}  # NumPy's names
SHAPES = ((480, 640), (480, 600), (480, 480), (640, 480))  # the training shape, and others
SEEN = 12  # photographs of each shape
LAST = 6  # rows of positions at the border
STEPS = ("decode", "backbone", "learn", "score")

T = TypeVar("T")

PAGE = """
# Small defects in large images

Photographs are generated: a surface under uneven light, with the noise of a sensor (standard
deviation {noise} levels). An anomalous photograph shows one disc, {disc} pixels across and {low} to
{high} levels lighter or darker than its surroundings. The textures of scikit-image have 512 × 512
pixels; larger surfaces are quilted from them (Efros & Freeman 2001), so they show no seams. Earlier
photographs were mirrored at seams, and the detector found these seams in normal photographs,
because nothing else in them is symmetric. Magnetic tiles are random crops of {cell} × {cell} pixels
from the images without defects, side by side.

The default detector and backbone without cached features, 10 normal photographs to train on and
others to test; AUROC in per cent. Seen whole: resized to 256 pixels. `tile=auto`: tiles of 256
pixels that overlap by 32.

Recorded until {day} by `OMP_NUM_THREADS=1 python -m experiments.tiles.study --data DIR`.

## Surfaces whose grains are larger than the defect

Textures and tiles are enlarged {enlarged} times (bicubic) before disc, light and noise are added:
a stone or a leaf has about 80 pixels, and nearly every disc is clearly visible at full size.
Photographs of 4000 × 3000 pixels, 30 normal and 30 anomalous ones to test.

{large}

On bricks and magnetic tiles every disc is found. On grass and gravel the map shows the discs, but
some normal photographs have higher image scores, at the whitest stones, bright blades and edges of
leaves, as their heatmaps show. The discs with the lowest scores lie on a stone or a blade of their
own grey level, where they are hard to see as well.

## Surfaces whose grains are as small as the defect

The same surfaces at their stored size: stones and leaves have about 20 pixels, like the disc, and
the image score is that of the most unusual of 190 000 positions. Photographs of 2000 × 1500
pixels, 10 normal and 10 anomalous ones to test.

{fine}

By other objectives:

{methods}

## Beyond the border

3000 is not a multiple of 16, so the last tile is not full. Scores beyond the end of the image do
not count, but the pixels there influence neighbouring positions. The mean score of the last {last}
rows of positions on the image, divided by the mean score inside, for enlarged grass, by the number
of pixels left in a tile:

{borders}

A repeated border is a texture that no real image has. Earlier versions filled tiles in this way,
and the most unusual positions of normal photographs were there; now tiles are filled by reflection.

The frame of a whole image with another shape than the training images is also filled by reflection.
The median score of normal photographs of other shapes, divided by that of normal photographs of
640 × 480 pixels, the training shape, which fill the frame:

{shapes}

## Cost

Seconds of one core for each megapixel of a photograph of enlarged gravel: for decoding the file,
for passing its tiles through the backbone alone, for learning from them, and for scoring them with
map and image score. The last two include the backbone. Tiles have more pixels than the image,
because they overlap. Memory is the amount that scoring adds to a process that holds the image: a
few tiles in the network, and a map with a position for every 4 × 4 pixels. Each size is measured in
a process of its own.

{costs}
"""


@dataclass(frozen=True)
class Photographs:
    """A generated set.

    Attributes:
        surface: a texture, or ``magnetic tiles``.
        enlarged: the factor of enlargement.
        size: height and width in pixels.
        trained: the number of normal images to train on.
        tested: the number of normal test images, and of anomalous ones.
    """

    surface: str
    enlarged: int
    size: tuple[int, int] = (3000, 4000)
    trained: int = 10
    tested: int = 30


LARGE = {f"{surface}, enlarged": Photographs(surface, ENLARGED) for surface in SURFACES}
FINE = {surface: Photographs(surface, 1, (1500, 2000), tested=10) for surface in SURFACES}
SETS = {**LARGE, **FINE}


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials = [(name, partial(measured, name, WAYS, data)) for name in LARGE]
    trials += [(f"cost | {height}", partial(alone, cost, height, width)) for height, width in SIZES]
    trials.append(("past the border", past_the_border))
    trials += [(f"shapes | {surface}", partial(other_shapes, surface)) for surface in TEXTURES]
    for name in FINE:
        ways = WAYS | METHODS if name == COMPARED else WAYS
        trials.append((name, partial(measured, name, ways, data)))
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def measured(name: str, ways: Mapping[str, list[str]], data: Path) -> dict[str, dict[str, Any]]:
    """The figures of detectors on a generated set, for each set of options."""
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), name, data)
        fraction = SETS[name].trained / (SETS[name].trained + SETS[name].tested)
        return {
            way: figures(Path(folder), [f"dataset.train_share={fraction}", *asked])
            for way, asked in ways.items()
        }


def figures(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The figures of a detector on the set in a folder."""
    asked = [
        *("dataset=folder", f"dataset.normal='{folder}/good'"),
        *(f"dataset.abnormal='{folder}/bad'", f"dataset.masks='{folder}/masks'"),
        *("maps=0", "logger=none", "cache.enabled=false", "calibration.folds=0", *overrides),
    ]
    reset_peak()
    with tempfile.TemporaryDirectory() as run:
        (found,) = perform_run(composed("train", asked), Path(run)).values()
    kept = ("image_auroc", "pixel_auroc", "pixel_aupro", "n_train", "n_test", "seconds")
    return {key: found[key] for key in kept} | {"peak_mb": peak_mb()}


def write_set(folder: Path, name: str, data: Path) -> None:
    """Write the normal and anomalous images of a set, and the masks of the anomalous ones."""
    random = np.random.default_rng([*name.encode()])
    drawn = SETS[name]
    draw = partial(background, drawn, random, data)
    for number in range(drawn.trained + drawn.tested):
        save(folder / f"good/{number:02d}.jpg", photograph(draw(), random))
    for number in range(drawn.tested):
        surface = draw()
        mask = with_disc(surface, random)
        save(folder / f"bad/{number:02d}.jpg", photograph(surface, random))
        save(folder / f"masks/{number:02d}.png", mask)


def background(drawn: Photographs, random: np.random.Generator, data: Path) -> np.ndarray:
    """A surface in even light, levels 0..255, float32 ``[h, w]``."""
    if drawn.surface not in TEXTURES:
        return mosaic(drawn, random, data)
    texture = np.rot90(getattr(skimage.data, drawn.surface)(), random.integers(4))
    height, width = (side // drawn.enlarged for side in drawn.size)
    return enlarged_by(drawn.enlarged, quilt(texture, (height, width), random))


def mosaic(drawn: Photographs, random: np.random.Generator, data: Path) -> np.ndarray:
    """Random crops of magnetic tiles without defects, side by side: float32 ``[h, w]``."""
    paths = sorted((data / "magnetic_tile/MT_Free").rglob("*.jpg"))
    cell = CELL * drawn.enlarged
    values = np.empty(drawn.size, np.float32)
    for top in range(0, drawn.size[0], cell):
        for left in range(0, drawn.size[1], cell):
            tile = np.asarray(Image.open(paths[random.integers(len(paths))]).convert("L"))
            margins = [(0, max(0, CELL - side)) for side in tile.shape]
            tile = np.pad(tile, margins, mode="symmetric")
            row, column = (random.integers(side - CELL + 1) for side in tile.shape)
            crop = tile[row : row + CELL, column : column + CELL]
            values[top : top + cell, left : left + cell] = enlarged_by(drawn.enlarged, crop)
    return values


def enlarged_by(factor: int, values: np.ndarray) -> np.ndarray:
    """Levels, enlarged by bicubic interpolation, float32."""
    image = Image.fromarray(values.astype(np.float32))
    size = (image.width * factor, image.height * factor)
    return np.array(image.resize(size, Image.Resampling.BICUBIC))


def with_disc(surface: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a disc that is lighter or darker than its surroundings; returns its mask, 0 or 255."""
    row, column = (random.integers(DISC, side - DISC) for side in surface.shape)
    part = surface[row - DISC : row + DISC, column - DISC : column + DISC]
    step = random.uniform(*CONTRAST) * random.choice([-1, 1])
    if not 0 <= part.mean() + step <= 255:
        step = -step
    distance = np.hypot(*np.mgrid[-DISC:DISC, -DISC:DISC])
    inside = np.clip(DISC / 2 + 0.5 - distance, 0, 1)  # with an edge of one pixel
    part[:] = (1 - inside) * part + inside * (part.mean() + step)
    mask = np.zeros(surface.shape, np.uint8)
    mask[row - DISC : row + DISC, column - DISC : column + DISC] = 255 * (inside >= 0.5)
    return mask


def photograph(surface: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A surface under uneven light, with the noise of a sensor: uint8."""
    light = Image.fromarray(random.uniform(0.85, 1.15, (4, 5)).astype(np.float32))
    size = (surface.shape[1], surface.shape[0])
    lit = surface * np.asarray(light.resize(size, Image.Resampling.BILINEAR))
    lit += NOISE * random.standard_normal(surface.shape, np.float32)
    return lit.round().clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def cost(height: int, width: int) -> dict[str, float | None]:
    """The cost of a photograph in tiles: seconds of one core, and memory.

    Returns:
        Its megapixels and tiles; the seconds for decoding it, for passing its tiles through the
        backbone alone, for learning from them and for scoring them, once each; and the MB that
        scoring adds to the process, which already holds the image.
    """
    frame = occ_lab.data.Tiles(256, 32)
    detector = occ_lab.Detector(preprocessing=frame).eval()
    random = np.random.default_rng(0)
    gravel = background(Photographs("gravel", ENLARGED, (height, width)), random, Path())
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "gravel.jpg", photograph(gravel, random))
        decode, image = timed(lambda: read_image(Path(folder) / "gravel.jpg"))

    def backbone() -> None:
        for batch in tile_batches(image, frame):
            detector.levels(batch)

    def learn(image: np.ndarray) -> None:
        for batch in tile_batches(image, frame):
            levels = detector.levels(batch)
            detector.objective.observe(levels, detector.valid(batch, levels[0]))

    with torch.inference_mode():
        learn(image[:1024, :1024])
        detector.objective.finish(detector.projector)
        detector.score_pixels(image[None, :1024, :1024])
        reset_peak()
        before = peak_mb()
        score, _ = timed(lambda: detector.score_pixels(image[None]))
        added = None if before is None else peak_mb() - before
        return {
            "megapixels": height * width / 1e6,
            "tiles": len(frame.origins(height, width)),
            "decode": decode,
            "backbone": timed(backbone)[0],
            "learn": timed(lambda: learn(image))[0],
            "score": score,
            "added_mb": added,
        }


def alone(step: Callable[..., T], *arguments: Any) -> T:
    """The result of a step in a separate process, whose memory no other step has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(step, *arguments).result()


def past_the_border() -> dict[str, dict[str, float]]:
    """The scores of positions at the lower border of an image that ends within a tile.

    Returns:
        The mean score of the last rows divided by that inside, by the number of pixels that the
        image leaves free in the tile and by the kind of filling; 0 for images that fill it.
    """
    frame = occ_lab.data.Tiles(256, 0)
    detector = occ_lab.Detector(preprocessing=frame).eval()
    random, drawn = np.random.default_rng(0), replace(LARGE["grass, enlarged"], size=(1024, 2048))
    grass = [photograph(background(drawn, random, Path()), random) for _ in range(3)]
    *trained, tested = (np.repeat(each[..., None], 3, axis=2) for each in grass)
    tiles = [frame.cut(tested, origin) for origin in frame.origins(*drawn.size)]

    def scores(left: int, how: str) -> torch.Tensor:
        free = [(0, left), (0, 0), (0, 0)]
        filled = np.stack([np.pad(tile[: 256 - left], free, mode=how) for tile in tiles])
        image = torch.from_numpy(filled).permute(0, 3, 1, 2).float() / 255
        return detector.score_levels(detector.levels({"image": image}))[:, : (256 - left) // 4]

    with torch.inference_mode():
        for image in trained:
            for batch in tile_batches(image, frame):
                detector.objective.observe(detector.levels(batch))
        detector.objective.finish(detector.projector)
        inside = scores(0, "edge")[:, 16:48, 16:48].mean()
        return {
            str(left): {how: float(scores(left, how)[:, -LAST:].mean() / inside) for how in FILLED}
            for left in (0, 4, 8, 12)
        }


def other_shapes(surface: str) -> dict[str, float]:
    """The scores of normal photographs that are used whole and do not fill the frame.

    Returns:
        By their size, the median of their image scores divided by that of photographs of 640 × 480,
        the shape of the training images.
    """
    random = np.random.default_rng(0)

    def photographs(height: int, width: int, count: int) -> list[np.ndarray]:
        drawn = Photographs(surface, 1, (height, width))
        return [photograph(background(drawn, random, Path()), random) for _ in range(count)]

    with tempfile.TemporaryDirectory() as folder:
        for number, pixels in enumerate(photographs(*SHAPES[0], 2 * SEEN)):
            save(Path(folder) / f"{number}.png", pixels)
        data = occ_lab.data.Folder(folder, train_share=0.5)
        result = occ_lab.fit(data, cache=False, calibration=CalibrationPlan(folds=0))
        usual = float(np.median(result.scores))
        return {
            f"{width} × {height}": float(result.detector.score(images).score.median()) / usual
            for height, width in SHAPES[1:]
            for images in [photographs(height, width, SEEN)]
        }


def timed(step: Callable[[], T]) -> tuple[float, T]:
    """The seconds of one core for a step, and its result."""
    started = time.process_time()
    result = step()
    return time.process_time() - started, result


def report(results: Mapping[str, Any]) -> str:
    """The page."""
    titles = ["photographs", *(f"{way}, {of}" for way in WAYS for of in ("image", "pixel"))]
    compared = results.get(COMPARED, {})
    methods = [[way, *aurocs(compared[way])] for way in METHODS if way in compared]
    costs = [
        [f"{width} × {height}", str(found["tiles"])]
        + [f"{found[step] / found['megapixels']:.2f}" for step in STEPS]
        + ["–" if found["added_mb"] is None else f"{found['added_mb']:.0f}"]
        for height, width in SIZES
        if (found := results.get(f"cost | {height}"))
    ]
    borders = [
        [left, *(f"{ratios[how]:.2f}" for how in FILLED)]
        for left, ratios in results.get("past the border", {}).items()
    ]
    shapes = [
        [surface, *(f"{ratio:.2f}" for ratio in ratios.values())]
        for surface in TEXTURES
        if (ratios := results.get(f"shapes | {surface}"))
    ]
    sizes = [f"{width} × {height}" for height, width in SHAPES[1:]]
    page = PAGE.format(
        disc=DISC,
        low=CONTRAST[0],
        high=CONTRAST[1],
        enlarged=ENLARGED,
        noise=NOISE,
        cell=CELL,
        day=date.today(),
        large=lines(table(titles, sets_of(LARGE, results))),
        fine=lines(table(titles, sets_of(FINE, results))),
        methods=lines(table([f"{COMPARED}, tile=auto", "image", "pixel"], methods)),
        borders=lines(table(["pixels left", *FILLED.values()], borders)),
        last=LAST,
        shapes=lines(table(["seen whole", *sizes], shapes)),
        costs=lines(table(["photograph", "tiles", *STEPS, "memory added, MB"], costs)),
    )
    return page.lstrip()


def sets_of(sets: Mapping[str, Photographs], results: Mapping[str, Any]) -> list[list[str]]:
    """One row for each recorded set."""
    return [
        [name, *(figure for way in WAYS for figure in aurocs(results[name][way]))]
        for name in sets
        if name in results
    ]


def aurocs(figures: Mapping[str, Any]) -> list[str]:
    """Image and pixel AUROC in per cent."""
    return [f"{100 * figures[key]:.1f}" for key in ("image_auroc", "pixel_auroc")]


def lines(rows: Sequence[str]) -> str:
    """One text."""
    return "\n".join(rows)


if __name__ == "__main__":
    main()
