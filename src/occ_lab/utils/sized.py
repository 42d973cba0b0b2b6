"""Modules whose tensors take their size from the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


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
