"""What a command sets for its whole process before any work."""

from __future__ import annotations

from typing import get_args

from omegaconf import DictConfig

from occ_lab.config.errors import UserError
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.precision import TF32, allow_tf32


def prepare_process(cfg: DictConfig) -> None:
    """Keep freed memory, and let a GPU compute in TF32 what ``cfg.tf32`` allows.

    Raises:
        UserError: an unknown value of ``tf32``.
    """
    if cfg.tf32 not in get_args(TF32):
        raise UserError(f"tf32 must be one of {', '.join(get_args(TF32))}, got {cfg.tf32!r}")
    keep_freed_memory()
    allow_tf32(cfg.tf32)
