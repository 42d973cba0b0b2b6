"""Rotation prediction: which quarter turn has an image been given?"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.backbones.encoder import turned
from occ_lab.pretraining.augmentations import TURNS
from occ_lab.pretraining.representation import Representation


class Rotation(Representation):
    """Learns to tell the four quarter turns of normal images apart.

    (Gidaris et al. 2018, arXiv 1803.07728; for one class Golan & El-Yaniv 2018, arXiv 1805.10917;
    with a deep head Sohn et al. 2021, section 3.1.1.) Every image is given to the network in all
    four, each with an augmentation of its own.

    Args:
        settings: those of `Representation`; the encoder has four classes.
    """

    def __init__(self, **settings: Any) -> None:
        classifier = settings["encoder"].classifier
        if classifier is None or classifier.out_features != TURNS:
            raise ValueError(f"encoder.classes must be {TURNS}, one for each quarter turn")
        super().__init__(**settings)

    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        """The cross-entropy of the turn, of images ``[B, 3, s, s]``; and the number of turns."""
        shown = torch.cat([turned(self.augment(image), turn) for turn in range(TURNS)])
        turns = torch.arange(TURNS, device=image.device).repeat_interleave(len(image))
        return F.cross_entropy(self.encoder.classify(shown).float(), turns), TURNS
