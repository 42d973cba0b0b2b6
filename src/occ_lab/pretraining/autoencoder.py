"""Pre-training of a backbone as the encoder of an autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from occ_lab.backbones.lenet import Decoder, LeNet
from occ_lab.utils.optimizers import MakeScheduler, optimizing


class Autoencoder(LightningModule):
    """Trains a LeNet as the encoder of an autoencoder (Ruff et al. 2018, section 4.2).

    The loss is the squared reconstruction error of an image, summed over its pixels. The decoder is
    not used afterwards. Batches are dictionaries with ``image`` ``[B, 3, h, w]`` in 0..1.

    Args:
        backbone: the encoder; it is trained in place.
        optimizer: makes an optimizer of the parameters.
        scheduler: makes a learning-rate schedule with one step per epoch; None keeps the rate.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> module = Autoencoder(LeNet("mnist"), partial(torch.optim.Adam, lr=1e-4))
        >>> image = module.backbone.normalized(torch.rand(4, 3, 28, 28))
        >>> module.decoder(module.backbone.encode(image)).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        backbone: LeNet,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: MakeScheduler | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = Decoder(backbone.shape)
        self.optimizer = optimizer
        self.scheduler = scheduler

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """A single optimizer for the encoder and the decoder."""
        return optimizing(self.parameters(), self.optimizer, self.scheduler)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """The loss, a scalar, of a batch of normal images."""
        image = self.backbone.normalized(batch["image"])
        made = self.decoder(self.backbone.encode(image))
        loss: Tensor = (made - image).square().sum(dim=(1, 2, 3)).mean()
        self.log("autoencoder_loss", loss, prog_bar=True, on_epoch=True, batch_size=len(image))
        return loss
