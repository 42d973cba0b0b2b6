"""The base class of objectives that compare the concatenated levels without a projection."""

from __future__ import annotations

from collections.abc import Sequence

from occ_lab.objectives.base import Objective
from occ_lab.projectors import Identity, Projector
from occ_lab.utils.errors import InputError


class JoinedObjective(Objective):
    """An objective that learns from the concatenated levels in one pass, without a projection."""

    one_pass = True

    def default_projector(self, channels: Sequence[int]) -> Projector:
        """`Identity`."""
        return Identity(channels)

    def finish(self, projector: Projector) -> None:
        """Check that the projector does not change the features.

        Raises:
            InputError: the projector is not `Identity`.
        """
        if not isinstance(projector, Identity):
            raise InputError(
                f"{type(self).__name__} compares the features themselves; use the projector "
                f"Identity instead of {type(projector).__name__}",
                part="projector",
            )
