"""Piezo elements with wires, from a production line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from occ_lab.data.datasets.mvtec import MVTec
from occ_lab.data.items import Counts


class VAD(MVTec):
    """The Valeo Anomaly Dataset (Baitieva et al. 2024, CVPR, arXiv 2405.04953): one task.

    The layout is that of MVTec AD without masks. The folders ``test/bad`` and
    ``test/bad_unseen_defects`` are two kinds of defects: those that ``train/bad`` also shows to
    supervised methods, and those that it does not. ``train/bad`` is not used here.
    """

    layout = "vad/train/good, vad/test/{good,bad,bad_unseen_defects}"
    source = "https://github.com/abc-125/vad (a link to the archive)"
    licence = "CC BY-NC-SA 4.0 (no commercial use)"
    size = "not given"
    task_count = "1"
    crop = 256
    published: ClassVar[Mapping[str, Counts]] = {"vad": Counts(2000, 1000, 1000)}
