"""From errors in the words of a class or function to messages that name the configuration key."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from occ_lab.utils.errors import InputError

# The configuration group of each part that an `InputError` may name, where the names differ.
GROUPS = {
    "objective": "loss",
    "fit": "loss.fit",
    "postprocessing": "scoring",
    "directory": "hydra.run.dir",
}
# What the system says of a file or folder that the user can correct.
OF_THE_SYSTEM = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


class UserError(CompactHydraException):
    """What a user of the commands reads, without a traceback."""


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


@contextmanager
def messages_alone() -> Iterator[None]:
    """Print what the user can correct, and end the command with exit code 1.

    An exit passes through Hydra, which adds lines of its own to an error. With
    ``HYDRA_FULL_ERROR=1`` the error is raised, for its traceback.

    Raises:
        SystemExit: the message is on stderr.
    """
    try:
        with user_messages():
            yield
    except (UserError, OmegaConfBaseException, OSError) as error:
        of_the_user = not isinstance(error, OSError) or error.errno in OF_THE_SYSTEM
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or not of_the_user:
            raise
        sys.stderr.write(f"{in_words(error)}\n")
        raise SystemExit(1) from None


def in_words(error: Exception) -> str:
    """An error as the user reads it."""
    if isinstance(error, OmegaConfBaseException):
        return open_value(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def open_value(error: OmegaConfBaseException) -> str:
    """What the user reads of a value that is missing or refers to what is not there."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no default; give it a value"
    said = str(error.msg or error).splitlines()[0]
    return f"{error.full_key}: {said}" if error.full_key else said
