"""JPEG files as batches, in the plainest way: what the reading of the project is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BATCH = 128


class Decoded(Dataset[Tensor]):
    """JPEG files as uint8 ``[h, w, 3]``, read in the plainest way."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(Image.open(self.paths[index]).convert("RGB")))


def plain_loader(paths: Sequence[Path], processes: int, pinned: bool) -> DataLoader[Tensor]:
    """Batches of decoded files.

    Args:
        paths: the files.
        processes: the number of processes that read them; 0 reads them in this one.
        pinned: whether batches are in pinned memory.
    """
    return DataLoader(
        Decoded(paths),
        min(BATCH, len(paths)),
        num_workers=processes,
        pin_memory=pinned,
        persistent_workers=processes > 0,
        # A fork of a process with threads may hang.
        multiprocessing_context="forkserver" if processes else None,
    )
