"""The errors that a caller can correct, and the check that most often raises one."""

from __future__ import annotations


class InputError(ValueError):
    """An error that the caller can correct: missing data, a value out of range, a damaged file.

    The message says what is wrong, where, and what to do, in the terms of the class or function
    that raises it. The commands add the configuration key and print it without a traceback.

    Args:
        message: begins with the name of the argument if one is at fault: ``root: no mvtec data in
            /data``.
        part: the part of a detector or of a run that the argument belongs to, such as ``dataset``,
            ``backbone``, ``projector``, ``objective``, ``cache``, ``postprocessing`` or
            ``trainer``; empty if the message needs no such context.

    Example:
        >>> raise InputError("root: no mvtec data in /data", part="dataset")
        Traceback (most recent call last):
        occ_lab.utils.errors.InputError: root: no mvtec data in /data
    """

    def __init__(self, message: str, part: str = "") -> None:
        super().__init__(message)
        self.part = part


class MissingError(InputError, FileNotFoundError):
    """A file or folder that the caller has named does not exist."""


class ImageError(InputError, OSError):
    """An image file that cannot be read; the message begins with its path."""


def check_number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    integer: bool = False,
) -> None:
    """Raise an error unless ``value`` is a number within the given bounds.

    Raises:
        ValueError: the message begins with ``name``: ``norm must be a number and > 0, got -1``.

    Example:
        >>> check_number("norm", 1.0, above=0)
        >>> check_number("norm", -1, above=0)
        Traceback (most recent call last):
        ValueError: norm must be a number and > 0, got -1
    """
    rules = [
        "an integer" if integer else "a number",
        *([f">= {at_least:g}"] if at_least is not None else []),
        *([f"> {above:g}"] if above is not None else []),
        *([f"<= {at_most:.10g}"] if at_most is not None else []),
    ]
    ok = (
        isinstance(value, int if integer else (int, float))
        and not isinstance(value, bool)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    )
    if not ok:
        raise ValueError(f"{name} must be {' and '.join(rules)}, got {value!r}")
