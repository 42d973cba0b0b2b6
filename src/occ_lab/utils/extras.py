"""Packages that come with an extra of the installation."""

from __future__ import annotations

import importlib
from types import ModuleType

from occ_lab.utils.errors import InputError


def from_extra(module: str, extra: str, part: str = "") -> ModuleType:
    """Import a module of a package that an extra brings.

    Args:
        module: its name, such as ``kornia.augmentation``.
        extra: of the installation, such as ``two-stage``.
        part: see `occ_lab.utils.errors.InputError`.

    Raises:
        InputError: the package is not installed; the message says how to install it.

    Example:
        >>> from_extra("json", "none").dumps([1])
        '[1]'
        >>> from_extra("not_there.at_all", "onnx")
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: not_there is not installed; pip install 'occ-lab[onnx]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if (error.name or "").split(".")[0] != package and error.name is not None:
            raise  # something that the package itself lacks
        raise InputError(
            f"{package} is not installed; pip install 'occ-lab[{extra}]'", part=part
        ) from error
