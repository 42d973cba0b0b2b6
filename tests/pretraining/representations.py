"""Stage 1 on images made for it, with a network that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from occ_lab.backbones.encoder import Encoder
from occ_lab.pretraining.augmentations import Augment
from tests.backbones.tiny import TINY

OFF: dict[str, Any] = {"scale": 1.0, "flip": 0.0, "jitter": 0.0, "gray": 0.0, "blur": 0.0}
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def encoder(classes: int = 0, head: Sequence[int] = (16, 8), seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(TINY, 8, head=head, classes=classes)


def settings(net: nn.Module, augment: nn.Module | None = None, **changes: Any) -> dict[str, Any]:
    """The arguments of a representation; images are not augmented unless requested."""
    return {"encoder": net, "augment": augment or Still(), "optimizer": SGD, **changes}


class Still(nn.Module):
    """An augmentation without random numbers."""

    flip = 0.0

    def forward(self, image: Tensor) -> Tensor:
        return image


class Seen(nn.Module):
    """An encoder that keeps its inputs and returns a function of them."""

    def __init__(self, answer: Callable[[Tensor], Tensor], classes: int = 0) -> None:
        super().__init__()
        self.answer = answer
        self.classifier = nn.Linear(1, classes) if classes else None
        self.shown: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.shown.append(image)
        return self.answer(image)

    classify = forward


def bright_above(count: int, side: int = 8) -> Tensor:
    """Images that are brighter at the top, each in its own colour; rotations can be predicted."""
    generator = torch.Generator().manual_seed(0)
    colour = 0.3 + 0.7 * torch.rand(count, 3, 1, 1, generator=generator)
    ramp = torch.linspace(1, 0, side)[:, None]
    noise = 0.1 * torch.rand(count, 3, side, side, generator=generator)
    return (colour * ramp + noise).clamp(0, 1)


def some_augmentation() -> Augment:
    return Augment(8, scale=0.7, flip=0.5, jitter=0.2, gray=0.2, blur=0.2)


def losses(module: LightningModule, image: Tensor, epochs: int, batch: int = 8) -> list[float]:
    """The mean loss of each epoch of a training by Lightning."""
    found: list[float] = []
    keep = LambdaCallback(
        on_train_epoch_end=lambda trainer, _: found.append(float(trainer.callback_metrics["loss"]))
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        callbacks=[keep],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([{"image": each} for each in image], batch, shuffle=True))
    return found


def check_gradients(module: LightningModule, image: Tensor, used: nn.Module) -> None:
    """A finite gradient that is not zero reaches every parameter, in bfloat16 as well."""
    for dtype in (None, torch.bfloat16):
        module.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss, _ = module.loss(image)  # type: ignore[operator]
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        loss.backward()
        for name, parameter in used.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
