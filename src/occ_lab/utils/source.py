"""The source of a class as a fact that decides what it computes."""

from __future__ import annotations

import ast
import inspect
import textwrap


def code_of(found: type) -> str:
    """The name of a class and, if it can be had, its source without comments and layout.

    Args:
        found: the class.

    Returns:
        The full name, then the source; the name alone if the class was typed into an interpreter.

    Example:
        >>> print(code_of(int))
        builtins.int
    """
    name = f"{found.__module__}.{found.__qualname__}"
    try:
        source = textwrap.dedent(inspect.getsource(found))
        return f"{name}\n{ast.unparse(ast.parse(source))}"
    except (OSError, TypeError, SyntaxError):
        return name
