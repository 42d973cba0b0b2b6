"""A YAML file of the configuration with its comments, which explain the keys.

The rule: **the comment above a key explains it, and ends with what the value may be, in brackets.**

.. code-block:: yaml

    # Number of neighbours over which the distance is averaged. [integer >= 1]
    k: 1

`occ_lab.config.values` has the language of the brackets. A key that several files give is explained
in one of them; a comment without brackets is a remark on the value. Brackets above a key with keys
below it explain all of these. The first comment of a file is about the file. Classes have
docstrings as well, for Python; where a user's own file has no comment, the ``Args`` of its class
are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where it is there
PACKAGE = "@package"


@dataclass(frozen=True)
class Key:
    """A key of a file.

    Attributes:
        value: as it is typed; None where further keys are below it.
        said: the comment above it, without brackets; empty where there is none.
        allowed: what stands in the brackets; None where there are none.
    """

    value: str | None
    said: str = ""
    allowed: str | None = None


@dataclass(frozen=True)
class YamlFile:
    """A file.

    Attributes:
        about: its first comment.
        package: of its ``@package`` line, if any.
        defaults: its list of defaults.
        keys: by dotted names, in order.
    """

    about: str = ""
    package: str | None = None
    defaults: list[Any] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=dict)


@cache
def read(path: Path) -> YamlFile:
    """Read a file.

    Raises:
        yaml.YAMLError: it cannot be read.
        OSError: likewise.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    first = [line.lstrip("# ") for line in head(lines)]
    packages = [line.split()[1] for line in first if line.startswith(PACKAGE)]
    package = packages[0] if packages else None
    about = joined(line for line in first if not line.startswith(PACKAGE))
    root = yaml.compose(text, Loader=LOADER)
    if not isinstance(root, yaml.MappingNode):
        return YamlFile(about, package)
    found = list(keys_of(root, text, lines, len(head(lines)), ""))
    defaults = [value for name, value in root.value if name.value == "defaults"]
    listed = yaml.load(text, Loader=LOADER)["defaults"] if defaults else []
    own = {name: key for name, key in found if name.split(".")[0] != "defaults"}
    return YamlFile(about, package, listed or [], own)


def head(lines: list[str]) -> list[str]:
    """The lines of the first comment."""
    end = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def keys_of(
    node: yaml.MappingNode, text: str, lines: list[str], begin: int, before: str
) -> Iterator[tuple[str, Key]]:
    """The keys of a node and of those below it, each with the comment above it.

    Args:
        node: of the file.
        text: of the file.
        lines: of the text.
        begin: where its first comment ends, which belongs to no key.
        before: the dotted name of the node with a dot, or nothing.
    """
    for name, value in node.value:
        said, allowed = split(comment_above(lines, name.start_mark.line, begin))
        below = isinstance(value, yaml.MappingNode) and bool(value.value)
        typed = None if below else text[value.start_mark.index : value.end_mark.index].strip()
        yield f"{before}{name.value}", Key(typed, said, allowed)
        if below:
            yield from keys_of(value, text, lines, begin, f"{before}{name.value}.")


def comment_above(lines: list[str], at: int, begin: int) -> str:
    """The comment directly above a line."""
    start = at
    while start > begin and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return joined(line.strip().lstrip("# ") for line in lines[start:at])


def joined(lines: Any) -> str:
    """The lines of a comment as one."""
    return " ".join(line for line in lines if line)


def split(comment: str) -> tuple[str, str | None]:
    """A comment without its brackets, and what stands in them.

    Example:
        >>> split("Number of neighbours. [integer >= 1]")
        ('Number of neighbours.', 'integer >= 1')
        >>> split("It is 5 here.")
        ('It is 5 here.', None)
    """
    found = re.fullmatch(r"(.*?)\s*\[([^\[\]]+)\]", comment)
    return (found[1], found[2]) if found else (comment, None)
