"""The coloured tables of the report, whose colours do not make noise look like a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from occ_lab.metrics.bootstrap import RESAMPLES, PairedTask, paired_difference
from occ_lab.reporting.report.gather import Task, gather
from occ_lab.reporting.report.groups import Spread, grouped
from occ_lab.reporting.report.matrix import (
    Colours,
    Value,
    coloured,
    escape_matrix,
    luminance,
    metric_matrix,
)
from occ_lab.reporting.report.noise import ESCAPE, Noise, noise_of, resample
from tests.reporting.example_runs import write_run

POINT = Noise(None, frozenset(), 0.0)  # half an interval of a point


def value(mean: float) -> Value:
    return Value(Spread(mean, None), "", POINT)


@given(st.floats(0, 1), st.booleans())
def test_numbers_can_be_read_on_every_colour(mean: float, high_is_good: bool) -> None:
    colours = Colours(0.0, 1.0) if high_is_good else Colours(1.0, 0.0)
    cell = coloured(value(mean), value(colours.best), colours)
    low, high = sorted(luminance(to_rgb(colour)) for colour in (cell.background, cell.ink))
    assert (high + 0.05) / (low + 0.05) >= 4.5  # the contrast that WCAG 2.1 asks for


@pytest.mark.parametrize("high_is_good", [True, False])
def test_bright_is_good_and_noise_is_not_stretched(high_is_good: bool) -> None:
    def brightness(values: list[float]) -> list[float]:
        all_of = [value(each) for each in values]
        colours = Colours.of(all_of, high_is_good)
        best = value(max(values) if high_is_good else min(values))
        return [luminance(to_rgb(coloured(each, best, colours).background)) for each in all_of]

    wide = brightness([0.2, 0.8])
    assert (wide[1] > wide[0]) == high_is_good
    assert len(set(brightness([0.5, 0.509]))) == 1  # cannot be distinguished
    order = 1 if high_is_good else -1
    worst, middle, best = brightness([0.50, 0.53, 0.56][::order])
    assert worst < middle < best
    assert worst > 2 * min(wide)  # six of the eight half intervals are in use
    assert brightness([0.5]) == [max(wide)]


def task(scores: np.ndarray, labels: np.ndarray) -> Task:
    paths = [f"{index:03}.png" for index in range(len(labels))]
    return Task("t", {}, paths, labels, scores, [])


def test_noise_agrees_with_the_bootstrap_of_the_verdicts() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    ours, theirs = (rng.normal(size=120) + shift * labels for shift in (1.5, 1.0))
    for pair in ((ours, theirs), (ours, ours + rng.normal(size=120) / 9)):
        noises = []
        for scores in pair:
            each = task(scores, labels)
            each.figures["image_auroc"] = 0.8
            noises.append(noise_of([[each]], "image_auroc"))
        exact = paired_difference([PairedTask(labels, pair[0][None], pair[1][None])], RESAMPLES)
        assert noises[0] is not None
        assert noises[1] is not None
        assert noises[0].between(noises[1]) == pytest.approx((exact.high - exact.low) / 2, rel=0.25)


@pytest.mark.parametrize("metric", ["image_auroc", "image_ap", "image_f1max", ESCAPE])
def test_every_image_metric_is_resampled(metric: str) -> None:
    labels = np.arange(60) % 2
    perfect = resample(task(labels.astype(float), labels), metric, 0.1)
    assert perfect is not None
    assert np.allclose(perfect, 0 if metric == ESCAPE else 1)
    rng = np.random.default_rng(0)
    found = resample(task(rng.normal(size=60), labels), metric, 0.1)
    assert found is not None
    assert 0.01 < found.std() < 0.2
    assert 0 <= found.min() <= found.max() <= 1
    assert resample(task(rng.normal(size=60), labels), "pixel_auroc") is None


def test_the_best_and_what_cannot_be_told_from_it_look_alike(tmp_path: Path) -> None:
    for loss, shift in (("a", 2.0), ("d", 2.0), ("c", 0.3)):
        write_run(tmp_path / loss, loss=loss, shift=shift, images=80)
    for matrix in (
        metric_matrix("image AUROC", grouped(gather([tmp_path]).runs), "image_auroc"),
        escape_matrix("x", grouped(gather([tmp_path]).runs), 0.2),
    ):
        rows = dict(matrix.rows)
        for a, b, c in zip(rows["a"], rows["d"], rows["c"], strict=True):
            assert a is not None
            assert b is not None
            assert c is not None
            assert (a.best, b.best, c.best) == (True, True, False)
            assert a.background == b.background != c.background


def test_matrix_has_rows_of_methods_and_columns_of_tasks(tmp_path: Path) -> None:
    for norm in (1, 4):
        for seed in (0, 1):
            folder = tmp_path / f"n{norm}s{seed}"
            write_run(folder, norm=norm, seed=seed, overrides=["loss=norm", f"loss.norm={norm}"])
    write_run(tmp_path / "svdd", loss="svdd", shift=0.5)
    write_run(tmp_path / "semantic", loss="svdd", dataset="animals", tasks=["cat"], masks=False)
    found = grouped(gather([tmp_path]).runs)
    matrix = metric_matrix("image AUROC", found, "image_auroc")
    assert matrix.datasets == [("animals", 1), ("textures", 3)]
    assert matrix.columns == ["cat", "brick", "grass", "mean"]
    rows = dict(matrix.rows)
    assert [cell is None for cell in rows["svdd"]] == [False, False, False, False]  # of both
    assert rows["norm loss.norm=4"][0] is None
    (first,) = [group for group in found.groups if group.method == "norm loss.norm=1"]
    shown = first.over_seeds("image_auroc", "brick")
    assert shown is not None
    assert rows["norm loss.norm=1"][1].text.startswith(f"{100 * shown.mean:.1f} ± ")


def test_escape_matrix_by_hand(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["a", "b"], shift=99.0)
    perfect = escape_matrix("x", grouped(gather([tmp_path]).runs), 0.05)
    assert [(cell.text, cell.small) for cell in perfect.rows[0][1]] == [
        ("0.0", "at 5.0"),
        ("0.0", "at 5.0"),
        ("0.0", "at 5.0"),
    ]
