"""Many small arrays, of which only the first are kept in memory and the others in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**26  # bytes


class Spooled(Sequence[Tensor]):
    """Tensors on the CPU in the order of their arrival, whose memory does not grow with them.

    Once they exceed the limit, they are written to a temporary file without a name, which the
    system removes with the object. It is in the folder that `tempfile` chooses (``TMPDIR``).

    Args:
        limit: the bytes in memory.

    Example:
        >>> spooled = Spooled(limit=0)  # everything is written to the file
        >>> spooled.append(torch.ones(2, 3))
        >>> spooled.append(torch.zeros(1))
        >>> len(spooled), spooled[0].shape, spooled[-1]
        (2, torch.Size([2, 3]), tensor([0.]))
    """

    def __init__(self, limit: int = IN_MEMORY) -> None:
        self._file = tempfile.SpooledTemporaryFile(limit)  # noqa: SIM115, it lives as long as this
        self._kinds: dict[tuple[tuple[int, ...], torch.dtype], int] = {}  # few: shapes and dtypes
        self._kind = np.empty(0, np.int32)
        self._start = np.empty(0, np.int64)
        self._count = 0
        self._end = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, in memory or in the file."""
        return self._end

    def append(self, value: Tensor) -> None:
        """Add a tensor of any shape."""
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy()
        kind = self._kinds.setdefault((tuple(value.shape), value.dtype), len(self._kinds))
        if self._count == len(self._start):
            longer = max(64, 2 * self._count)
            self._kind = np.resize(self._kind, longer)
            self._start = np.resize(self._start, longer)
        self._kind[self._count], self._start[self._count] = kind, self._end
        self._count += 1
        self._file.seek(self._end)
        self._end += self._file.write(content.data)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """A copy of one tensor, or of several."""
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        place = range(self._count)[index]
        shape, dtype = list(self._kinds)[self._kind[place]]
        found = torch.empty(shape, dtype=dtype)
        self._file.seek(int(self._start[place]))
        content = self._file.read(found.nbytes)
        found.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(content, np.uint8)
        return found


class Reordered(Sequence[Tensor]):
    """The elements of a sequence in another order; nothing is copied before it is asked for.

    Args:
        values: the sequence.
        order: the index of each element in it.

    Example:
        >>> list(Reordered([torch.tensor(1), torch.tensor(2)], [1, 0]))
        [tensor(2), tensor(1)]
    """

    def __init__(self, values: Sequence[Tensor], order: Sequence[int]) -> None:
        self.values = values
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """One element, or several."""
        if isinstance(index, slice):
            return [self.values[each] for each in self.order[index]]
        return self.values[self.order[index]]
