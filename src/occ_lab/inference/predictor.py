"""A detector out of a run directory, to score any images with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from occ_lab.config.composition import build
from occ_lab.data.images import preprocess, read_image, rgb
from occ_lab.detector import Detector
from occ_lab.engine.calibrate import read_calibration
from occ_lab.engine.fit import Parts, make_detector
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.errors import InputError

AnyImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

CHECKPOINT = Path("checkpoints", "last.ckpt")
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Scores:
    """What a detector says of N images.

    Attributes:
        image: scores, larger is more anomalous, float32 ``[N]``.
        maps: anomaly maps of the images as the network sees them, resized and cropped, float32
            ``[N, h, w]``; None where the detector scores whole images.
        p_values: see `Calibration`, float64 ``[N]``; None where the run was not calibrated.
        anomalous: the decision at the rate of false alarms that the run was calibrated for, bool
            ``[N]``; None likewise.
    """

    image: Tensor
    maps: Tensor | None
    p_values: Tensor | None
    anomalous: Tensor | None


class TrainedDetector:
    """A detector with all that it needs to score images as they come; see `load`.

    Attributes:
        task: what it was trained on.
        cfg: the configuration it was trained with.
        detector: the module, in eval mode.
        calibration: the scores of normal images it was not trained on; None where there are none.
        overkill: the rate of false alarms that decisions are made at.
    """

    def __init__(
        self, task: str, cfg: DictConfig, detector: Detector, calibration: Calibration | None
    ) -> None:
        self.task = task
        self.cfg = cfg
        self.detector = detector.eval()
        self.calibration = calibration
        self.overkill = float(cfg.calibration.overkill) if calibration else None
        self._preprocess = preprocess(cfg.dataset.resize, cfg.dataset.crop)

    def score(
        self, images: AnyImage | Sequence[AnyImage], batch_size: int = 32, maps: bool = True
    ) -> Scores:
        """Score images of any size.

        Args:
            images: one or many: paths of files, PIL images, arrays uint8 ``[h, w]`` or
                ``[h, w, 3]``, tensors ``[3, h, w]`` (uint8, or floats in 0..1), or a batch
                ``[N, 3, h, w]`` of these.
            batch_size: images that go through the network at once.
            maps: whether anomaly maps are kept: at 224 px each takes 200 kB.

        Returns:
            Scores in the order of the images.

        Raises:
            OSError: a file cannot be read.
            ValueError: an array or tensor is no image.

        Example:
            >>> import occ_lab
            >>> detector = occ_lab.load("outputs/textures/norm/2026-11-22_06-38-51", task="grass")
            >>> detector.score(["part1.png", "part2.png"]).image    # doctest: +SKIP
            tensor([0.0613, 0.2207])
        """
        every = listed(images)
        parts = []
        for first in range(0, len(every), batch_size):
            pixels = [self.pixels(image) for image in every[first : first + batch_size]]
            scores, heat = self.score_pixels(np.stack(pixels))
            parts.append((scores, heat if maps else None))
        image = torch.cat([scores for scores, _ in parts])
        kept = [heat for _, heat in parts if heat is not None]
        return Scores(image, torch.cat(kept) if kept else None, *self.judge(image))

    def pixels(self, image: AnyImage) -> np.ndarray:
        """An image as the network sees it, uint8 ``[crop, crop, 3]``; errors as of `score`."""
        return self._preprocess(image=as_rgb(image))["image"]

    @torch.inference_mode()
    def score_pixels(self, pixels: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N]`` and maps ``[N, crop, crop]`` of what `pixels` gives, stacked."""
        image = torch.from_numpy(pixels).to(self.detector.device).permute(0, 3, 1, 2).float() / 255
        maps, scores = self.detector.maps_and_scores(self.detector(image))
        return scores.float().cpu(), None if maps is None else maps.float().cpu()

    @property
    def pixel_threshold(self) -> float | None:
        """What a pixel of a map must exceed to be marked; None without calibration."""
        if self.calibration is None or self.overkill is None:
            return None
        return self.calibration.pixel_threshold(self.overkill)

    def judge(self, scores: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The p-values of scores ``[N]``, and whether they are called anomalous."""
        if self.calibration is None or self.overkill is None:
            return None, None
        p_values = self.calibration.p_values(scores)
        return p_values, scores.double() > self.calibration.threshold(self.overkill)


def load(
    run: str | Path, task: str | None = None, device: str | torch.device = "cpu"
) -> TrainedDetector:
    """The detector that a run has trained, ready to score images.

    Args:
        run: the run directory of ``python -m occ_lab.train``.
        task: which of its tasks; may be left out where there is one.
        device: where it computes.

    Raises:
        InputError: no such run or task, or the weights of its backbone are not there or not those
            it was trained with.
    """
    directory = Path(run).expanduser()
    settings = directory / "config.yaml"
    tasks = sorted(path.parents[1].name for path in directory.glob(f"tasks/*/{CHECKPOINT}"))
    if not settings.is_file() or not tasks:
        raise InputError(
            f"run: {directory.absolute()} holds no trained detector; name the run directory that "
            "`python -m occ_lab.train` prints at its end"
        )
    if task is None and len(tasks) == 1:
        (task,) = tasks
    if task not in tasks:
        asked = "" if task is None else f"no {task}; "
        raise InputError(f"task: {asked}this run has {', '.join(tasks)}; name one")
    folder = directory / "tasks" / task
    cfg = OmegaConf.load(settings)
    assert isinstance(cfg, DictConfig)
    if cfg.ensemble is not None:
        raise InputError(f"run: {directory} is an ensemble of views, which cannot be loaded as one")
    detector = restored(cfg, task, folder / CHECKPOINT, directory)
    return TrainedDetector(task, cfg, detector.to(device), read_calibration(folder / CALIBRATION))


def restored(cfg: DictConfig, task: str, path: Path, directory: Path) -> Detector:
    """The detector of a task with what its checkpoint holds.

    Raises:
        InputError: the backbone's weights cannot be had, or are others.
    """
    benchmark = build(cfg.dataset, "dataset")
    try:
        backbone = build(cfg.backbone, "backbone").for_task(task)
    except InputError as error:
        raise InputError(
            f"run: {directory} needs the backbone {cfg.backbone.name}, as it was trained with\n"
            f"{error}"
        ) from error
    parts = Parts(
        [benchmark], backbone, build(cfg.cache, "cache"), build(cfg.scoring, "scoring"), True
    )
    detector = make_detector(cfg, parts, benchmark)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in any way
        raise InputError(f"run: {path} cannot be read safely ({type(error).__name__})") from error
    detector.on_load_checkpoint(checkpoint)
    detector.load_state_dict(checkpoint["state_dict"])
    return detector


def listed(images: AnyImage | Sequence[AnyImage]) -> Sequence[AnyImage]:
    """One image as a list of it, a batch as a list of images."""
    if isinstance(images, Tensor | np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | Path | Image.Image) else images


def as_rgb(image: AnyImage) -> np.ndarray:
    """Any image as uint8 ``[h, w, 3]``.

    Raises:
        OSError: a file cannot be read.
        ValueError: an array or tensor is no image.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return rgb(image)
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().movedim(0, -1).numpy() if image.ndim == 3 else np.empty(0)
    else:
        pixels = image
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3):
        raise ValueError(f"no image: {describe(image)}; give [h, w, 3], or a tensor [3, h, w]")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"no image: {describe(image)} has values outside 0..1")
        pixels = (pixels * 255).round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"no image: {describe(image)}; values must be uint8, or floats in 0..1")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"no image: {describe(image)} has no 1, 3 or 4 colours last")
    return np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)))


def describe(image: Any) -> str:
    """Type and shape of what should have been an image."""
    shape = list(getattr(image, "shape", ()))
    return f"{type(image).__name__} {getattr(image, 'dtype', '')} {shape}"
