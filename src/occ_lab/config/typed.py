"""Paths and names on the command line, as they are typed.

Hydra reads ``2024_01_05`` as a number and ``a,b`` as a sweep, and cannot read ``~``, brackets,
``=`` or letters outside of ASCII unless they are quoted.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from occ_lab.config.errors import UserError

NAMES = {"category", "name", "density", "task", "trust", "attribute", "project", "entity", "group"}
PATHS = {"abnormal", "dir", "folder", "input", "masks", "normal", "output", "path", "root", "run"}
PATHS |= {"save_dir", "searchpath", "state", "subdir", "weights"}
LISTS = {"category", "density", "searchpath", "state", "trust"}  # may be [a,b]
FUNCTION = re.compile(r"(choice|glob|range|interval|shuffle|sort|tag)\(.*\)", re.DOTALL)
PARSER = OverridesParser.create()


def as_typed(
    argument: str, default: Callable[[str], Any], sweeps: Callable[[], bool] = lambda: False
) -> str:
    """An override such that Hydra reads its value as typed, where that is a path or a name.

    In a multirun, commas separate the values of a sweep; brackets make a list where the key takes
    one; what the user has quoted for Hydra stays as it is. ``~`` is the home folder.

    Args:
        argument: ``KEY=VALUE``; all others are returned as they are.
        default: returns the value of a key that is not overridden. A path or name whose default is
            a number, as ``dataset.normal`` is for a generated benchmark, is read by Hydra.
        sweeps: whether the command is a multirun.

    Raises:
        UserError: the value is empty or ambiguous; the message shows how to write it.

    Example:
        >>> as_typed("dataset.root=/data/2024 (1)", lambda key: "data")
        "dataset.root='/data/2024 (1)'"
        >>> as_typed("dataset.category=a,b", lambda key: "all", lambda: True)
        'dataset.category=a,b'
    """
    signed, equals, value = argument.partition("=")
    key = signed.lstrip("+")
    last = key.rpartition(".")[2]
    if not equals or not re.fullmatch(r"\+{0,2}[\w.]+", signed) or last not in NAMES | PATHS:
        return argument
    if not value:
        raise UserError(f"{key} is empty; give it a value")
    read = hydra_reads(value)
    if isinstance(read, str) and (read == value or "\\" in value):
        return argument
    if isinstance(read, int | float) and isinstance(default(key), int | float):
        return argument
    if read is None and not isinstance(default(key), str):
        if last in PATHS and Path(value).exists():
            raise UserError(f"{key}={value} means none; write {key}=./{value} for what is there")
        return argument
    if FUNCTION.fullmatch(value) and sweeps():
        return argument
    if last in LISTS and value[0] == "[" and value[-1] == "]":
        listed = ",".join(quoted_once(each, last) for each in parts(value[1:-1]))
        return f"{signed}=[{listed}]"
    if "," in value and not isinstance(read, QuotedString) and sweeps():
        return f"{signed}={','.join(quoted_once(each, last) for each in parts(value))}"
    if last in LISTS and "," in value and not isinstance(read, QuotedString):
        raise UserError(
            f"{key}={value}: several values are a list, {key}=[{value}], or with -m a sweep; quote "
            f"one that holds a comma, {shown_quoted(key, value)}"
        )
    return f"{signed}={quoted_once(value, last)}"


def hydra_reads(value: str) -> Any:
    """The value that Hydra reads, a `QuotedString` where it is quoted; Ellipsis if it cannot."""
    try:
        return PARSER.parse_override(f"key={value}")._value
    except HydraException:
        return ...


def quoted_once(value: str, last: str) -> str:
    """A value quoted for Hydra, unless it is already; a path with ``~`` replaced by the home."""
    read = hydra_reads(value)
    text = read.text if isinstance(read, QuotedString) else value
    expanded = os.path.expanduser(text) if last in PATHS else text  # noqa: PTH111, no Path yet
    if expanded == text and (read == value or isinstance(read, QuotedString)):
        return value
    return quoted(expanded)


def quoted(text: str, quote: Quote = Quote.single) -> str:
    r"""A text in quotes that Hydra reads as it is.

    Example:
        >>> print(quoted("it's"))
        'it\'s'
    """
    return QuotedString(text, quote).with_quotes()


def shown_quoted(key: str, value: str) -> str:
    """An override as the user can type it in a shell, with the value quoted for Hydra as well.

    Example:
        >>> print(shown_quoted("dataset.name", "a,b"))
        'dataset.name="a,b"'
    """
    return shlex.quote(f"{key}={quoted(value, Quote.double)}")


def parts(text: str) -> list[str]:
    """What commas separate, but for those in quotes or brackets.

    Example:
        >>> parts("a,'b,c', [d,e]")
        ['a', "'b,c'", '[d,e]']
    """
    found, depth, quote = [""], 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "'\"" and not found[-1].strip():
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth = max(0, depth - 1)
        elif letter == "," and not depth:
            found.append("")
            continue
        found[-1] += letter
    return [each.strip() for each in found if each.strip()]
