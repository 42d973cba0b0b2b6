"""What objectives share that compare the joined levels themselves."""

from __future__ import annotations

from torch import nn

from occ_lab.objectives.base import Objective
from occ_lab.projectors import Identity
from occ_lab.utils.errors import InputError


class JoinedObjective(Objective):
    """An objective that learns from the joined levels in one pass, and scores them as they are."""

    one_pass = True

    def finish(self, projector: nn.Module) -> None:
        """Refuse a projector that would change what was learned from.

        Raises:
            InputError: it is not `Identity`.
        """
        if not isinstance(projector, Identity):
            raise InputError(
                "projector: this loss compares the features themselves; take projector=identity"
            )
