"""The base of objectives that compare the joined levels themselves."""

from __future__ import annotations

from collections.abc import Sequence

from occ_lab.objectives.base import Objective
from occ_lab.projectors import Identity, Projector
from occ_lab.utils.errors import InputError


class JoinedObjective(Objective):
    """An objective that learns from the joined levels in one pass and scores them unprojected."""

    one_pass = True

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`Identity`."""
        return Identity(channels)

    def finish(self, projector: Projector) -> None:
        """Check that the projector does not change what was learned from.

        Raises:
            InputError: it is not `Identity`.
        """
        if not isinstance(projector, Identity):
            raise InputError(
                f"{type(self).__name__} compares the features themselves; take the projector "
                f"Identity in place of {type(projector).__name__}",
                part="projector",
            )
