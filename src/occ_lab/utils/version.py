"""The version of the package, as its installation records it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "0+unknown"  # of a source tree that was never installed


@cache
def installed_version() -> str:
    """The version of the installed package, made from git's tags when it was built.

    Of an editable installation it is that of the last ``pip install``.

    Returns:
        Such as ``0.1.0``; ``0.1.1.dev5+g1a2b3c4`` five commits after the tag ``v0.1.0``; and
        ``0+unknown`` where the package is on the path without being installed.

    Example:
        >>> installed_version()[0].isdigit()
        True
    """
    try:
        return version("occ-lab")
    except PackageNotFoundError:
        return UNKNOWN
