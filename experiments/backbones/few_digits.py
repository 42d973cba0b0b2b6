"""A subset of MNIST, as a replacement for ``dataset=mnist``.

It is selected with ``dataset._target_=experiments.backbones.few_digits.FewDigits``.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from occ_lab.data.datasets.classes import Classified, Part
from occ_lab.data.datasets.mnist import MNIST

COUNTS = {"train": 150, "test": 50}  # images of each digit


class FewDigits(MNIST):
    """The first images of each digit, so that nine configurations fit into an hour."""

    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((COUNTS["train"], COUNTS["test"]),) * 10

    def classified(self, part: Part) -> list[Classified]:
        """The first images of each class, in the order of the file."""
        seen: Counter[str] = Counter()
        found = []
        for image in super().classified(part):
            seen[image[0]] += 1
            if seen[image[0]] <= COUNTS[part]:
                found.append(image)
        return found
