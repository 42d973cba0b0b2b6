"""The embedded benchmark: real photographs with drawn defects; it needs no download."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from occ_lab.data.datasets.defects import DEFECTS, draw
from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts, Split
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_folder

log = logging.getLogger(__name__)

Part = Literal["train", "test"]

CATEGORIES = ("brick", "grass", "gravel")
VERSION = 1  # raise it with every change of a pixel, so that data written before is not read
SIDE = 160  # pixels of a crop
COLUMNS: dict[Part, tuple[int, int]] = {"train": (0, 272), "test": (272, 512)}


class Textures(MVTec):
    """Photographs of brick, grass and gravel (scikit-image ships them) with drawn defects.

    Each category is written once, in the layout of MVTec AD, to
    ``root/textures-<digest of the settings>/<category>``, and read from there. An image depends
    only on the seed, the category and its own number, so larger counts add images and change none.
    Training images are overlapping crops of one half of a photograph, and test images are crops of
    the other half, so a threshold from training images does not hold for test images.

    Args:
        name: the name of the benchmark in results.
        root: the folder to write to.
        seed: the seed of the crops and the defects.
        train: the number of normal training images per category.
        normal: the number of normal test images per category.
        defective: the number of anomalous test images per category, spread evenly over the kinds
            of defect.
        common: the other arguments of `Benchmark`; images have 160 pixels a side before ``resize``.

    Raises:
        ValueError: a value is out of range.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     split = Textures(root=folder, train=2, normal=1, defective=1).split("brick")
        >>> [item.path.name for item in split.train], [item.label for item in split.test]
        (['000.png', '001.png'], [1, 0])
    """

    layout = "nothing; the images are written there on first use"
    source = "the scikit-image wheel"
    licence = "CC0"
    size = "embedded"
    task_count = "3"
    published: ClassVar[Mapping[str, Counts]] = {}
    home = "data"
    resize = 224

    def __init__(
        self,
        name: str | None = None,
        root: str | Path | None = None,
        seed: int = 0,
        train: int = 60,
        normal: int = 20,
        defective: int = 40,
        **common: Any,
    ) -> None:
        super().__init__(name, root, **common)
        counts = {"train": train, "normal": normal, "defective": defective}
        for key, count in counts.items():
            if count < 1:
                raise ValueError(f"{key} must be at least 1, got {count}")
        settings = f"{VERSION}/{seed}/{train}/{normal}/{defective}"
        self.root /= f"textures-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
        self.seed = seed
        self.train = train
        self.normal = normal
        self.defective = defective

    def available(self) -> list[str]:
        """All three categories; missing ones are written on first use."""
        return list(CATEGORIES)

    def published_split(self, task: str) -> Split:
        """The images of ``task``, which are written first if they are not present.

        Raises:
            InputError: the images cannot be written.
        """
        if not (self.root / task).is_dir():
            try:
                self._write(task)
            except OSError as error:
                raise InputError(
                    f"root: cannot write the {self.name} images to {self.root.absolute()}: "
                    f"{error}\nSet root to a writable folder.",
                    part="dataset",
                ) from error
        return super().published_split(task)

    def _write(self, task: str) -> None:
        """Write a category completely or not at all; of several processes, the first one wins."""
        with whole_folder(self.root / task) as folder:
            write_category(folder, task, self.seed, self.train, self.normal, self.defective)
        log.info("wrote the %s images to %s", task, self.root / task)


def write_category(
    folder: Path, category: str, seed: int, train: int, normal: int, defective: int
) -> None:
    """Write the images and masks of one category in the layout of MVTec AD."""
    photo = photograph(category)
    donors = [photograph(name)[:, slice(*COLUMNS["test"])] for name in CATEGORIES]
    for index in range(train):
        rng = generator(seed, category, "train", index)
        save(folder / "train" / "good" / f"{index:03}.png", crop(photo, "train", rng))
    for index in range(normal):
        rng = generator(seed, category, "normal", index)
        save(folder / "test" / "good" / f"{index:03}.png", crop(photo, "test", rng))
    for number in range(defective):
        index, kind = number // len(DEFECTS), list(DEFECTS)[number % len(DEFECTS)]
        rng = generator(seed, category, kind, index)
        image, mask = draw(kind, crop(photo, "test", rng), donors, rng)
        save(folder / "test" / kind / f"{index:03}.png", image)
        save(folder / "ground_truth" / kind / f"{index:03}_mask.png", mask.astype(np.uint8) * 255)


def photograph(category: str) -> NDArray[np.uint8]:
    """The photograph of a category, grey, uint8 ``[512, 512]``."""
    # Read by path: skimage.data would need the pooch package.
    return np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{category}.png"))


def window(part: Part, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of a random crop within the given part of the photograph."""
    left, right = COLUMNS[part]
    return int(rng.integers(0, 512 - SIDE + 1)), int(rng.integers(left, right - SIDE + 1))


def crop(photo: NDArray[np.uint8], part: Part, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random crop, uint8 ``[SIDE, SIDE]``, mirrored or not, with its own exposure.

    The exposure varies at random in the same way for all images, so that neither brightness nor
    contrast alone reveals a defect. The bricks on the two sides of the photograph lean in opposite
    directions; mirroring makes both parts show both directions.
    """
    top, left = window(part, rng)
    image = photo[top : top + SIDE, left : left + SIDE].astype(np.float64)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(-15, 15)
    exposed = photo.mean() + contrast * (image - photo.mean()) + brightness
    pixels: NDArray[np.uint8] = np.rint(exposed).clip(0, 255).astype(np.uint8)
    return pixels


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """The random numbers of one image: the same on every machine and in every process."""
    key = "/".join(str(part) for part in (seed, *names))
    return np.random.Generator(
        np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
    )


def save(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a grey PNG file and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
