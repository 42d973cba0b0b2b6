"""Contrastive learning, with or without distribution augmentation."""

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
    """Learns to identify the second view of an image among the views of a batch, by their angles.

    (Sohn et al. 2021, arXiv 2011.02578, equation 2, after Chen et al. 2020, arXiv 2002.05709.) Two
    views x, x' of an image are two random augmentations. With z the unit vector of the head's
    output, the loss of an image i is ``−log softmax_j(zᵢ·z'ⱼ / τ)`` at j = i, where j runs over all
    images of the batch (in a distributed run, over the batches of all processes).

    Contrastive learning spreads features evenly over the sphere, which hides outliers.
    Distribution augmentation (section 3.2.2) adds images outside of the distribution, such as
    rotations of the normal images, as further instances that the network learns to distinguish from
    them. Here one instance is drawn for each image of a batch, so one epoch over the enlarged set
    corresponds to as many epochs as there are instances.

    Args:
        temperature: τ, above 0.
        family: the instances of an image, see `instances`.
        count: the number of instances of the ``geometric`` family, 1 to 8; None means all.
        settings: the arguments of `Representation`.

    Raises:
        ValueError: an argument is out of range, or a random flip could turn one instance of the
            into another.

    Example:
        >>> from functools import partial
        >>> from occ_lab.backbones.encoder import Encoder
        >>> from occ_lab.pretraining.augmentations import Augment
        >>> module = Contrastive(
        ...     encoder=Encoder("resnet18", side=16, head=[32, 8]),
        ...     augment=Augment(side=16),
        ...     optimizer=partial(torch.optim.SGD, lr=0.01),
        ... )
        >>> loss, candidates = module.loss(torch.rand(4, 3, 16, 16))
        >>> loss.shape, candidates
        (torch.Size([]), 4)
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
        """The loss, a scalar, of images ``[B, 3, s, s]``, and the number of candidates."""
        if self.instances > 1:
            which = torch.randint(self.instances, (len(image),), device=image.device)
            image = instances(image, self.family, which)
        views = torch.cat([self.augment(image), self.augment(image)])
        queries, keys = F.normalize(self.encoder(views).float(), dim=1).chunk(2)
        return contrast(queries, keys, self.temperature)


def contrast(queries: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, int]:
    """The cross-entropy of finding each query's own key among the keys of all processes.

    Each process computes the loss of its own queries. The gradient through the keys flows back to
    the processes that they come from. The mean over processes that DDP takes of the gradients is
    therefore the gradient of the loss of the joint batch.

    Args:
        queries: unit vectors ``[B, C]``, float32.
        keys: unit vectors ``[B, C]``, float32; the i-th belongs to the i-th query.
        temperature: τ.

    Returns:
        The mean cross-entropy, and the number of candidates.

    Example:
        >>> vectors = torch.eye(3)
        >>> loss, candidates = contrast(vectors, vectors, temperature=0.1)
        >>> bool(loss < 0.001), candidates
        (True, 3)
    """
    own = torch.arange(len(queries), device=queries.device)
    if distributed():
        own = own + torch.distributed.get_rank() * len(queries)
        keys = torch.cat(all_gather(keys))  # type: ignore[no-untyped-call]
    with torch.autocast(queries.device.type, enabled=False):
        return F.cross_entropy(queries @ keys.T / temperature, own), len(keys)
