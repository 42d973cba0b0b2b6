"""A detector that was fitted to a task: its parts, and what it says of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from occ_lab.data.datamodule import AnomalyDataModule
from occ_lab.detector import Detector
from occ_lab.engine.recorder import Recorder
from occ_lab.engine.shared import log_test, outcome_key
from occ_lab.metrics.calibration import Calibration
from occ_lab.utils.memo import Memo
from occ_lab.utils.quiet import quiet_lightning
from occ_lab.utils.timing import timed


@dataclass
class Fitted:
    """A detector that was fitted to a task and tested.

    Attributes:
        data: the task.
        detector: the module.
        trainer: the trainer that fitted and tested it.
        recorder: keeps the scores and metrics of the test.
        seconds: the duration of each stage.
        steps: the number of optimizer steps; None if there were none.
        curve: the learning curve if the number of steps was chosen, see `ChosenSteps`; otherwise
            empty.
        best_epochs: the best epoch of each metric on the test set; None unless requested.
        outcome_key: of what determines the outcome of the test, if other jobs may share it.
        aside: indices of the training images that it was not fitted to.
        calibrated: by task, its calibration and the false-positive rate; the tasks are several if
            one detector serves them all.
    """

    data: AnomalyDataModule
    detector: Detector
    trainer: Trainer
    recorder: Recorder
    seconds: dict[str, float]
    steps: int | None = None
    curve: Sequence[dict[str, float]] = ()
    best_epochs: dict[str, dict[str, float]] | None = None
    outcome_key: str | None = None
    aside: Sequence[int] = ()
    calibrated: dict[str, tuple[Calibration, float]] = field(default_factory=dict)

    @property
    def calibration(self) -> Calibration | None:
        """The scores of normal images that it was not fitted to; None if there are none."""
        return self.calibrated[self.data.task][0] if self.data.task in self.calibrated else None

    @property
    def overkill(self) -> float | None:
        """The false-positive rate for decisions; None without calibration."""
        return self.calibrated[self.data.task][1] if self.data.task in self.calibrated else None

    def test(self, shared: Memo | None = None) -> None:
        """Test the detector; the recorder keeps the outcome.

        Args:
            shared: holds the outcomes of equal tests; None shares nothing.
        """
        calibration = self.calibration
        self.detector.evaluation.segment(calibration.segmentation if calibration else None)
        with timed(self.seconds, "test"), quiet_lightning():
            if shared is not None:
                self.outcome_key = outcome_key(self.trainer, self.detector)
                kept = shared.get(self.outcome_key) if self.outcome_key else None
                if kept is not None:
                    self.recorder.outcome = kept
                    log_test(self.trainer, kept.metrics)
                    return
            self.trainer.test(self.detector, datamodule=self.data, verbose=False)
            if shared is not None and self.outcome_key:
                shared.keep(self.outcome_key, self.recorder.outcome)

    def training_scores(self) -> Tensor:
        """The patch scores ``[N, H, W]`` of the training images."""
        self._predict(self.data.setup_dataloader())
        return self.recorder.predicted("patch_scores")

    def calibration_scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``[n]`` of the images to calibrate on; peaks ``[n]`` and moments of their maps.

        The moments ``[n, 3]`` are those of `pixel_moments`.
        """
        self._predict(self.data.calibration_dataloader())
        found = self.recorder.predicted
        return found("score"), found("peak"), found("moments")

    def _predict(self, batches: DataLoader[Any]) -> None:
        """Score all batches; the recorder keeps the scores."""
        with quiet_lightning():
            self.trainer.predict(self.detector, batches, return_predictions=False)
