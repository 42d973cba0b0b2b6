"""Stage 1 of two-stage one-class classification: a representation from normal images alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from occ_lab.backbones.encoder import Encoder
from occ_lab.pretraining.augmentations import Augment, crops
from occ_lab.utils.errors import check_number


class Representation(LightningModule, ABC):
    """Trains an encoder on a task that makes its own labels (Sohn et al. 2021).

    What is drawn at random in an epoch depends on the seed, the epoch and the process alone, so
    that a training that is stopped after an epoch and resumed ends as if it had not been.

    Args:
        encoder: the network; it is trained in place.
        augment: draws what the network sees of an image.
        optimizer: makes an optimizer of groups of parameters; its learning rate falls to zero by
            a cosine over all steps.
        weight_decay: of all weights but biases and those of batch-norm, at least 0.
        patches: random patches taken of each image, each an instance; 0 takes the whole image.
        seed: of everything that is drawn, but for the initial weights.
    """

    def __init__(
        self,
        encoder: Encoder,
        augment: Augment,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        weight_decay: float = 3e-4,
        patches: int = 0,
        seed: int = 0,
    ) -> None:
        check_number("weight_decay", weight_decay, at_least=0)
        check_number("patches", patches, at_least=0, integer=True)
        check_number("seed", seed, at_least=0, integer=True)
        super().__init__()
        self.encoder = encoder
        self.augment = augment
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.patches = patches
        self.seed = seed

    @abstractmethod
    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        """The loss, a scalar in float32, of images ``[B, 3, s, s]`` in 0..1.

        Returns:
            It, and among how many answers the right one is to be found: chance level is the
            logarithm of this.
        """

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of the encoder."""
        made = self.optimizer(param_groups_weight_decay(self.encoder, self.weight_decay))
        schedule = CosineAnnealingLR(made, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Draw anew, by the epoch and the process."""
        epochs = torch.Generator().manual_seed(self.seed)
        draws = torch.randint(2**31, (self.current_epoch + 1,), generator=epochs)
        torch.manual_seed(int(draws[-1]) + self.global_rank)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """The loss of a batch of normal images."""
        image = batch["image"]
        if self.patches:
            image = crops(image, self.encoder.side, self.patches)
        loss, answers = self.loss(image)
        told: dict[str, Any] = {"loss": loss, "chance": math.log(answers)}
        self.log_dict(told, on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        self.log("step_loss", loss, prog_bar=True, logger=False, batch_size=len(image))
        return loss
