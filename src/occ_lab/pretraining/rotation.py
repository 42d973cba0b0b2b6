"""Rotation prediction: the network predicts by which quarter turn an image was rotated."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.backbones.encoder import turned
from occ_lab.pretraining.augmentations import TURNS
from occ_lab.pretraining.representation import Representation


class Rotation(Representation):
    """Learns to classify the four quarter turns of normal images.

    (Gidaris et al. 2018, arXiv 1803.07728; for one class Golan & El-Yaniv 2018, arXiv 1805.10917;
    with a deep head Sohn et al. 2021, arXiv 2011.02578, section 3.1.1.) Every image is presented in
    all four rotations, each with its own augmentation.

    Args:
        settings: the arguments of `Representation`; the encoder has four classes.

    Raises:
        ValueError: the number of classes of the encoder is not four.

    Example:
        >>> from functools import partial
        >>> from occ_lab.backbones.encoder import Encoder
        >>> from occ_lab.pretraining.augmentations import Augment
        >>> module = Rotation(
        ...     encoder=Encoder("resnet18", side=16, head=[32, 8], classes=4),
        ...     augment=Augment(side=16),
        ...     optimizer=partial(torch.optim.SGD, lr=0.01),
        ... )
        >>> loss, answers = module.loss(torch.rand(2, 3, 16, 16))
        >>> loss.shape, answers
        (torch.Size([]), 4)
    """

    def __init__(self, **settings: Any) -> None:
        classifier = settings["encoder"].classifier
        if classifier is None or classifier.out_features != TURNS:
            raise ValueError(f"encoder.classes must be {TURNS}, one for each quarter turn")
        super().__init__(**settings)

    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        """The cross-entropy of the rotation of images ``[B, 3, s, s]``, and the number of turns."""
        shown = torch.cat([turned(self.augment(image), turn) for turn in range(TURNS)])
        turns = torch.arange(TURNS, device=image.device).repeat_interleave(len(image))
        return F.cross_entropy(self.encoder.classify(shown).float(), turns), TURNS
