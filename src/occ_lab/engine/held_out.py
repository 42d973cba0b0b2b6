"""The training images that thresholds come from, for every task that a detector serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count, zip_longest

import torch
from torch import Tensor

from occ_lab.data.base import Benchmark
from occ_lab.engine.calibrate import CalibrationPlan
from occ_lab.engine.job import Job
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.errors import InputError


@dataclass
class HeldOut:
    """The images that are held out, and their scores.

    Attributes:
        indices: for each task, the indices of each of its images among all training images; an
            image that is also used in rotated copies has several, its own first.
        plans: the choice of images for each task.
        scores: score and peak of each image that was scored, by its index.
    """

    indices: dict[str, list[list[int]]]
    plans: dict[str, CalibrationPlan]
    scores: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, benchmark: Benchmark, task: str) -> HeldOut:
        """The choice of a job for the tasks that the detector of ``task`` serves."""
        split = benchmark.split(task)
        numbers = count()
        indices = {}
        for name, items in (split.parts or {task: split.train}).items():
            images: dict[object, list[int]] = {}
            for item in items:
                images.setdefault(item.key, []).append(next(numbers))
            indices[name] = list(images.values())
        # An ensemble of views has no single detector to calibrate.
        own = benchmark.own and len(job.views) == 1
        plans = {name: job.calibration.settled(len(each), own) for name, each in indices.items()}
        return cls(indices, plans)

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

    def keep(self, part: Sequence[int], scores: Tensor, peaks: Tensor) -> None:
        """Keep the scores and peaks ``[n]`` of a part, whose images were scored by index."""
        for index, score, peak in zip(sorted(part), scores, peaks, strict=True):
            self.scores[index] = score, peak

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
                try:
                    found[task] = Calibration.of(*map(torch.stack, zip(*own, strict=True))), rate
                except ValueError as error:
                    raise InputError(f"{task}: {error}", part="calibration") from error
        return found
