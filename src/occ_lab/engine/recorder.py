"""Callbacks that keep the results of a test, a prediction or an epoch for the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from occ_lab.data.batches import as_batch
from occ_lab.detector import Detector
from occ_lab.engine.defects import pixels_by_kind
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.postprocessing.prediction import Prediction
from occ_lab.utils.processes import gathered_objects

KEPT = ("index", "label", "score", "patch_scores", "peak")


@dataclass
class Outcome:
    """What a test has found.

    Attributes:
        metrics: the test metrics, in 0..1, in double precision.
        pixels: the pixel metrics of each kind of defect, likewise.
        batches: the scores of each batch.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    pixels: dict[str, dict[str, float]] = field(default_factory=dict)
    batches: list[dict[str, Tensor]] = field(default_factory=list)


class Recorder(Callback):
    """Keeps the outcome of the last test, and the scores of the last prediction.

    Attributes:
        outcome: of the test.
    """

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._predicted: list[dict[str, Tensor]] = []

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics, see `Outcome`."""
        return self.outcome.metrics

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the previous test."""
        self.outcome = Outcome()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the previous prediction."""
        self._predicted = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Keep the scores of a batch."""
        self.outcome.batches.append(kept(outputs))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Keep the scores of a batch."""
        self._predicted.append(kept(outputs))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics before the detector logs them in single precision and resets them."""
        assert isinstance(pl_module, Detector)
        self.outcome.metrics = pl_module.evaluation.compute()
        images = trainer.datamodule.test_images  # type: ignore[attr-defined]
        self.outcome.pixels = pixels_by_kind(pl_module.evaluation, images.items)
        self.outcome.batches = gathered_objects(self.outcome.batches)

    def tested(self, name: str) -> Tensor:
        """A result of the test, in the order of the dataset.

        Args:
            name: ``index``, ``label``, ``score`` or ``peak`` ``[N]``, or ``patch_scores``
                ``[N, H, W]`` if all images have the same grid.
        """
        return in_order(self.outcome.batches, name)

    def tested_maps(self) -> list[Tensor]:
        """The patch scores ``[H, W]`` of each test image, in the order of the dataset."""
        order = torch.cat([part["index"] for part in self.outcome.batches]).argsort()
        maps = [each for part in self.outcome.batches for each in part["patch_scores"]]
        return [maps[index] for index in order.tolist()]

    def predicted(self, name: str) -> Tensor:
        """A result of the prediction of this process; as `tested`."""
        return in_order(self._predicted, name)


class Oracle(Callback):
    """Tests the detector after every epoch of a training without changing its state.

    Attributes:
        history: the metrics after each epoch, in 0..1.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the metrics of this epoch."""
        assert isinstance(pl_module, Detector)
        evaluation = Evaluation()
        pl_module.eval()
        for batch in trainer.datamodule.test_dataloader():  # type: ignore[attr-defined]
            moved = pl_module.transfer_batch_to_device(as_batch(batch), pl_module.device, 0)
            with trainer.precision_plugin.forward_context():
                _, maps, scores = pl_module.batch_scores(moved)
            evaluation.update_batch(moved, maps, scores)
        pl_module.train()
        self.history.append(evaluation.compute())

    def best_epochs(self) -> dict[str, dict[str, float]]:
        """The best value of each metric on the test set, and its epoch, counted from 1."""
        best = {}
        for metric in self.history[0]:
            values = [figures[metric] for figures in self.history]
            epoch = max(range(len(values)), key=values.__getitem__)
            best[metric] = {"value": values[epoch], "epoch": epoch + 1}
        return best


def kept(outputs: Any) -> dict[str, Tensor]:
    """The results of a batch that are kept."""
    assert isinstance(outputs, Prediction)
    found = {name: getattr(outputs, name) for name in KEPT}
    return {name: value for name, value in found.items() if value is not None}


def in_order(parts: list[dict[str, Tensor]], name: str) -> Tensor:
    """The tensors of all batches in the order of the images in their dataset."""
    order = torch.cat([part["index"] for part in parts]).argsort()
    return torch.cat([part[name] for part in parts])[order]
