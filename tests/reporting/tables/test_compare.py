"""The final table of a comparison, and its explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from occ_lab.metrics.bootstrap import Difference, Interval
from occ_lab.reporting.tables.compare import Row, closing_lines, compare_table, suggested


def row(
    name: str,
    auroc: tuple[float, float, float] | None = None,
    difference: tuple[float, float, float] | None = None,
    **figures: Any,
) -> Row:
    return Row(
        name=name,
        run=Path("out/methods", name),
        tasks={"bolt": figures},
        image_auroc=None if auroc is None else Interval(*auroc),
        difference=None if difference is None else Difference(*difference),
        fit_seconds=1.25,
        images_per_second=40,
        size_mb=1234.5,
        pasted_auroc=0.75,
    )


CLOSE = [
    row("norm", (0.97, 0.9, 1), (-0.01, -0.04, 0.02), pixel_auroc=0.5),
    row("padim", (0.98, 0.94, 1), pixel_auroc=0.625, pixel_aupro=0.5),
    row("norm loss.time=auto", (0.8, 0.7, 0.9), (-0.18, -0.3, -0.05)),
]


def printed(rows: list[Row], width: int) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(compare_table("title", rows))
    return captured.get().splitlines()


def test_a_method_has_two_lines_that_fit_a_narrow_terminal() -> None:
    lines = printed(CLOSE, 80)
    assert all(len(line) <= 80 for line in lines)
    found = [line.split() for line in lines]
    (place,) = (number for number, words in enumerate(found) if words[:1] == ["padim"])
    assert found[place] == ["padim", "98.0", "best", "62.5", "50.0", "1.2", "40.0", "1234"]
    assert found[place + 1] == ["[94.0,100.0]"]
    assert found[place + 2][:4] == ["norm", "80.0", "−18.0*", "–"]
    assert found[place + 3] == ["time=auto", "[70.0,90.0]", "[−30.0,−5.0]"]
    assert ["[90.0,100.0]", "[−4.0,2.0]"] in found


def test_the_first_that_is_not_worse_is_suggested() -> None:
    assert suggested(CLOSE).name == "norm"
    assert suggested(CLOSE[::-1]).name == "padim"
    said = " ".join(closing_lines(CLOSE, 60, 40))
    assert "60 normal and 40 anomalous" in said
    assert "The best of 3" in said
    assert "Take norm: the first of the list that is not significantly worse" in said
    assert "few" not in said
    assert "Take padim: the best here" in " ".join(closing_lines(CLOSE[1:], 60, 40))


def test_few_images_and_perfect_scores_are_no_certainty() -> None:
    said = " ".join(closing_lines([row("norm", (1, 1, 1))], 30, 10))
    assert "30 and 10 images are few" in said
    assert "norm: all anomalous images score above all normal ones" in said
    assert "at least 69.2 % of such defects" in said  # 0.692^10 = 0.025
    assert "The best of" not in said


def test_without_anomalous_images_there_is_no_accuracy() -> None:
    rows = [row("norm"), row("gaussian")]
    lines = printed(rows, 80)
    assert any("pasted patches" in line for line in lines)
    assert not any("best" in line for line in lines)
    (norm,) = (line.split() for line in lines if line.split()[:1] == ["norm"])
    assert norm == ["norm", "75.0", "1.2", "40.0", "1234"]
    first, *others = closing_lines(rows, 8, 0)
    assert first == "Accuracy cannot be compared without anomalous images."
    assert "the 8 held-out normal images" in others[0]
    assert "artificial defects" in others[0]
    assert rows[0].cells["image_auroc"] is None
    assert (rows[0].best, rows[0].worse) == (False, False)
