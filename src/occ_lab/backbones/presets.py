"""Backbones by the names of their presets, the files in ``conf/backbone``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from occ_lab.backbones.base import Backbone
from occ_lab.utils.conf import conf_dir
from occ_lab.utils.errors import InputError


def create(name: str, **overrides: Any) -> Backbone:
    """Make a backbone from a preset.

    Args:
        name: the name of the preset, see `preset_files`.
        overrides: arguments of the backbone's class that replace those of the preset, such as
            ``weights``, ``output`` or ``precision``.

    Returns:
        A `TimmBackbone`, `LearnedBackbone` or `LeNet`.

    Raises:
        InputError: the preset does not exist, an argument is missing or unknown, or the weights
            are not available.
        ValueError: an argument is out of range; the message begins with its name.

    Example:
        >>> from occ_lab.backbones import create
        >>> create("resnet18", weights="random", strides=[4, 8]).channels
        [64, 128]
        >>> create("resnet81")
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: no backbone preset 'resnet81'; did you mean resnet18, ...?
    """
    files = preset_files()
    if name not in files:
        close = difflib.get_close_matches(name, files)
        hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(files)}"
        raise InputError(f"no backbone preset {name!r}; {hint}", part="backbone")
    content = preset(files[name])
    given = {
        key: value for key, value in content.items() if key != "_target_" and not composed(value)
    }
    arguments = {**given, **overrides}
    missing = [key for key, value in arguments.items() if value == "???"]
    if missing:
        raise InputError(f"{missing[0]}: the preset {name} needs a value", part="backbone")
    module, _, found = content["_target_"].rpartition(".")
    try:
        made: Backbone = getattr(importlib.import_module(module), found)(**arguments)
    except TypeError as error:
        raise InputError(
            f"the preset {name} does not take this: {error}", part="backbone"
        ) from error
    return made


def preset(file: Path) -> dict[str, Any]:
    """What a preset file holds, with what the files hold that it is based on."""
    own: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    content: dict[str, Any] = {}
    for base in own.pop("defaults", []):
        if isinstance(base, str) and base != "_self_":
            content |= preset(file.parent / f"{base.partition('@')[0]}.yaml")
    return content | own


def preset_files() -> Mapping[str, Path]:
    """The preset files by name, in alphabetical order.

    Example:
        >>> list(preset_files())[:3]
        ['dinov2_base', 'dinov2_base_reg', 'dinov2_giant']
    """
    return {path.stem: path for path in sorted(Path(conf_dir(), "backbone").glob("*.yaml"))}


def composed(value: object) -> bool:
    """Whether Hydra would insert the value; the class's own default is used instead."""
    return isinstance(value, str) and value.startswith("${")
