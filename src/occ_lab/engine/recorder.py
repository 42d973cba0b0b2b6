"""Callbacks that keep the results of a test, a prediction or an epoch for the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from occ_lab.data.batches import as_batch
from occ_lab.detector import Detector
from occ_lab.engine.defects import kinds_of, pixels_by_kind
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.postprocessing.prediction import Prediction
from occ_lab.utils.merging import append
from occ_lab.utils.processes import distributed, gathered_objects
from occ_lab.utils.spooled import Reordered, Spooled

KEPT = ("index", "label", "score", "peak", "moments")
AT_ONCE = 256  # maps that processes exchange at a time


class Scored:
    """The scores of a pass; its maps are in a file if they are many, see `Spooled`."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._maps = Spooled()
        self._mapped: list[Tensor] = []  # the indices of their images

    def add(self, outputs: Any) -> None:
        """Add the scores of a batch, a `Prediction`."""
        assert isinstance(outputs, Prediction)
        assert outputs.index is not None
        self._add_values({name: getattr(outputs, name) for name in KEPT})
        self._add_maps(outputs.index, outputs.patch_scores)

    def _add_values(self, values: Mapping[str, Tensor | None]) -> None:
        for name, value in values.items():
            if value is not None:
                append(self._values.setdefault(name, []), value)

    def _add_maps(self, index: Tensor, maps: Iterable[Tensor]) -> None:
        append(self._mapped, index)
        for each in maps:
            self._maps.append(each)

    def gather(self) -> None:
        """Add the scores of the other processes of a distributed run."""
        if not distributed():
            return
        values, maps = self._values, self._maps
        mapped = torch.cat([*self._mapped, torch.empty(0, dtype=torch.int64)])
        self._values, self._maps, self._mapped = {}, Spooled(), []
        for part in gathered_objects([{name: torch.cat(each) for name, each in values.items()}]):
            self._add_values(part)
        for start in range(0, max(gathered_objects([len(maps)])), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            for index, of_index in gathered_objects([(mapped[some], maps[some])]):
                self._add_maps(index, of_index)

    def values(self, name: str) -> Tensor:
        """One of `KEPT` of all images, in the order of the dataset; or their ``patch_scores``."""
        if name == "patch_scores":
            return torch.stack(list(self.maps()))
        return torch.cat(self._values[name])[torch.cat(self._values["index"]).argsort()]

    def maps(self) -> Sequence[Tensor]:
        """The patch scores of each image, ``[H, W]``, in the order of the dataset."""
        return Reordered(self._maps, torch.cat(self._mapped).argsort().tolist())


@dataclass
class Outcome:
    """What a test has found.

    Attributes:
        metrics: the test metrics, in 0..1, in double precision.
        pixels: the pixel metrics of each kind of defect, likewise.
        scored: the scores of all images.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    pixels: dict[str, dict[str, float]] = field(default_factory=dict)
    scored: Scored = field(default_factory=Scored)


class Recorder(Callback):
    """Keeps the outcome of the last test, and the scores of the last prediction.

    Attributes:
        outcome: of the test.
    """

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._predicted = Scored()

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics, see `Outcome`."""
        return self.outcome.metrics

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the previous test, and name the kinds of defects to the detector."""
        assert isinstance(pl_module, Detector)
        self.outcome = Outcome()
        items = trainer.datamodule.test_images.items  # type: ignore[attr-defined]
        pl_module.evaluation.group(kinds_of(items), len(items))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the previous prediction."""
        self._predicted = Scored()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Keep the scores of a batch."""
        self.outcome.scored.add(outputs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any
    ) -> None:
        """Keep the scores of a batch."""
        self._predicted.add(outputs)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics before the detector logs them in single precision and resets them."""
        assert isinstance(pl_module, Detector)
        self.outcome.metrics = pl_module.evaluation.compute()
        self.outcome.pixels = pixels_by_kind(pl_module.evaluation)
        self.outcome.scored.gather()

    def tested(self, name: str) -> Tensor:
        """A result of the test, in the order of the dataset.

        Args:
            name: ``index``, ``label``, ``score`` or ``peak`` ``[N]``, or ``patch_scores``
                ``[N, H, W]`` if all images have the same grid.
        """
        return self.outcome.scored.values(name)

    def tested_maps(self) -> Sequence[Tensor]:
        """The patch scores ``[H, W]`` of each test image, in the order of the dataset."""
        return self.outcome.scored.maps()

    def predicted(self, name: str) -> Tensor:
        """A result of the prediction of this process; as `tested`, or ``moments`` ``[N, 3]``."""
        return self._predicted.values(name)


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
        evaluation = Evaluation(pl_module.evaluation.aupro_limit)
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
