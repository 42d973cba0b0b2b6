"""The picture of a training whose number of steps was chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from occ_lab.reporting.learning_curve import save_learning_curve


def test_a_picture_of_every_curve(tmp_path: Path) -> None:
    curve = [
        {
            "step": 2**n,
            "loss": 9.0 - n,
            "held_out_loss": 9.5 - n,
            "cut_and_paste_auroc": 0.5 + n / 9,
        }
        for n in range(4)
    ]
    for chosen in (4, None):
        save_learning_curve(tmp_path / f"{chosen}.png", "bolt", curve, chosen)
    shown, without = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in (4, None))
    assert shown.shape == without.shape
    assert (shown != without).any()
