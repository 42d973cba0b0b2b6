"""Modules whose buffers get their size from the data."""

from __future__ import annotations

from typing import Any

from torch import nn


class SizedByData(nn.Module):
    """A module with buffers whose size only the data determine: they load from any shape.

    Attributes:
        learned: the names of these buffers. They are empty at first.
    """

    learned: tuple[str, ...] = ()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.learned:
            buffer = getattr(self, name)
            shape = state_dict.get(f"{prefix}{name}", buffer).shape
            setattr(self, name, buffer.new_empty(shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
