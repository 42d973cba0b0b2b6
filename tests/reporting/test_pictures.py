"""Heatmap pictures: which come first, and what is on them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from occ_lab.reporting.pictures import (
    CAPTION,
    GAP,
    PANEL,
    one_scale,
    save_pictures,
    strip,
    worst_first,
)


def misses(scores: np.ndarray, labels: np.ndarray, index: int) -> float:
    """The fraction of the images of the other label on the wrong side; ties count half."""
    others = scores[labels != labels[index]]
    wrong = others > scores[index] if labels[index] else others < scores[index]
    return (wrong.sum() + 0.5 * (others == scores[index]).sum()) / max(len(others), 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30))
def test_worst_misses_come_first(rows: list[tuple[int, int]]) -> None:
    scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    order = worst_first(scores.astype(float), labels)
    assert sorted(order) == list(range(len(rows)))
    if 0 < labels.sum() < len(labels):
        fractions = [misses(scores, labels, index) for index in order]
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(fractions))


def test_strip_has_a_panel_for_each_thing() -> None:
    image, mask = np.full((32, 32, 3), 90, np.uint8), np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    heat = mask.astype(float)
    panels = {None: 3, "mask": 4}
    for key, count in panels.items():
        picture = strip(image, mask if key else None, heat, "caption")
        assert picture.size == (count * (PANEL + GAP) - GAP, PANEL + CAPTION)
    assert strip(image, None, None, "caption").size[0] == PANEL
    overlay = np.asarray(strip(image, mask, heat, ""))[CAPTION:, -PANEL:]
    assert (overlay[0, 0] == 90).all()  # where the map is low the image shows
    assert overlay[84, 84].astype(int).sum() > 3 * 90


def test_pictures_are_named_by_rank(tmp_path: Path) -> None:
    def sample(index: int) -> dict:
        path = f"some folder/{'defect' if index else 'good'}/{index}.png"
        return {"image": torch.rand(3, 16, 16), "mask": torch.zeros(16, 16).bool(), "path": path}

    paths = save_pictures(
        tmp_path / "maps",
        sample,
        lambda index: np.full((16, 16), float(index)),
        scores=np.array([0.9, 0.1, 0.5]),
        labels=np.array([0, 1, 1]),
        count=2,
    )
    assert [path.name for path in paths] == [
        "001_defect_defect_1.png",
        "002_defect_defect_2.png",
    ]
    assert Image.open(paths[0]).width == 4 * (PANEL + GAP) - GAP


def test_maps_of_one_scale() -> None:
    maps = [np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])]
    assert [values.tolist() for values in one_scale(maps)] == [[[0.0, 0.25]], [[0.5, 1.0]]]
    assert [values.tolist() for values in one_scale([np.ones((1, 2))])] == [[[0.0, 0.0]]]
    assert one_scale([]) == []


def test_a_long_caption_is_not_cut_off() -> None:
    short, long = (strip(np.zeros((28, 28, 3), np.uint8), None, None, "a" * n) for n in (3, 90))
    assert short.width == PANEL
    assert long.width > 90 * 6
    right = np.asarray(long)[:CAPTION, -3:]
    assert (right == 255).all()  # the text ends before the edge
