"""The one kind of error that a user is meant to read, and the check that most often raises it."""

from __future__ import annotations

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """Something the user can mend: a missing dataset, a value out of range, a corrupt file.

    The message says what is wrong, where, and what to do. Hydra prints compact exceptions
    without a traceback (``HYDRA_FULL_ERROR=1`` brings it back).
    """


def check_number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    integer: bool = False,
) -> None:
    """Raise unless ``value`` is a number within the bounds that are given.

    Raises:
        ValueError: the message begins with ``name``, so that the configuration can put the
            group's name before it: ``loss.norm must be a number > 0, got -1``.
    """
    rules = [
        "an integer" if integer else "a number",
        *([f">= {at_least:g}"] if at_least is not None else []),
        *([f"> {above:g}"] if above is not None else []),
        *([f"<= {at_most:g}"] if at_most is not None else []),
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
