"""Coupled-hypersphere feature adaptation: features are pulled to the centres of a memory bank."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from torch import Tensor, nn

from occ_lab.objectives.base import Objective
from occ_lab.objectives.neighbours import lengths, nearest_distances, rows
from occ_lab.projectors import CoordConv1x1, Projector
from occ_lab.utils.errors import InputError, check_number

log = logging.getLogger(__name__)

Memory = Literal["official", "algorithm1"]


class CFA(Objective):
    """Distance to the nearest centres of a memory bank (Lee et al. 2022, arXiv 2206.04325).

    Let d be the squared distances of a position to its k + j nearest centres, nearest first. The
    loss is ``(1/ν) · [mean relu(d_k − r²) + mean relu(r² − d_j − α)]``, where the means run over
    all positions and over the k nearest centres, or over the j centres that follow them. The score
    is the distance to the nearest centre; if ``certainty`` is set, it is multiplied by the softmin
    of that centre among the k nearest distances. Distances in scores are not squared.

    With the published r and α, the second term was zero in every step of the trainings recorded in
    ``experiments/cfa_ablation``: a centre repels a position only if its distance is below r² − α,
    and r² stays below the distances. The fraction of distances that repel is logged as
    ``repelled``, and a message is logged at the end of a training in which it was always zero.

    Args:
        k: the number of nearest centres that attract, at least 1.
        j: the number of further centres that repel, at least 1.
        attract: whether the loss has the first term.
        repel: whether the loss has the second term. With neither term, nothing is trained.
        alpha: α, at least 0.
        nu: ν, above 0.
        radius: the initial value of r, at least 0.
        learnable_radius: whether r is learned.
        certainty: whether the score is weighted by the softmin.
        memory: how the memory bank is built: ``official`` or ``algorithm1``, see `official_bank`
            and `algorithm1_bank`.
        bank_compression: γ_c, at least 1; the bank has HW // γ_c centres.
        ema: the weight of each further image in ``algorithm1``, above 0 and at most 1.
        chunk: the number of positions whose distances to all centres are held in memory at a time,
            at least 1; None suits the device.
        half_selection: whether the nearest centres are found by products in bfloat16, which finds
            the same ones; None does it where it is faster.
        unit_rms: whether `default_projector` scales each level to a root mean square of 1 over the
            training set. The official code does not; instead, it divides the levels of an
            EfficientNet by their channels: the argument ``joined`` of `TimmBackbone`.
        seed: the seed of k-means.

    Attributes:
        bank: the centres ``[M, C]``; empty before `setup`.
        radius: r, a scalar.

    Raises:
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> objective = CFA()
        >>> z = torch.randn(4, 24, 7, 7)  # feature maps of four normal images
        >>> objective.setup([z])
        >>> objective.bank.shape
        torch.Size([49, 24])
        >>> objective.loss(z).shape, objective(z).shape
        (torch.Size([]), torch.Size([4, 7, 7]))
    """

    bank: Tensor
    needs_setup = True
    learned = ("bank",)

    def __init__(
        self,
        k: int = 3,
        j: int = 3,
        attract: bool = True,
        repel: bool = True,
        alpha: float = 0.1,
        nu: float = 1e-3,
        radius: float = 1e-5,
        learnable_radius: bool = True,
        certainty: bool = True,
        memory: Memory = "official",
        bank_compression: int = 1,
        ema: float = 0.1,
        chunk: int | None = None,
        half_selection: bool | None = None,
        unit_rms: bool = True,
        seed: int = 0,
    ) -> None:
        check_number("k", k, at_least=1, integer=True)
        check_number("j", j, at_least=1, integer=True)
        check_number("alpha", alpha, at_least=0)
        check_number("nu", nu, above=0)
        check_number("radius", radius, at_least=0)
        if memory not in get_args(Memory):
            raise ValueError(f"memory must be one of {', '.join(get_args(Memory))}, got {memory!r}")
        check_number("bank_compression", bank_compression, at_least=1, integer=True)
        check_number("ema", ema, above=0, at_most=1)
        if chunk is not None:
            check_number("chunk", chunk, at_least=1, integer=True)
        super().__init__()
        self.k = k
        self.j = j
        self.attract = attract
        self.repel = repel
        self.alpha = alpha
        self.nu = nu
        self.certainty = certainty
        self.memory = memory
        self.bank_compression = bank_compression
        self.ema = ema
        self.chunk = chunk
        self.half_selection = half_selection
        self.unit_rms = unit_rms
        self.seed = seed
        self.one_pass = not (attract or repel)
        self.radius = nn.Parameter(torch.tensor(float(radius)), requires_grad=learnable_radius)
        self.repelled = torch.tensor(0.0)
        self.most_repelled = torch.tensor(0.0)
        self.register_buffer("bank", torch.empty(0, 0))

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`CoordConv1x1`, with levels scaled to unit root mean square if ``unit_rms``."""
        return CoordConv1x1(channels, unit_rms=self.unit_rms)

    def setup(self, feature_maps: Iterable[Tensor]) -> None:
        """Build the memory bank from maps ``[B, C, H, W]`` of the untrained projector.

        Raises:
            InputError: there are no maps, or the bank has fewer than k + j centres.
        """
        images = (rows(image[None]).to(self.bank.dtype) for z in feature_maps for image in z)
        if self.memory == "official":
            bank = official_bank(images, self.bank_compression, self.seed)
        else:
            bank = algorithm1_bank(images, self.bank_compression, self.ema, self.seed)
        if len(bank) < self.k + self.j:
            raise InputError(
                f"the memory bank has {len(bank)} centres, fewer than k + j = {self.k + self.j}; "
                "CFA needs maps of many positions, and a bank_compression that leaves enough",
                part="objective",
            )
        self.bank = bank

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Do nothing: without attraction and repulsion, only the memory bank is learned."""

    def loss(self, z: Tensor) -> Tensor:
        """The loss, a scalar, of maps ``[B, C, H, W]``.

        Raises:
            RuntimeError: the memory bank is empty, because `setup` was not called.
        """
        d = self._distances(z, self.k + self.j)
        margin = self.radius**2
        attraction = torch.relu(d[:, : self.k] - margin).mean()
        repulsions = torch.relu(margin - d[:, self.k :] - self.alpha)
        repulsion = repulsions.mean()
        self.repelled = (repulsions.detach() > 0).float().mean()
        if self.training:
            self.most_repelled = torch.maximum(self.most_repelled.to(self.repelled), self.repelled)
        return (self.attract * attraction + self.repel * repulsion) / self.nu

    def facts(self) -> dict[str, Tensor]:
        """``radius``, and ``repelled``, the fraction of distances to the next j that repel."""
        return {"radius": self.radius.detach(), "repelled": self.repelled}

    def conclude(self) -> None:
        """Log a message if nothing repelled in any step."""
        if self.repel and not self.most_repelled:
            log.info(
                "CFA: no distance repelled in any step (r = %.3g, alpha = %g): the second term of "
                "the loss was always zero, and repel=false gives the same detector",
                float(self.radius.detach()),
                self.alpha,
            )

    def forward(self, z: Tensor) -> Tensor:
        """Scores ``[B, H, W]`` of maps ``[B, C, H, W]``, at least 0.

        Raises:
            RuntimeError: the memory bank is empty, because `setup` was not called.
        """
        d = lengths(self._distances(z, self.k))
        score = d[:, 0]
        if self.certainty:
            score = score * F.softmin(d, dim=1)[:, 0]
        return score.reshape(len(z), *z.shape[-2:])

    def _distances(self, z: Tensor, count: int) -> Tensor:
        self._check_fitted()
        with torch.autocast(z.device.type, enabled=False):
            features = rows(z).to(self.bank.dtype)
            return nearest_distances(features, self.bank, count, self.chunk, self.half_selection)


def official_bank(images: Iterable[Tensor], compression: int, seed: int) -> Tensor:
    """The mean feature map over the training set, compressed by k-means, as in the official code.

    If images differ in shape, only those of the most common shape are used. Every image has the
    same weight. (The official code gives the same weight to every batch, in shuffled order, and
    drops the last batch if it is smaller.)

    Args:
        images: the features ``[HW, C]`` of each image.
        compression: γ_c.
        seed: the seed of k-means.

    Returns:
        ``[HW // γ_c, C]``.

    Raises:
        InputError: there are no images.

    Example:
        >>> official_bank([torch.zeros(9, 2), torch.ones(9, 2)], compression=1, seed=0)[0]
        tensor([0.5000, 0.5000])
    """
    totals: dict[int, Tensor] = {}
    counts: Counter[int] = Counter()
    for features in images:
        size = len(features)
        counts[size] += 1
        totals[size] = totals[size] + features if size in totals else features.clone()
    if not counts:
        raise InputError("the training set has no images", part="dataset")
    size, count = counts.most_common(1)[0]
    return clustered(totals[size] / count, compression, seed)


def algorithm1_bank(images: Iterable[Tensor], compression: int, ema: float, seed: int) -> Tensor:
    """The paper's Algorithm 1: k-means on the first image, then a moving average over the others.

    For each further image, every centre moves towards the feature assigned to it. In the paper
    these features form a set, so no two centres share a feature. Among all such assignments we take
    the one with the smallest sum of squared distances as "nearest"; it does not depend on the order
    of the centres. This takes seconds per image for 3136 centres, and a fiftieth of that for a
    quarter of them. Images with fewer positions than centres are left out.

    Args:
        images: the features ``[HW, C]`` of each image.
        compression: γ_c.
        ema: λ in ``c ← (1 − λ) c + λ f``.
        seed: the seed of k-means.

    Returns:
        ``[HW // γ_c, C]``.

    Raises:
        InputError: there are no images.

    Example:
        >>> images = [torch.zeros(9, 2), torch.ones(9, 2)]
        >>> algorithm1_bank(images, compression=1, ema=0.25, seed=0)[0]
        tensor([0.2500, 0.2500])
    """
    stream = iter(images)
    bank = clustered(first_of(stream), compression, seed)
    for features in stream:
        if len(features) < len(bank):
            continue
        bank = bank.lerp(features[distinct_nearest(bank, features)], ema)
    return bank


def first_of(images: Iterator[Tensor]) -> Tensor:
    """The first of the images; raises an InputError if there are none."""
    first = next(images, None)
    if first is None:
        raise InputError("the training set has no images", part="dataset")
    return first


def distinct_nearest(centres: Tensor, features: Tensor) -> Tensor:
    """Assign a different feature to each centre.

    Args:
        centres: ``[M, C]``.
        features: ``[N, C]``, N at least M.

    Returns:
        Indices ``[M]`` of the features that minimise the sum of squared distances.

    Example:
        >>> centres, features = torch.tensor([[0.0], [1.0]]), torch.tensor([[9.0], [0.9], [1.1]])
        >>> distinct_nearest(centres, features)
        tensor([1, 2])
    """
    squared = torch.cdist(centres, features).square()
    _, taken = linear_sum_assignment(squared.cpu().numpy())
    return torch.from_numpy(taken).to(features.device)


def clustered(features: Tensor, compression: int, seed: int) -> Tensor:
    """The k-means centres ``[N // compression, C]`` of features ``[N, C]``.

    One k-means++ start, scikit-learn's default, and up to 3000 iterations, as in the official code.
    """
    count = len(features) // compression
    if compression == 1 or count == 0:
        return features[:count]
    kmeans = KMeans(count, n_init=1, max_iter=3000, random_state=seed)
    centres = kmeans.fit(features.cpu().numpy()).cluster_centers_
    return torch.as_tensor(centres).to(features)
