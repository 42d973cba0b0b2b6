"""Batches in any form that a loader may return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from torch import Tensor

from occ_lab.utils.errors import InputError

Batch: TypeAlias = dict[str, Any]
AnyBatch: TypeAlias = Batch | Sequence[Tensor] | Tensor


def as_batch(batch: AnyBatch) -> Batch:
    """Convert a batch of any accepted form to a dictionary.

    Raises:
        InputError: it has none of these forms.

    Example:
        >>> import torch
        >>> sorted(as_batch((torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))))
        ['image', 'label']
    """
    if isinstance(batch, dict):
        return batch
    if isinstance(batch, Tensor):
        return {"image": batch}
    if isinstance(batch, Sequence) and len(batch) == 2:
        return {"image": batch[0], "label": batch[1]}
    raise InputError(
        "a batch must be a dictionary with image or levels, a pair of images and labels, or a "
        f"tensor of images; got {type(batch).__name__}"
    )


def batch_size_of(batch: Batch) -> int:
    """The number of images in a batch."""
    return len(batch["levels"][0] if "levels" in batch else batch["image"])
