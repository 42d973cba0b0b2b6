"""YAML and JSON files from untrusted sources, read as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from occ_lab.utils.errors import InputError

LARGEST_YAML = 2**20  # bytes; a typical configuration has a few thousand
LARGEST_JSON = 2**28  # bytes; a million scores take 20 million


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads plain data and refuses aliases, with which a short file can stand for a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As in PyYAML, except that aliases are refused.

        Raises:
            yaml.YAMLError: the file contains an alias.
        """
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which OCC Lab does not write")
        return super().compose_node(parent, index)


def read_yaml(path: Path, part: str = "") -> Any:
    """The content of a YAML file of at most 1 MiB, without tags and aliases.

    Args:
        path: the file.
        part: the ``part`` of the `InputError`.

    Raises:
        InputError: the file cannot be read, is too large or damaged; the message names the file.
    """
    return read(path, part, LARGEST_YAML, lambda text: yaml.load(text, PlainLoader))


def read_json(path: Path, part: str = "") -> Any:
    """The content of a JSON file of at most 256 MiB; otherwise as `read_yaml`."""
    return read(path, part, LARGEST_JSON, json.loads)


def read(path: Path, part: str, largest: int, parse: Callable[[str], Any]) -> Any:
    """What ``parse`` returns for the text of a file.

    Args:
        path: the file, in UTF-8.
        part: the ``part`` of the `InputError`.
        largest: the largest size in bytes that is read.
        parse: raises a `ValueError` or `yaml.YAMLError` if the text is damaged.

    Raises:
        InputError: as in `read_yaml`.
    """
    try:
        size = path.stat().st_size
        if size > largest:
            raise ValueError(f"it has {size:,} bytes, and at most {largest:,} are read")
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason})", part=part) from error
