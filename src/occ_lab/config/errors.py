"""From errors in the words of a class or function to messages that name the configuration key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException

from occ_lab.utils.errors import InputError

# The configuration group of each part that an `InputError` may name, where the names differ.
GROUPS = {"objective": "loss", "postprocessing": "scoring"}


class UserError(CompactHydraException):
    """What a user of the commands reads: Hydra prints it without a traceback.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """


def message(error: InputError) -> str:
    """The message of an error, begun with the configuration key that it concerns."""
    if not error.part:
        return str(error)
    group = GROUPS.get(error.part, error.part)
    argument, colon, _ = str(error).partition(":")
    joined = "." if colon and argument.replace(".", "").isidentifier() else ": "
    return f"{group}{joined}{error}"


@contextmanager
def user_messages() -> Iterator[None]:
    """Let what the user can correct be printed as a message, not as a traceback.

    Raises:
        UserError: in place of an `InputError`.
    """
    try:
        yield
    except InputError as error:
        raise UserError(message(error)) from error
