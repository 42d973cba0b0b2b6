"""Which centres of a bank are nearest to features, by products in full or in half precision."""

from __future__ import annotations

from functools import lru_cache
from itertools import count as count_from
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from occ_lab.utils.precision import full_precision

GROUP = 64  # values whose minimum is taken first, see `smallest`
CPU_BLOCK = 2**20  # distances at a time: those of float32 stay in the cache of a core
CPU_HALF_BLOCK = 2**22  # of bfloat16, whose product is faster in larger pieces
GPU_BLOCK = 2**26  # these fill a GPU
EXPORTED = 1024  # features at a time in an exported graph, which has a node for each part
HALF_FROM = 1000  # centres; with fewer, the product is a small part of the work
MORE = 5  # candidates beside twice the requested number, see `Bounds`
ROUNDING = 2.0**-8  # the largest relative error of a number in bfloat16


def smallest(values: Tensor, count: int) -> Tensor:
    """The indices of the smallest values of each row, which is faster than one ``topk`` over all.

    The smallest ``count`` values lie in the ``count`` groups with the smallest minima.

    Args:
        values: ``[N, M]``, M a multiple of `GROUP`.
        count: from 1 to M.

    Returns:
        ``[N, count]``, int64, the smallest value first.

    Example:
        >>> smallest(torch.arange(128.0).flip(0)[None], 2)
        tensor([[127, 126]])
    """
    groups = values.reshape(len(values), -1, GROUP)
    if groups.shape[1] <= 2 * count:
        return values.topk(count, dim=1, largest=False).indices
    chosen = groups.amin(dim=2).topk(count, dim=1, largest=False).indices
    found = groups.gather(1, chosen[..., None].expand(-1, -1, GROUP)).flatten(1)
    within = found.topk(count, dim=1, largest=False).indices
    return chosen.gather(1, within // GROUP) * GROUP + within % GROUP


def rows_at_a_time(chunk: int | None, centres: Tensor, half: bool = False) -> int:
    """How many features are compared with all centres at a time.

    Args:
        chunk: the number that was asked for; None suits the device and the number of centres.
        centres: ``[M, C]``.
        half: whether they are compared in half precision.

    Example:
        >>> rows_at_a_time(None, torch.empty(2**12, 3)), rows_at_a_time(7, torch.empty(2**12, 3))
        (256, 7)
    """
    if chunk is not None:
        return chunk
    if torch.compiler.is_exporting():
        return EXPORTED
    block = GPU_BLOCK
    if centres.device.type == "cpu":
        block = CPU_HALF_BLOCK if half else CPU_BLOCK
    return max(1, block // max(1, len(centres)))


class Order:
    """The nearest centres by ``‖c‖² − 2 f·c``, which orders centres c as ``‖f − c‖²`` does.

    Args:
        bank: the centres ``[M, C]``.

    Example:
        >>> order = Order(torch.tensor([[0.0, 0.0], [3.0, 0.0], [9.0, 0.0]]))
        >>> order.nearest(torch.tensor([[1.0, 0.0]]), 2)
        (tensor([[1., 4.]]), tensor([[0, 1]]))
    """

    def __init__(self, bank: Tensor) -> None:
        self.bank = bank
        # Vectors relative to the mean are shorter, so rounding affects distances less.
        self.origin = bank.mean(dim=0)
        centres = bank - self.origin
        # Centres that nothing is near fill the last group of `smallest`.
        missing = -len(bank) % GROUP
        self.squares = F.pad(centres.square().sum(dim=1), (0, missing), value=torch.inf)
        self.centres = F.pad(centres, (0, 0, 0, missing))

    def nearest(
        self, features: Tensor, count: int, beyond: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Squared distances to the nearest centres, and their indices, both ``[N, count]``.

        Args:
            features: ``[N, C]``.
            count: from 1 to M.
            beyond: bool ``[N, M]``, centres that are only selected if there are too few others;
                None selects any.
        """
        shifted = (features - self.origin).to(self.bank.dtype)
        order = torch.addmm(self.squares, shifted, self.centres.T, alpha=-2)
        if beyond is not None:
            # By more than their range, so that those beyond come last and keep their order.
            inside = order[:, : len(self.bank)]
            further = inside.amax() - inside.amin() + 1
            inside += further * beyond
        return ranked(features, self.bank, smallest(order, count), count)


class Bounds:
    """The nearest centres by lower bounds of ``‖c‖² − 2 f·c`` from one product in bfloat16.

    Rounding changes a number by at most the fraction u = 2⁻⁸ of it, and thus f·c by at most
    ``(2u + u²) ‖f‖ ‖c‖`` (Cauchy & Schwarz). That much, and more for the sum in float32, is
    subtracted by the product itself, from one further channel. A few more centres than requested,
    those with the lowest bounds, are compared in full precision. If the requested ones among them
    are nearer than the highest of these bounds, no other centre is nearer: they are certain.

    Args:
        order: has the centres in full precision.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        huge = torch.finfo(torch.bfloat16).max / 4  # infinity times zero would not be a number
        squares = order.squares.clamp_max(huge)[:, None].float()
        parts: list[Tensor] = []
        for _ in range(3):  # three numbers of 8 bits have the 24 bits of float32
            parts.append((squares - sum(parts)).bfloat16().float())
        channels = order.centres.shape[1]
        error = 2 * (2 * ROUNDING + ROUNDING**2 + channels * 2.0**-23)
        lengths = error * torch.linalg.vector_norm(order.centres, dim=1, keepdim=True)
        product = torch.cat([-2 * order.centres.float(), *parts, -raised(lengths.float())], dim=1)
        self.product = product.bfloat16()

    def nearest(self, features: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """As `Order.nearest`; the third tensor, bool ``[N]``, is True for rows that are certain."""
        bank = self.order.bank
        shifted = (features - self.order.origin).float()
        lengths = torch.linalg.vector_norm(shifted, dim=1, keepdim=True)
        ones = torch.ones_like(lengths).expand(-1, 3)
        with full_precision(bank.device):
            rounded = torch.cat([shifted, ones, raised(lengths)], dim=1).bfloat16()
            bounds = (rounded @ self.product.T).float()  # whose minima are found faster
        candidates = smallest(bounds, min(2 * count + MORE, len(bank)))
        distances, indices = ranked(features, bank, candidates, count)
        highest = bounds.gather(1, candidates[:, -1:])[:, 0]
        # Below its rounding, and by more than that of the squares of a length in float32.
        limit = highest - 2 * ROUNDING * highest.abs() + (1 - 2.0**-18) * lengths[:, 0].square()
        return distances, indices, distances[:, -1] <= limit


def raised(lengths: Tensor) -> Tensor:
    """Lengths that rounding to bfloat16 does not make smaller than they were."""
    return lengths * (1 + 2 * ROUNDING)


def ranked(features: Tensor, bank: Tensor, near: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest of a few centres of each feature.

    Distances are computed from differences: near a centre, ``‖f‖² − 2 f·c + ‖c‖²`` is mostly
    rounding error.

    Args:
        features: ``[N, C]``.
        bank: the centres ``[M, C]``.
        near: the indices of the few, ``[N, K]``.
        count: from 1 to K.

    Returns:
        Squared distances, the nearest first, and indices of centres, both ``[N, count]``.
    """
    apart = F.embedding(near, bank) - features[:, None]
    squared = apart.square_().sum(dim=2)
    squared, order = squared.topk(count, dim=1, largest=False)
    return squared, near.gather(1, order)


def nearest_in_full(
    order: Order,
    features: Tensor,
    count: int,
    chunk: int,
    places: tuple[Tensor, Tensor] | None = None,
    window: int = 0,
) -> tuple[Tensor, Tensor]:
    """The nearest centres, by products in full precision.

    Args:
        order: has the M centres.
        features: ``[N, C]``.
        count: from 1 to M.
        chunk: the number of features that are compared with all centres at a time.
        places: see `nearest_distances`.
        window: likewise.

    Returns:
        Squared distances, the nearest first, and indices of centres, both ``[N, count]``.
    """
    found = []
    for start, part in zip(count_from(0, chunk), torch.split(features, chunk), strict=False):
        far = None
        if places is not None:
            here, there = places
            far = beyond(here[start : start + chunk], there, window)
        found.append(order.nearest(part, count, far))
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def nearest_by_bounds(
    order: Order, features: Tensor, count: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """As `nearest_in_full`, in half precision first, and in full where that is not certain.

    If this is so for most features, because all centres are about equally near, the bounds are
    not computed for the others.
    """
    bounds = Bounds(order)
    found = []
    for part in torch.split(features, chunk):
        found.append(bounds.nearest(part, count))
        if 2 * int(found[-1][2].sum()) < len(part):
            break
    distances, indices, certain = (torch.cat(each) for each in zip(*found, strict=True))
    others = F.pad(certain, (0, len(features) - len(certain))).logical_not().nonzero()[:, 0]
    if not len(others):
        return distances, indices
    size = rows_at_a_time(None, order.bank)
    more = nearest_in_full(order, features[others], count, min(chunk, size))
    whole = [each.new_empty(len(features), count) for each in (distances, indices)]
    for target, part, rest in zip(whole, (distances, indices), more, strict=True):
        target[: len(part)] = part
        target[others] = rest
    return whole[0], whole[1]


def beyond(here: Tensor, there: Tensor, window: int) -> Tensor:
    """Whether places ``[N, 2]`` and ``[M, 2]`` are more than ``window`` apart, bool ``[N, M]``.

    Example:
        >>> beyond(torch.tensor([[0, 0]]), torch.tensor([[1, 1], [0, 2]]), window=1)
        tensor([[False,  True]])
    """
    rows = (here[:, None, 0] - there[:, 0]).abs() > window
    return rows | ((here[:, None, 1] - there[:, 1]).abs() > window)


def half_pays(bank: Tensor) -> bool:
    """Whether `Bounds` are faster than an `Order`.

    They are on an x86 processor with instructions for bfloat16. GPUs and others were not measured.

    Args:
        bank: the centres ``[M, C]``.
    """
    return bank.device.type == "cpu" and len(bank) >= HALF_FROM and _multiplies_bfloat16()


@lru_cache(maxsize=1)
def _multiplies_bfloat16() -> bool:
    # PyTorch 2.11 cannot tell.
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
