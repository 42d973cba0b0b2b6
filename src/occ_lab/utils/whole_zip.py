"""A check that a checkpoint is complete."""

from __future__ import annotations

import zipfile
from pathlib import Path


def is_whole(path: Path) -> bool:
    """Whether a file of ``torch.save`` is complete and unchanged, by its own checksums.

    Example:
        >>> import torch
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "state.ckpt")
        ...     torch.save({"weight": torch.zeros(9)}, path)
        ...     whole = is_whole(path)
        ...     _ = path.write_bytes(path.read_bytes()[:-9])
        ...     whole, is_whole(path)
        (True, False)
    """
    if path.is_dir():  # written by a strategy that shards the model
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return False
