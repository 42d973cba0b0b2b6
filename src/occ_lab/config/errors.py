"""From errors in the words of a class or function to messages that name the configuration key."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException

from occ_lab.utils.errors import InputError

# The configuration group of each part that an `InputError` may name, where the names differ.
GROUPS = {
    "objective": "loss",
    "fit": "loss.fit",
    "postprocessing": "scoring",
    "directory": "hydra.run.dir",
}


class UserError(CompactHydraException):
    """What a user of the commands reads: Hydra prints it without a traceback.

    ``HYDRA_FULL_ERROR=1`` brings the traceback back.
    """


def message(error: InputError) -> str:
    """The message of an error, begun with the configuration key that it concerns."""
    if not error.part:
        return str(error)
    return joined(GROUPS.get(error.part, error.part), error)


def joined(key: str, error: Exception, arguments: Collection[str] = ()) -> str:
    """A configuration key and the message of what its object refuses.

    Where the message begins with an argument, ``norm must be > 0`` or ``root: no data``, the
    argument becomes part of the key: ``loss.norm must be > 0``.

    Args:
        key: of the object.
        error: its message.
        arguments: names of arguments that a message may begin with; what precedes a colon and looks
            like a name is taken for one as well.
    """
    text = str(error)
    before, colon, _ = text.partition(":")
    first = re.match(r"[\w.]*", before)
    name = first[0] if first else ""
    named = bool(colon) and name == before and name.replace(".", "").isidentifier()
    separator = "." if named or name.split(".")[0] in arguments else ": "
    return f"{key}{separator}{text}"


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
