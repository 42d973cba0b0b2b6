"""The LightningModule of every method: backbone, projector, objective, scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from occ_lab.backbones.base import Frozen
from occ_lab.backbones.lenet import LeNet
from occ_lab.features.levels import pieces
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.objectives.base import Objective
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.utils.errors import InputError
from occ_lab.utils.optimizers import Scheduler, optimizing
from occ_lab.utils.processes import distributed

Batch = dict[str, Any]


class Detector(LightningModule):
    """A backbone, a projector over its levels and an objective over the projected map.

    Args:
        backbone: images to levels; it is trained with the rest where it says so.
        projector: levels to a feature map.
        objective: feature maps to a loss and to scores.
        optimizer: makes an optimizer of the parameters to train.
        scheduler: makes a schedule of the learning rate, a step an epoch; None keeps it.
        postprocess: scores to image scores and anomaly maps.
        size: height and width of the anomaly maps in pixels, those of the input.
    """

    def __init__(
        self,
        backbone: Frozen | LeNet,
        projector: nn.Module,
        objective: Objective,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Scheduler | None,
        postprocess: PostProcess,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.objective = objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.automatic_optimization = not objective.one_pass
        if objective.one_pass:
            # Of several processes each steps as often as its share of images has batches. DDP wants
            # something to train, and would wait for all at every step to send its buffers.
            self.untrained = nn.Parameter(torch.zeros(()))
            self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.postprocess = postprocess
        self.size = size
        self.setup_batches: Callable[[], Iterable[Batch]] = list
        self.evaluation = Evaluation()
        self.scored: list[dict[str, Tensor]] = []
        self.history: list[dict[str, float]] = []
        self.figures: dict[str, float] = {}

    @property
    def trainable(self) -> int:
        """How many numbers are learned by gradient."""
        if self.objective.one_pass:
            return 0
        return sum(each.numel() for each in self.parameters() if each.requires_grad)

    def forward(self, image: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of images ``[B, 3, h, w]`` in 0..1."""
        return self.score(self.backbone(image))

    def score(self, levels: Sequence[Tensor]) -> Tensor:
        """Scores ``[B, H, W]`` of levels ``[B, C_l, H_l, W_l]``."""
        scores = [self.objective.score(self.projector(piece)) for piece in pieces(levels)]
        return torch.cat(scores)

    def image_scores(self, image: Tensor) -> Tensor:
        """Image scores ``[B]`` of images ``[B, 3, h, w]`` in 0..1, differentiable."""
        return self.maps_and_scores(self(image))[1]

    def maps_and_scores(self, scores: Tensor) -> tuple[Tensor | None, Tensor]:
        """Anomaly maps ``[B, h, w]``, if there are any, and image scores of ``[B, H, W]``."""
        maps = self.postprocess.maps(scores, self.size)
        return maps, self.postprocess.image_scores(scores, maps)

    def on_fit_start(self) -> None:
        """Let the objective see the training set once, if it must."""
        if self.objective.needs_setup:
            self.eval()
            self.objective.setup(self._training_maps())
            self.train()

    def on_train_epoch_start(self) -> None:
        """Tell the objective."""
        self.objective.start_epoch(self.current_epoch)

    @torch.no_grad()
    def _training_maps(self) -> Iterator[Tensor]:
        for batch in self.setup_batches():
            yield self.project(self.transfer_batch_to_device(batch, self.device, 0))

    def levels(self, batch: Batch) -> list[Tensor]:
        """The levels ``[B, C_l, H_l, W_l]`` of a batch of images, cached or computed."""
        if "levels" in batch:
            return [level.to(self.dtype) for level in batch["levels"]]
        return self.backbone(batch["image"])

    def project(self, batch: Batch) -> Tensor:
        """The projected map ``[B, C, H, W]`` of a batch."""
        return self.projector(self.levels(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of all that learns by gradient."""
        if self.objective.one_pass:
            return None
        return optimizing(self.parameters(), self.optimizer, self.scheduler)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        """The objective's loss on a batch of normal images, if it has one."""
        if self.objective.one_pass:
            self.objective.observe(self.levels(batch))
            return None
        loss = self.objective.loss(self.project(batch))
        size = len(batch["index"])
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=size)
        self.log_dict(self.objective.facts(), on_step=False, on_epoch=True, batch_size=size)
        return loss

    def on_train_epoch_end(self) -> None:
        """After its one pass, let the objective conclude."""
        if self.objective.one_pass:
            self.objective.finish(self.projector)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Score a batch, add it to the metrics, keep its scores."""
        scores, image_scores = self._evaluate(batch)
        kept = {"index": batch["index"], "label": batch["label"], "score": image_scores}
        self.scored.append({name: value.cpu() for name, value in kept.items()})
        self.scored[-1]["map"] = scores.cpu()

    def predict_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Scores ``[B, H, W]`` of a batch."""
        return self.score(self.levels(batch))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Score a batch of the test set after an epoch: only for the labelled oracle."""
        self._evaluate(batch)

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        scores = self.score(self.levels(batch))
        maps, image_scores = self.maps_and_scores(scores)
        self.evaluation.update(image_scores, batch["label"], maps, batch.get("mask"))
        return scores, image_scores

    def on_validation_epoch_end(self) -> None:
        """Keep the figures of this epoch."""
        self.history.append(self.evaluation.compute())
        self.evaluation.reset()

    def on_test_epoch_end(self) -> None:
        """Keep the figures of the test, and log them.

        Raises:
            InputError: the objective tells no image from another.
        """
        self.scored = of_all_processes(self.scored)
        check_collapse(torch.cat([part["score"] for part in self.scored]))
        self.figures = self.evaluation.compute()
        self.log_dict(self.figures)
        self.evaluation.reset()

    def gathered(self, name: str) -> Tensor:
        """What the test kept of all images, in the order of the split.

        Args:
            name: ``index``, ``label`` or ``score`` ``[N]``, or ``map`` ``[N, H, W]``, the scores
                before they are upsampled and smoothed.
        """
        order = torch.cat([part["index"] for part in self.scored]).argsort()
        return torch.cat([part[name] for part in self.scored])[order]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a frozen backbone, which can be had again; keep its identity."""
        if isinstance(self.backbone, Frozen):
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {
                name: value for name, value in state.items() if not name.startswith("backbone.")
            }
            checkpoint["backbone"] = self.backbone.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a frozen backbone is the one the checkpoint was trained with."""
        if not isinstance(self.backbone, Frozen):
            return
        if checkpoint["backbone"] != self.backbone.identity:
            raise InputError(
                "checkpoint: it was trained with another backbone or other weights "
                f"({checkpoint['backbone'][:12]}) than the present one "
                f"({self.backbone.identity[:12]})"
            )
        checkpoint["state_dict"].update(
            {f"backbone.{name}": value for name, value in self.backbone.state_dict().items()}
        )


def of_all_processes(parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The parts of every process of a distributed run, in one process the parts."""
    if not distributed():
        return parts
    gathered: list[list[dict[str, Tensor]]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, parts)
    return [part for process in gathered for part in process]


def check_collapse(scores: Tensor) -> None:
    """Stop where all images score the same: the hypersphere has collapsed to a point.

    Args:
        scores: image scores ``[N]``.

    Raises:
        InputError: they differ by no more than float32 rounds.
    """
    low, high = (float(extreme) for extreme in scores.double().aminmax())
    if len(scores) > 1 and high - low <= 1e-6 * max(abs(low), abs(high)):
        raise InputError(
            f"loss: collapsed: all {len(scores)} test images score {high:.6g}, so that nothing can "
            "be told apart. The usual causes: bias terms or a bounded activation in a network that "
            "is trained (Deep SVDD), a learning rate too high or too many epochs, a centre or "
            "target near the origin with strong weight decay, a target so far away (loss.norm) "
            "that rounding hides the rest, or features that are all the same"
        )
