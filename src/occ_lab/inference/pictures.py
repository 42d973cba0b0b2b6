"""Pictures of new images: their anomaly maps and their masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from occ_lab.data.any_image import as_rgb
from occ_lab.data.value_range import Range
from occ_lab.reporting.pictures import strip
from occ_lab.utils.names import file_name
from occ_lab.utils.png import save_png

SUFFIX = ".png"
LEAST = 3  # parts of a path in a name: two folders and the file


def picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for the picture of each image; all names differ, even if case is ignored.

    A name consists of the image's name and its two innermost folders. If that is ambiguous, the
    suffix and further folders are added, and finally a number in front.

    Args:
        paths: all images, each once.

    Example:
        >>> found = picture_names([Path("/in/1/cam/good/0.png"), Path("/in/2/cam/good/0.png")])
        >>> sorted(found.values())
        ['1_cam_good_0.png.png', '2_cam_good_0.png.png']
        >>> list(picture_names([Path("/parts/good/0.png")]).values())
        ['parts_good_0.png']
    """
    parts = {path: path.absolute().parts[1:] for path in paths}
    names: dict[Path, str] = {}
    taken: set[str] = set()

    def settle(proposed: dict[Path, str]) -> None:
        times = Counter(name.casefold() for name in proposed.values())
        for path, name in proposed.items():
            if times[name.casefold()] == 1 and name.casefold() not in taken:
                names[path] = name
        taken.update(times)  # a name that several images would get is given to none of them

    settle(
        {
            path: file_name("_".join(each[-LEAST:]).removesuffix(path.suffix), SUFFIX)
            for path, each in parts.items()
        }
    )
    for depth in range(LEAST, max(map(len, parts.values()), default=0) + 1):
        settle(
            {
                path: file_name("_".join(each[-depth:]), SUFFIX)
                for path, each in parts.items()
                if path not in names
            }
        )
    for path, each in parts.items():
        if path not in names:
            numbered = (file_name(f"{n}~{'_'.join(each)}", SUFFIX) for n in count(1))
            names[path] = next(name for name in numbered if name.casefold() not in taken)
            taken.add(names[path].casefold())
    return names


def save_heatmap(
    target: Path,
    path: Path,
    heat: np.ndarray,
    score: float,
    threshold: float | None,
    range: Range | None = None,
) -> None:
    """Save a picture of an image with its map; pixels above the threshold are outlined.

    Args:
        target: the file to write.
        path: the image.
        heat: its anomaly map, float32 ``[h, w]``; NaN where it is undefined.
        score: its score.
        threshold: the threshold of pixels; if given, all maps share one scale, on which 1 is twice
            the threshold.
        range: see `as_rgb`.
    """
    known = np.nan_to_num(heat)
    top = known.max() if threshold is None else 2 * threshold
    shown = np.clip(known / max(top, np.finfo(np.float32).tiny), 0, 1)
    marked = None if threshold is None else heat > threshold
    title = f"{path.name}   score {score:.4g}"
    save(strip(as_rgb(path, range), marked, shown, title, heat.shape), target)


def save_mask(target: Path, mask: np.ndarray) -> None:
    """Save a mask, bool ``[h, w]``, as a black-and-white picture."""
    save(Image.fromarray((mask * 255).astype(np.uint8)), target)


def save(picture: Image.Image, target: Path) -> None:
    """Save a picture and create its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture, target)
