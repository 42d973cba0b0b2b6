"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FAILURE = "error.txt"  # of a failed job: one line that sums up the error, then all of it


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``target`` when the block ends without an error.

    It is beside ``target`` under a hidden name, so that the last step is one rename. On any error,
    including Ctrl-C, it is removed. If another process has made ``target`` in the meantime, that
    folder is kept and the scratch folder removed.

    Args:
        target: the folder to make; its parents are made too.

    Yields:
        The scratch folder to write into.

    Example:
        >>> with tempfile.TemporaryDirectory() as base:
        ...     with whole_folder(Path(base, "run")) as scratch:
        ...         _ = (scratch / "metrics.json").write_text("{}")
        ...     [path.name for path in Path(base, "run").iterdir()]
        ['metrics.json']
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)  # mkdtemp makes it readable for its owner only
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A scratch file beside ``target`` that replaces it when the block ends without an error.

    Args:
        target: the file to write; its parents are made.

    Yields:
        The scratch file to write to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)  # mkstemp makes it readable for its owner only
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A scratch folder whose files move into ``folder`` when the block ends without an error.

    Args:
        folder: where the files go; it is made, with its parents.

    Yields:
        The scratch folder to write into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as name:
        yield Path(name)
        for file in Path(name).iterdir():
            file.replace(folder / file.name)


def write_whole(target: Path, text: str) -> None:
    """Write ``text`` to ``target`` in UTF-8 by one rename, replacing what is there."""
    with whole_file(target) as scratch:
        scratch.write_bytes(text.encode("utf-8"))
