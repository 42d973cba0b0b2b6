"""Modules whose tensors take their size from the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from occ_lab.utils.precision import float64_device

if TYPE_CHECKING:
    from typing_extensions import Self


class SizedByData(nn.Module):
    """A module with tensors whose size depends on the data, so it loads a state of any size.

    Attributes:
        learned: the names of these buffers and parameters. They are empty until then.
    """

    learned: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.learned:
            held = getattr(self, name)
            saved = state_dict.get(f"{prefix}{name}", held)
            if held.shape != saved.shape:
                # empty_like keeps the memory layout, which suits the computations.
                sized = torch.empty_like(saved, dtype=held.dtype, device=held.device)
                setattr(self, name, nn.Parameter(sized) if name in self._parameters else sized)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Sums(SizedByData):
    """A module whose buffers are sums in float64.

    It moves to other devices like any module, but the sums stay on the CPU if the device cannot
    hold float64, see `float64_device`.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        there = fn(torch.empty(0)).device
        if float64_device(there) != there:
            return self
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved
