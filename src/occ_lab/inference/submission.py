"""The files that the evaluation server of MVTec AD 2 asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from occ_lab.inference.pictures import save_mask
from occ_lab.utils.errors import InputError
from occ_lab.utils.files import whole_file

SETS = ("test_private", "test_private_mixed")
MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Submission:
    """Writes maps and masks in the layout and the format of the evaluation server.

    The map of ``<category>/<set>/000_regular.png`` becomes
    ``anomaly_images/<category>/<set>/000_regular.tiff``, float16 ``[h, w]``, and the pixels above
    the threshold ``anomaly_images_thresholded/<category>/<set>/000_regular.png``, 0 or 255. This is
    the structure that MVTec's ``check_and_prepare_data_for_upload.py`` checks.

    Args:
        folder: where the two folders go.
        threshold: the pixel threshold, from normal images. Maps are divided by it if it is above
            zero, so that the largest and the smallest scores keep their digits in float16.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> heat = np.linspace(0, 4, 6, dtype=np.float32).reshape(2, 3)
        >>> with TemporaryDirectory() as folder:
        ...     Submission(Path(folder), 2.0).save(Path("can/test_private/000_regular.png"), heat)
        ...     sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*"))[1]
        'anomaly_images_thresholded/can/test_private/000_regular.png'
    """

    folder: Path
    threshold: float

    def save(self, path: Path, heat: np.ndarray) -> None:
        """Write the map and the mask of an image.

        Args:
            path: the image.
            heat: its map, float32 ``[h, w]``; NaN, which becomes 0, where it is undefined.

        Raises:
            OSError: a file cannot be written.
        """
        import tifffile

        unit = self.threshold if self.threshold > 0 else 1.0
        values = np.clip(np.nan_to_num(heat / unit, posinf=LARGEST), -LARGEST, LARGEST)
        name = Path(*path.absolute().parts[-3:]).with_suffix("")
        with whole_file(self.folder / MAPS / f"{name}.tiff") as file:
            tifffile.imwrite(file, values.astype(np.float16))
        save_mask(self.folder / MASKS / f"{name}.png", heat > self.threshold)


def submission_to(
    folder: Path, paths: Sequence[Path], task: str, threshold: float | None
) -> Submission:
    """The writer for some images of a category, after a check that they belong to it.

    Args:
        folder: where the files go.
        paths: the images.
        task: the category that the detector has learned.
        threshold: the pixel threshold of the detector; None without calibration.

    Raises:
        InputError: an image is not one of the category's private test images, or there is no
            threshold.
    """
    for path in paths:
        category, part, _ = ("", "", *path.absolute().parts)[-3:]
        if part not in SETS or category != task:
            raise InputError(
                f"submission: {path} is not an image of {task}/{SETS[0]} or {task}/{SETS[1]}; name "
                f"those with input='data/mvtec_ad2/{task}/test_private*/*.png'"
            )
    if threshold is None or not math.isfinite(threshold):
        raise InputError(
            "submission: there is no threshold of pixels, because the run was not calibrated or on "
            "too few images; train it with dataset=mvtec_ad2, whose validation images give one, or "
            f"calibrate it: occ-lab calibrate run=RUN task={task} input=FOLDER"
        )
    return Submission(folder, threshold)
