"""A detector out of a run directory, to score any images with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from occ_lab.data.any_image import AnyImage, as_rgb
from occ_lab.data.transforms import Seen
from occ_lab.detector import Detector
from occ_lab.inference.stored import Stored, stored_run
from occ_lab.metrics.calibration import Calibration
from occ_lab.postprocessing.prediction import Scores


@dataclass(frozen=True)
class Judgement:
    """What a detector says of N images.

    Attributes:
        image: scores, larger is more anomalous, float32 ``[N]``.
        maps: anomaly maps of the images at their full size: float32 ``[N, h, w]`` if all images
            have one size, else a list of ``[h, w]``. Pixels that the network does not see, since
            images are cropped, are zero. None where the detector scores whole images.
        p_values: see `Calibration`, float64 ``[N]``; None where the run was not calibrated.
        anomalous: the decision at the false-positive rate that the run was calibrated for, bool
            ``[N]``; None likewise. True where the score is not finite, which is an error.
    """

    image: Tensor
    maps: Tensor | list[Tensor] | None
    p_values: Tensor | None
    anomalous: Tensor | None


class Predictor:
    """A detector with all that it needs to score and judge images; see `load`.

    Args:
        detector: the module; it is put into eval mode.
        task: what it was trained on.
        calibration: the scores of normal images it was not trained on; None where there are none.
        overkill: the false-positive rate that decisions are made at; None without calibration.

    Example:
        >>> from occ_lab.backbones import TimmBackbone
        >>> from occ_lab.data.transforms import Preprocessing
        >>> from occ_lab.objectives.norm.objective import Norm
        >>> backbone = TimmBackbone("resnet10t", weights="random")
        >>> objective = Norm(solver="gradient")
        >>> detector = Detector(backbone, objective, preprocessing=Preprocessing(64, 64))
        >>> Predictor(detector, "bottle").score(np.zeros((80, 100, 3), np.uint8)).maps.shape
        torch.Size([1, 80, 100])
    """

    def __init__(
        self,
        detector: Detector,
        task: str,
        calibration: Calibration | None = None,
        overkill: float | None = None,
    ) -> None:
        self.detector = detector.eval()
        self.task = task
        self.calibration = calibration
        self.overkill = overkill if calibration else None

    def score(
        self, images: AnyImage | Iterable[AnyImage], batch_size: int = 32, maps: bool = True
    ) -> Judgement:
        """Score and judge images of any size.

        Args:
            images: one or many, in any form that `Detector.score` accepts.
            batch_size: images that go through the network at once.
            maps: whether anomaly maps are kept: each takes four bytes a pixel of the image.

        Returns:
            Scores in the order of the images, on the CPU.

        Raises:
            OSError: a file cannot be read.
            ValueError: an array or tensor is no image, or there is none.
        """
        found = self.detector.score(images, batch_size, maps)
        return Judgement(found.score, found.map, *self.judge(found.score))

    def seen(self, image: AnyImage) -> Seen:
        """An image as the network sees it; errors as of `score`."""
        pixels = as_rgb(image, self.detector.frame.range)
        return Seen(self.detector.frame(pixels), (pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def score_pixels(self, pixels: np.ndarray, sizes: Sequence[tuple[int, int]]) -> Scores:
        """Scores ``[N]`` and maps ``[N, h, w]`` of what `seen` returns, stacked."""
        return self.detector.score_pixels(pixels, sizes)

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
        return p_values, self.calibration.anomalous(scores, self.overkill)


def load(
    run: str | Path,
    task: str | None = None,
    device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> Predictor:
    """The detector that a run has trained, ready to score images.

    Of a run directory only classes of OCC Lab are made, whoever wrote it; no other code runs.

    Args:
        run: the run directory of ``occ-lab train``, or of `occ_lab.fit`.
        task: which of its tasks; may be left out where there is one.
        device: where it computes.
        trust: packages of your own whose classes the run may name, such as ``["mine"]``.

    Raises:
        InputError: there is no such run or task, it names a class that is not trusted, or the
            weights of its backbone are not there or not those it was trained with.

    Example:
        >>> import occ_lab
        >>> detector = occ_lab.load("outputs/grass", task="grass")  # doctest: +SKIP
        >>> detector.score(["part1.png", "part2.png"]).image  # doctest: +SKIP
        tensor([0.0613, 0.2207])
    """
    stored: Stored = stored_run(Path(run).expanduser(), task)
    detector = stored.detector(trust).to(device)
    return Predictor(detector, stored.task, *stored.calibration())
