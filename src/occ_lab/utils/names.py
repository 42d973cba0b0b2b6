"""File names, which may hold any bytes, as printable text and as parts of other file names."""

from __future__ import annotations

LONGEST = 240  # bytes; file systems allow 255


def printable(name: str) -> str:
    r"""A name as one line of text, with escapes for characters that cannot be printed.

    Example:
        >>> printable("caf\udce9\n.png")
        'caf\\udce9\\n.png'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def file_name(text: str, suffix: str) -> str:
    """The name of a file that is derived from another name, cut if it would be too long.

    Args:
        text: the other name; slashes and characters that cannot be printed are replaced.
        suffix: of the new file, with its dot.

    Example:
        >>> file_name("line 1/part", ".png")
        'line 1_part.png'
    """
    whole = printable(text).replace("/", "_").replace("\\", "_").encode()
    return whole[: LONGEST - len(suffix)].decode(errors="ignore") + suffix
