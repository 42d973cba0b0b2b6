"""What the docstring of a class says of an argument, for keys that no comment explains."""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Argument:
    """An argument of a class.

    Attributes:
        said: what the docstring says of it; empty where it says nothing.
        annotation: its type as it is written; empty where there is none.
    """

    said: str
    annotation: str


def argument_of(target: str, name: str, folders: Iterable[Path] = ()) -> Argument | None:
    """An argument of a class, or of one that it is based on; the class's module is imported.

    Args:
        target: the dotted name of the class.
        name: of the argument.
        folders: further ones that modules are looked for in.

    Returns:
        None where there is no such class or argument.

    Example:
        >>> argument_of("occ_lab.data.base.Benchmark", "rotate").annotation
        'float'
    """
    sys.path[:0] = [str(each) for each in folders if str(each) not in sys.path]
    try:
        found = pkgutil.resolve_name(target)
    except Exception:  # a module of the user's own fails in any way
        return None
    for each in inspect.getmro(found) if inspect.isclass(found) else (found,):
        try:
            parameter = inspect.signature(each).parameters.get(name)
        except (TypeError, ValueError):  # of C
            continue
        if parameter is not None and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            typed = parameter.annotation
            if not isinstance(typed, str):
                typed = "" if typed is inspect.Parameter.empty else inspect.formatannotation(typed)
            texts = [inspect.getdoc(each) or "", inspect.getdoc(vars(each).get("__init__")) or ""]
            return Argument(next(filter(None, (line_of(one, name) for one in texts)), ""), typed)
    return None


def line_of(docstring: str, name: str) -> str:
    r"""What the ``Args`` of a docstring say of an argument.

    Example:
        >>> line_of("Sum.\n\nArgs:\n    a: one,\n        or two.\n    b: other.", "a")
        'one, or two.'
    """
    found = re.search(
        rf"^( *){re.escape(name)}(?: \([^)]*\))?:(.*(?:\n\1 +.*)*)", docstring, re.MULTILINE
    )
    return " ".join(found[2].split()) if found else ""
