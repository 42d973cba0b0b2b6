"""Stage 1 of two-stage one-class classification: a representation from normal images only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

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

Decayed = Literal["weights", "all"]


class Representation(LightningModule, ABC):
    """Trains an encoder by self-supervision (Sohn et al. 2021, arXiv 2011.02578).

    A subclass implements `loss`. Batches are dictionaries with ``image`` ``[B, 3, h, w]`` in 0..1.

    The random numbers of an epoch depend only on the seed, the epoch and the process, so a training
    that is stopped after an epoch and resumed has the same result as one without interruption.

    Args:
        encoder: the network; it is trained in place.
        augment: augments the images at random.
        optimizer: makes an optimizer of parameter groups; its learning rate falls to zero by a
            cosine schedule over all steps.
        weight_decay: the weight decay, at least 0.
        decayed: what decays: ``weights``, all except biases and batch-norm, or ``all`` parameters,
            as in the authors' code.
        patches: the number of random patches of each image, each of which is an instance of its
            own; 0 uses the whole image.
        seed: the seed of all random numbers except the initial weights.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.
    """

    def __init__(
        self,
        encoder: Encoder,
        augment: Augment,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        weight_decay: float = 3e-4,
        decayed: Decayed = "weights",
        patches: int = 0,
        seed: int = 0,
    ) -> None:
        check_number("weight_decay", weight_decay, at_least=0)
        check_number("patches", patches, at_least=0, integer=True)
        check_number("seed", seed, at_least=0, integer=True)
        if decayed not in get_args(Decayed):
            raise ValueError(f"decayed must be {' or '.join(get_args(Decayed))}, got {decayed!r}")
        super().__init__()
        self.encoder = encoder
        self.augment = augment
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.decayed = decayed
        self.patches = patches
        self.seed = seed

    @abstractmethod
    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        """The loss of images.

        Args:
            image: ``[B, 3, s, s]`` in 0..1.

        Returns:
            The loss, a scalar in float32, and the number of possible answers; the logarithm of that
            number is the loss at chance level.
        """

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of the encoder and its cosine schedule."""
        groups = (
            [{"params": list(self.encoder.parameters()), "weight_decay": self.weight_decay}]
            if self.decayed == "all"
            else param_groups_weight_decay(self.encoder, self.weight_decay)
        )
        made = self.optimizer(groups)
        schedule = CosineAnnealingLR(made, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed the random numbers of the epoch from the seed, the epoch and the process."""
        epochs = torch.Generator().manual_seed(self.seed)
        draws = torch.randint(2**31, (self.current_epoch + 1,), generator=epochs)
        torch.manual_seed(int(draws[-1]) + self.global_rank)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """The loss, a scalar, of a batch of normal images."""
        image = batch["image"]
        if self.patches:
            image = crops(image, self.encoder.side, self.patches)
        loss, answers = self.loss(image)
        metrics: dict[str, Any] = {"loss": loss, "chance": math.log(answers)}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        self.log("step_loss", loss, prog_bar=True, logger=False, batch_size=len(image))
        return loss
