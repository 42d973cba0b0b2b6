"""The number of optimizer steps of a training: given, or chosen automatically."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from occ_lab.detector import Detector
from occ_lab.engine.pasted import levels_in, pasted_among, separation, usual_box
from occ_lab.features.levels import pieces
from occ_lab.utils.processes import all_reduced

log = logging.getLogger(__name__)

FRACTION = 0.1  # of the training images, held out
FEWEST = 2  # held-out images, so that an outlier can be made from different images
TOLERANCE = 0.01  # of AUROC below the best
LEAST, MOST = 128, 256  # steps of a training that chooses its length
UNKNOWN = 128  # steps if no image can be held out
LEARNING_CURVE = ("loss", "held_out_loss", "cut_and_paste_auroc")


class StepCount(Callback):
    """Ends a training after a number of optimizer steps.

    Args:
        most: the number of steps, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def held_out(self, images: int, processes: int) -> float:
        """The fraction of the training images to hold out: none."""
        return 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number of epochs for progress bars to an upper bound."""
        batches = trainer.accumulate_grad_batches * self.most
        trainer.fit_loop.max_epochs = math.ceil(batches / trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """End the training after its last step."""
        if trainer.global_step >= self.most:
            trainer.should_stop = True


class ChosenSteps(StepCount):
    """Chooses the number of steps with cut-and-pasted features of held-out normal images.

    After 1, 2, 4, 8, … steps, the state of the projector and objective is stored, and the scores of
    held-out images are compared with those of outliers made from them, see `cut_and_paste`. The
    training ends when a doubling of the steps raises the best AUROC so far by no more than
    ``TOLERANCE``, after at least ``LEAST`` and at most ``MOST`` steps. The detector then gets the
    state after the smallest number of steps whose AUROC is within ``TOLERANCE`` of the best. No
    test image and no label is used.

    Attributes:
        curve: for each measured number of steps ``step``, the mean training ``loss`` since the
            previous one, ``held_out_loss`` and ``cut_and_paste_auroc`` in 0..1, all of them means
            over the processes.
        chosen: the chosen number of steps, when the training has ended.
    """

    def __init__(self) -> None:
        super().__init__(MOST)
        self.curve: list[dict[str, float]] = []
        self.chosen: int | None = None
        self._kept: dict[str, dict[str, dict[str, Tensor]]] = {}
        self._losses: list[Tensor] = []
        self._normal: list[Tensor] = []
        self._pasted: list[Tensor] = []
        self._inside = (slice(None), slice(None))  # the positions that belong to the images

    def held_out(self, images: int, processes: int) -> float:
        """The fraction of the training images to hold out, unless images are held out already.

        Args:
            images: the number of training images.
            processes: the number of processes, each of which needs some of them.
        """
        if images < 2:
            return 0.0
        return max(FRACTION, min(max(FEWEST, processes), images // 2) / images)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the held-out images and make outliers from them."""
        assert isinstance(pl_module, Detector)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        box = usual_box(getattr(getattr(data, "validation_images", None), "boxes", None), pl_module)
        self._normal = levels_in(data.val_dataloader(), box, pl_module, data.batch_size)
        if self._normal:
            self._pasted, self._inside = pasted_among(self._normal, box, pl_module.frame.size)
            trainer.should_stop = ended(self.curve)  # if the training is resumed
        else:
            self.most = UNKNOWN
            log.info("steps=auto: %d, because no image can be held out", UNKNOWN)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Store and evaluate the state after 1, 2, 4, 8, … steps."""
        assert isinstance(pl_module, Detector)
        step = trainer.global_step
        self._losses.append(outputs["loss"].detach())
        last = self.curve[-1]["step"] if self.curve else 0
        if self._normal and step > last and step & (step - 1) == 0:
            with trainer.precision_plugin.forward_context():
                measured = self._measured(pl_module)
            self.curve.append({"step": step, **measured})
            for logger in trainer.loggers:
                logger.log_metrics({f"steps/{name}": measured[name] for name in measured}, step)
            self._keep(step, pl_module)
            trainer.should_stop = trainer.should_stop or ended(self.curve)
        super().on_train_batch_end(trainer, pl_module, outputs, *batch)

    @torch.no_grad()
    def _measured(self, detector: Detector) -> dict[str, float]:
        """The point of the learning curve for the current state."""
        detector.eval()
        scores, held_out_loss = [], 0.0
        for piece in pieces(self._normal):
            z = detector.projector(piece)[(..., *self._inside)]
            scores.append(detector.objective(z))
            held_out_loss += float(detector.objective.loss(z)) * len(z) / len(self._normal[0])
        normal = torch.cat(scores).flatten()
        pasted = detector.score_levels(self._pasted)[(..., *self._inside)].flatten()
        detector.train()
        found = separation(normal, pasted)
        loss = float(torch.stack(self._losses).mean())
        self._losses = []
        sums = torch.tensor([loss, held_out_loss, found, 1.0], dtype=torch.float64)
        *total, processes = all_reduced(sums).tolist()
        return {name: value / processes for name, value in zip(LEARNING_CURVE, total, strict=True)}

    def _keep(self, step: int, detector: Detector) -> None:
        """Store the current state, and drop earlier ones that can no longer be chosen."""
        least = best_auroc(self.curve) - TOLERANCE
        possible = {str(row["step"]) for row in self.curve if row["cut_and_paste_auroc"] >= least}
        self._kept = {name: state for name, state in self._kept.items() if name in possible}
        if str(step) in possible:
            self._kept[str(step)] = {
                name: {key: value.detach().clone() for key, value in part.state_dict().items()}
                for name, part in parts(detector).items()
            }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state after the chosen number of steps."""
        assert isinstance(pl_module, Detector)
        if not self.curve:
            return
        self.chosen = choice(self.curve)
        for name, part in parts(pl_module).items():
            part.load_state_dict(self._kept[str(self.chosen)][name])
        self._kept, self._normal, self._pasted = {}, [], []
        tried = ", ".join(
            f"{row['step']:g}: {row['cut_and_paste_auroc']:.3f}" for row in self.curve
        )
        log.info(
            "steps=auto: %d of %d (AUROC of cut-and-pasted features by step: %s)",
            *(self.chosen, trainer.global_step, tried),
        )

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed training continues from."""
        return {"curve": self.curve, "kept": self._kept, "losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.curve = state_dict["curve"]
        self._kept = state_dict["kept"]
        self._losses = state_dict["losses"]


def parts(detector: Detector) -> dict[str, torch.nn.Module]:
    """The modules that are trained on frozen features."""
    return {"projector": detector.projector, "objective": detector.objective}


def best_auroc(curve: Sequence[dict[str, float]]) -> float:
    """The highest AUROC of a learning curve; 0 if it is empty."""
    return max((row["cut_and_paste_auroc"] for row in curve), default=0.0)


def choice(curve: Sequence[dict[str, float]]) -> int:
    """The smallest number of steps whose AUROC is within ``TOLERANCE`` of the best.

    Args:
        curve: with ``step`` and ``cut_and_paste_auroc``, in the order of the steps; not empty.

    Example:
        >>> points = zip((1, 2, 4), (0.6, 0.805, 0.81))
        >>> choice([{"step": step, "cut_and_paste_auroc": value} for step, value in points])
        2
    """
    least = best_auroc(curve) - TOLERANCE
    return int(next(row["step"] for row in curve if row["cut_and_paste_auroc"] >= least))


def ended(curve: Sequence[dict[str, float]]) -> bool:
    """Whether the last doubling of the steps has improved too little, see `ChosenSteps`."""
    long = bool(curve) and curve[-1]["step"] >= LEAST
    return long and best_auroc(curve) <= best_auroc(curve[:-1]) + TOLERANCE
