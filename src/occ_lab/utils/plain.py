"""YAML and JSON files that anybody may have written, read as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from occ_lab.utils.errors import InputError

LARGEST_YAML = 2**20  # bytes; a configuration has some thousand
LARGEST_JSON = 2**28  # bytes; a million scores have 20 million


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads plain data without aliases, which let a short file stand for a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As of PyYAML, but for aliases.

        Raises:
            yaml.YAMLError: there is an alias.
        """
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which OCC Lab does not write")
        return super().compose_node(parent, index)


def read_yaml(path: Path, part: str = "") -> Any:
    """The content of a YAML file of at most 1 MiB, without tags and aliases.

    Args:
        path: the file.
        part: of an `InputError`.

    Raises:
        InputError: it cannot be read, is too large or damaged; the message names it.
    """
    return read(path, part, LARGEST_YAML, lambda text: yaml.load(text, PlainLoader))


def read_json(path: Path, part: str = "") -> Any:
    """The content of a JSON file of at most 256 MiB; otherwise as `read_yaml`."""
    return read(path, part, LARGEST_JSON, json.loads)


def read(path: Path, part: str, largest: int, parse: Callable[[str], Any]) -> Any:
    """What ``parse`` makes of a file's text.

    Args:
        path: the file, in UTF-8.
        part: of an `InputError`.
        largest: bytes that it may have.
        parse: raises a `ValueError` or `yaml.YAMLError` where the text is damaged.

    Raises:
        InputError: as of `read_yaml`.
    """
    try:
        size = path.stat().st_size
        if size > largest:
            raise ValueError(f"it has {size:,} bytes, and at most {largest:,} are read")
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason})", part=part) from error
