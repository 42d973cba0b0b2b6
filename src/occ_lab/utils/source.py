"""The source code of a class, as part of what determines its results."""

from __future__ import annotations

import ast
import inspect
import textwrap


def code_of(cls: type) -> str:
    """The name of a class and, if available, its source without comments and layout.

    Args:
        cls: the class.

    Returns:
        The full name and then the source. If the class was typed into an interpreter, the name
        alone.

    Example:
        >>> print(code_of(int))
        builtins.int
    """
    name = f"{cls.__module__}.{cls.__qualname__}"
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        return f"{name}\n{ast.unparse(ast.parse(source))}"
    except (OSError, TypeError, SyntaxError):
        return name
