"""Contrastive learning, and what keeps it from filling the whole sphere."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from occ_lab.pretraining.augmentations import Family, check_flip, instances, instances_of
from occ_lab.pretraining.representation import Representation
from occ_lab.utils.errors import check_number
from occ_lab.utils.processes import distributed


class Contrastive(Representation):
    """Learns to find an image's second view among those of a batch, by the angle of features.

    Two views x, x' of an image are two draws of the augmentation. With z the unit vector of the
    head's output the loss of an image i is ``−log softmax_j(zᵢ·z'ⱼ / τ)`` at j = i, j over all
    images of the batch (equation 2 of Sohn et al. 2021, after Chen et al. 2020). In a distributed
    run j goes over the batches of all processes.

    Contrastive learning spreads features evenly over the sphere, which hides outliers.
    Distribution augmentation (section 3.2.2) adds images outside the distribution, such as its
    rotations, as instances of their own, to be told apart from the normal ones. An instance is
    drawn for each image of a batch, so that an epoch of the enlarged set is as many epochs here as
    there are instances.

    Args:
        temperature: τ, above 0.
        family: the instances made of an image, see `instances`.
        count: of the ``geometric`` family, how many of the eight; null is all.
        settings: those of `Representation`.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        family: Family = "none",
        count: int | None = None,
        **settings: Any,
    ) -> None:
        check_number("temperature", temperature, above=0)
        check_flip(family, settings["augment"].flip)
        super().__init__(**settings)
        self.temperature = temperature
        self.family = family
        self.instances = instances_of(family, count)

    def loss(self, image: Tensor) -> tuple[Tensor, int]:
        """The loss of images ``[B, 3, s, s]``; and the number of candidates."""
        if self.instances > 1:
            which = torch.randint(self.instances, (len(image),), device=image.device)
            image = instances(image, self.family, which)
        views = torch.cat([self.augment(image), self.augment(image)])
        queries, keys = F.normalize(self.encoder(views).float(), dim=1).chunk(2)
        return contrast(queries, keys, self.temperature)


def contrast(queries: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, int]:
    """How hard each query's own key is to find among all keys, those of other processes too.

    Each process has the loss of its own queries. The gradient through the keys goes back to the
    processes that they come from, so that the mean over processes, which DDP takes of the
    gradients, is the gradient of the joint batch's loss.

    Args:
        queries: unit vectors ``[B, C]``, float32.
        keys: unit vectors ``[B, C]``, float32, the i-th that of the i-th query.
        temperature: τ.

    Returns:
        The mean cross-entropy, and the number of candidates.
    """
    own = torch.arange(len(queries), device=queries.device)
    if distributed():
        own = own + torch.distributed.get_rank() * len(queries)
        keys = torch.cat(all_gather(keys))
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(queries @ keys.T / temperature, own), len(keys)
