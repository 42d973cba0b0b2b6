"""The training images that a detector is not fitted to, for every task that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, zip_longest

import numpy as np
import torch
from torch import Tensor

from occ_lab.data.base import Benchmark
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.job import Job
from occ_lab.metrics.calibration import Calibration
from occ_lab.metrics.segmentation import segmentation_threshold
from occ_lab.utils.errors import InputError


@dataclass
class HeldOut:
    """The images that are held out, and their scores.

    Attributes:
        indices: for each task, the indices of each of its images among all training images; an
            image that is also used in rotated copies has several, its own first.
        plans: the choice of images for each task.
        scores: score, peak and moments of each image that was scored, by its index.
        left_out: indices of the images that no detector is fitted to.
        kept: the number of images that the benchmark keeps apart for the threshold of the task; if
            there are any, no training images are held out.
    """

    indices: dict[str, list[list[int]]]
    plans: dict[str, CalibrationPlan]
    scores: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    left_out: Sequence[int] = ()
    kept: int = 0

    @classmethod
    def of(
        cls, job: Job, benchmark: Benchmark, task: str, plan: CalibrationPlan | None = None
    ) -> HeldOut:
        """The choice for the tasks that the detector of ``task`` serves.

        Args:
            job: its calibration is the choice if there is no other plan.
            benchmark: one of its views.
            task: one of its tasks.
            plan: the choice of images; None is that of the job.
        """
        split = benchmark.split(task)
        numbers = count()
        indices = {}
        for name, items in (split.parts or {task: split.train}).items():
            images: dict[object, list[int]] = {}
            for item in items:
                images.setdefault(item.key, []).append(next(numbers))
            indices[name] = list(images.values())
        single = len(job.views) == 1  # an ensemble of views has no single detector to calibrate
        chosen = plan or job.calibration
        kept = len(split.validation) if single and chosen.left_open else 0
        own = benchmark.own and single
        plans = {name: chosen.settled(len(each), own, kept) for name, each in indices.items()}
        return cls(indices, plans, kept=kept)

    @property
    def folds(self) -> bool:
        """Whether each part is held out from a detector of its own."""
        return any(plan.folds for plan in self.plans.values())

    @property
    def parts(self) -> list[list[int]]:
        """Indices of the images to hold out: one part, one for each fold, or none.

        Every part has images of every task.

        Raises:
            InputError: a task has too few images.
        """
        by_task = [
            [
                list(chain(*(own[number] for number in part)))
                for part in self.plans[task].held_out(len(own))
            ]
            for task, own in self.indices.items()
        ]
        return [list(chain(*parts)) for parts in zip_longest(*by_task, fillvalue=[])]

    def without(self, part: Sequence[int]) -> list[int]:
        """The indices of a part and of the images that are left out."""
        return sorted({*part, *self.left_out})

    def keep(
        self,
        part: Sequence[int],
        scored: Sequence[int],
        scores: Tensor,
        peaks: Tensor,
        moments: Tensor,
    ) -> None:
        """Keep the scores of a part.

        Args:
            part: indices of images.
            scored: indices of the images that were scored; the part is among them.
            scores: of these images in the order of their indices, ``[n]``.
            peaks: of their maps, likewise.
            moments: of the pixels of their maps, ``[n, 3]``, see `pixel_moments`.
        """
        wanted = set(part)
        for index, *found in zip(sorted(scored), scores, peaks, moments, strict=True):
            if index in wanted:
                self.scores[index] = found[0], found[1], found[2]

    def highest(self, fraction: float) -> list[int]:
        """Indices of the images of each task with the highest scores, their copies included.

        A score that is not finite is the highest.

        Args:
            fraction: of the images of a task, in 0..1, rounded to whole images.
        """
        found: list[int] = []
        for images in self.indices.values():
            scores = np.array([float(self.scores[copies[0]][0]) for copies in images])
            order = np.argsort(-np.where(np.isfinite(scores), scores, np.inf), kind="stable")
            for number in order[: round(fraction * len(images))].tolist():
                found += images[number]
        return sorted(found)

    def calibrated(self) -> dict[str, tuple[Calibration, float]]:
        """Calibration and false-positive rate of each task with scored images.

        Raises:
            InputError: the detector cannot judge some images.
        """
        found = {}
        for task, indices in self.indices.items():
            own = [self.scores[index] for index, *_ in indices if index in self.scores]
            rate = self.plans[task].overkill
            if own and rate is not None:
                found[task] = calibration_of(task, *map(torch.stack, zip(*own, strict=True))), rate
        return found


def calibration_of(task: str, scores: Tensor, peaks: Tensor, moments: Tensor) -> Calibration:
    """The calibration of a task.

    Args:
        task: its name, for the message.
        scores: of normal images that the detector was not fitted to, ``[n]``.
        peaks: of their maps, likewise.
        moments: of the pixels of their maps, ``[n, 3]``, see `pixel_moments`.

    Raises:
        InputError: the detector cannot judge some images.
    """
    try:
        return replace(Calibration.of(scores, peaks), segmentation=segmentation_threshold(moments))
    except ValueError as error:
        raise InputError(f"{task}: {error}", part="calibration") from error
