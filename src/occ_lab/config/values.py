"""What a value may be, as the comments of the YAML files have it in brackets.

Alternatives are separated by ``|``. Each is a word that is taken as it stands (``auto``), or a kind
of value, numbers with their range::

    [integer >= 1 | auto]    [number > 0 <= 0.5 | null]    [list of integer >= 1]    [true | false]
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KINDS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "text": lambda value: isinstance(value, str | int | float),
    "file": lambda value: isinstance(value, str),
    "folder": lambda value: isinstance(value, str),
    "list": lambda value: isinstance(value, list | tuple),
    "mapping": lambda value: isinstance(value, dict),
}
PATHS = {"file", "folder"}
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Allowed:
    """What a value may be.

    Attributes:
        text: as it stands in the brackets.

    Raises:
        ValueError: the text cannot be read.

    Example:
        >>> allowed = Allowed("integer >= 1 | auto")
        >>> allowed.words, allowed.accepts(3), allowed.accepts("auto"), allowed.accepts(0)
        (['auto'], True, True, False)
    """

    text: str

    def __post_init__(self) -> None:
        for each in self.alternatives:
            check(each)

    @property
    def alternatives(self) -> list[str]:
        """Each without spaces around it."""
        return [each.strip() for each in self.text.split("|")]

    @property
    def words(self) -> list[str]:
        """The alternatives that are taken as they stand."""
        return [each for each in self.alternatives if each.split()[0] not in KINDS]

    @property
    def path(self) -> str | None:
        """``file`` or ``folder`` where the value may be one."""
        kinds = {each.removeprefix("list of ").split()[0] for each in self.alternatives}
        return "file" if "file" in kinds else "folder" if "folder" in kinds else None

    @property
    def in_words(self) -> str:
        """The alternatives as a sentence has them.

        Example:
            >>> Allowed("number > 0 <= 0.5 | auto | null").in_words
            'number > 0 and <= 0.5, auto or null'
        """
        each = [
            re.sub(r"(\S) ([<>]=?) (\S+) ([<>])", r"\1 \2 \3 and \4", one)
            for one in self.alternatives
        ]
        return " or ".join(part for part in (", ".join(each[:-1]), each[-1]) if part)

    def accepts(self, value: Any) -> bool:
        """Whether a value is one of the alternatives."""
        return any(fits(value, each) for each in self.alternatives)


def check(alternative: str) -> None:
    """Refuse an alternative that cannot be read.

    Raises:
        ValueError: as it says.
    """
    kind, *rest = alternative.removeprefix("list of ").split()
    if kind not in KINDS and (rest or alternative != kind):
        raise ValueError(f"[{alternative}]: {kind} is not one of {', '.join(KINDS)}")
    for sign, bound in zip(rest[::2], rest[1::2], strict=True):
        if sign not in COMPARISONS:
            raise ValueError(f"[{alternative}]: {sign} is not one of {', '.join(COMPARISONS)}")
        float(bound)


def fits(value: Any, alternative: str) -> bool:
    """Whether a value is what one alternative says."""
    if alternative.startswith("list of "):
        each = alternative.removeprefix("list of ")
        return KINDS["list"](value) and all(fits(one, each) for one in value)
    kind, *rest = alternative.split()
    if kind not in KINDS:
        return written(value) == kind
    return KINDS[kind](value) and all(
        COMPARISONS[sign](value, float(bound))
        for sign, bound in zip(rest[::2], rest[1::2], strict=True)
    )


def written(value: Any) -> str:
    """A value as YAML has it.

    Example:
        >>> written(None), written(True), written(math.inf)
        ('null', 'true', '.inf')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ".inf" if value == math.inf else str(value)
