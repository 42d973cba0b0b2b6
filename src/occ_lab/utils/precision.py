"""What a device computes in, and what it can hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from occ_lab.utils.errors import InputError

TF32 = Literal["none", "convolutions", "all"]

WITHOUT_FLOAT64 = frozenset({"mps"})  # kinds of devices


def float64_device(device: torch.device) -> torch.device:
    """The device for float64 tensors: ``device`` itself, or the CPU if it cannot hold them.

    Example:
        >>> float64_device(torch.device("cuda", 1)), float64_device(torch.device("mps"))
        (device(type='cuda', index=1), device(type='cpu'))
    """
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in the precision of the tensors: without autocast, and without TF32 in products.

    Products of bfloat16 are summed in float32.

    Moments need it. Their small eigenvalues, which the score depends on most, are differences of
    large numbers, and the rounding of bfloat16 or TF32 would replace them.

    Args:
        device: the device of the tensors.

    Example:
        >>> ones = torch.full((1, 1), 1.001)
        >>> with torch.autocast("cpu", torch.bfloat16), full_precision(ones.device):
        ...     (ones @ ones).dtype
        torch.float32
    """
    products: Any = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision()
    sums = products.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    products.allow_bf16_reduced_precision_reduction = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        products.allow_bf16_reduced_precision_reduction = sums


def check_training_precision(precision: str) -> None:
    """Raise an error if a Trainer would convert a detector itself to half precision.

    What an objective has learned are sums, covariances and their factors. Half precision keeps two
    or three of their digits.

    Args:
        precision: as the Trainer names it, such as ``bf16-mixed``.

    Raises:
        InputError: it is ``bf16-true``, ``16-true`` or one of an accelerator's library.

    Example:
        >>> check_training_precision("bf16-mixed")
        >>> check_training_precision("bf16-true")
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: precision: bf16-true would round what a detector has ...
    """
    if precision not in ("16-mixed", "bf16-mixed", "32-true", "64-true"):
        raise InputError(
            f"precision: {precision} would round what a detector has learned to half precision; "
            "use bf16-mixed or 16-mixed, which compute in half precision and keep float32",
            part="trainer",
        )


def allow_tf32(what: TF32) -> None:
    """Choose what Nvidia GPUs may compute in TF32, which is faster and has 10 bits after the point.

    It holds for the whole process. Other devices ignore it.

    Args:
        what: ``none``, ``convolutions`` (PyTorch's default), or ``all``: matrix products as well,
            except those of `full_precision`.

    Example:
        >>> allow_tf32("all")
        >>> torch.get_float32_matmul_precision()
        'high'
        >>> allow_tf32("convolutions")
        >>> torch.get_float32_matmul_precision()
        'highest'
    """
    torch.backends.cudnn.allow_tf32 = what != "none"
    torch.set_float32_matmul_precision("high" if what == "all" else "highest")
