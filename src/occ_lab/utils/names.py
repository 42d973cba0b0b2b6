"""Names of files that hold any bytes, as text to be shown and as names of other files."""

from __future__ import annotations

LONGEST = 240  # bytes; file systems allow 255


def printable(name: str) -> str:
    r"""A name as text of one line: what is no letter of any text is written as an escape.

    Example:
        >>> printable("caf\udce9\n.png")
        'caf\\udce9\\n.png'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def file_name(text: str, suffix: str) -> str:
    """A name for a file that is made of another name, cut if it would be too long.

    Args:
        text: what it is made of; slashes and what cannot be printed are replaced.
        suffix: with its dot.

    Example:
        >>> file_name("line 1/part", ".png")
        'line 1_part.png'
    """
    whole = printable(text).replace("/", "_").replace("\\", "_").encode()
    return whole[: LONGEST - len(suffix)].decode(errors="ignore") + suffix
