"""The parts of the report's page."""

from __future__ import annotations

import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from occ_lab.reporting.report import page as report_page
from occ_lab.reporting.report import plots as report_plots
from occ_lab.reporting.report.compare import all_comparisons, choose_baselines
from occ_lab.reporting.report.gather import gather
from occ_lab.reporting.report.groups import grouped
from occ_lab.reporting.report.page import Report, page, require_extra, runs_table
from occ_lab.reporting.report.pictures import worst_misses
from occ_lab.reporting.report.plots import norm_curves, score_charts
from occ_lab.reporting.report.tables import csv_rows, markdown, points
from occ_lab.utils.errors import InputError
from tests.reporting.example_runs import write_run

NASTY = "<script>alert(1)</script>&amp;\"'</script><!--|"


def report_of(folder: Path, pictures: int = 2) -> Report:
    gathered = gather([folder])
    found = grouped(gathered.runs)
    baselines = choose_baselines(found, None)
    return Report(
        sources=[folder],
        when=datetime(2026, 1, 2, 3, 4),
        found=found,
        left_out=gathered.left_out,
        baselines=baselines,
        comparisons=all_comparisons(found, baselines, 50, 0),
        resamples=50,
        rates=[0.01, 0.05],
        pictures=pictures,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three norms with two seeds each, and another loss on two datasets."""
    folder = tmp_path_factory.mktemp("runs")
    for norm in (1, 4, 16):
        for seed in (0, 1):
            write_run(
                folder / f"n{norm}s{seed}",
                norm=norm,
                seed=seed,
                shift=2 - norm / 20,
                pictures=2,
                overrides=["loss=norm", f"loss.norm={norm}", f"seed={seed}", "x=a b"],
            )
    write_run(folder / "svdd", loss="svdd", shift=0.5)
    write_run(folder / "semantic", loss="svdd", dataset="animals", tasks=["cat"], masks=False)
    (folder / "broken").mkdir()
    (folder / "broken" / "metrics.json").write_text("{")
    return folder


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and its text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.text += data


def test_the_page_needs_nothing_beside_itself(runs: Path) -> None:
    text = page(report_of(runs))
    assert len(text) < 15e6
    for tag, attributes in Tags(text).tags:
        assert tag not in ("link", "iframe")
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:").startswith("data:")


def test_the_page_says_what_was_gathered_and_left_out(runs: Path) -> None:
    text = " ".join(Tags(page(report_of(runs))).text.split())
    assert "8 runs in 5 groups, 3 tasks of animals, textures; gathered 2026-01-02 03:04" in text
    assert "1 left out" in text
    assert f"{runs / 'broken'}: damaged" in text
    assert "Baseline of textures: norm loss.norm=1 (the first-ranked)" in text
    assert "python -m occ_lab.train loss=norm loss.norm=16 seed=1 'x=a b'" in text


def test_nothing_a_user_names_becomes_markup(tmp_path: Path) -> None:
    write_run(tmp_path / "a", dataset=NASTY, loss=NASTY, tasks=["<b>x"], target=NASTY, pictures=1)
    write_run(tmp_path / "b", dataset=NASTY, loss=NASTY, tasks=["<b>x"], target="y")
    bad = write_run(tmp_path / "<i>bad", dataset=NASTY)
    (bad / "error.txt").write_text(NASTY)
    plain = tmp_path / "plain"
    write_run(plain / "a", target="x", pictures=1)
    write_run(plain / "b", target="y")
    write_run(plain / "c")
    (plain / "c" / "error.txt").write_text("x")

    def kinds(folder: Path) -> set[str]:
        return {tag for tag, _ in Tags(page(report_of(folder))).tags}

    nasty = page(report_of(tmp_path))
    assert kinds(tmp_path) <= kinds(plain)
    assert nasty.count("<script") == page(report_of(plain)).count("<script")
    assert "alert(1)</script>" not in nasty
    assert NASTY in Tags(nasty).text


def test_numbers_sort_as_numbers(runs: Path) -> None:
    table = runs_table(grouped(gather([runs]).runs))
    numbers = {key for key, _, number in table["columns"] if number}
    assert {"loss.norm", "seed", "image_auroc", "seconds", "peak_memory_mb"} <= numbers
    assert not numbers & {"dataset", "loss", "directory"}
    norms = [value for row in table["rows"] for key, _, value in row if key == "loss.norm"]
    assert sorted(map(str, norms)) == ["", "", "1.0", "1.0", "16.0", "16.0", "4.0", "4.0"]


def test_csv_has_a_row_for_each_run(runs: Path) -> None:
    rows = csv_rows(grouped(gather([runs]).runs))
    assert len(rows) == 8
    row = next(row for row in rows if row["directory"].endswith("n4s1"))
    assert (row["group"], row["loss.norm"], row["seed"]) == ("textures: norm loss.norm=4", "4", 1)
    assert (row["tasks"], row["seconds_fit"], row["seconds"]) == (2, 4.0, 7.0)
    summary = json.loads((runs / "n4s1" / "metrics.json").read_text())
    assert row["image_auroc"] == pytest.approx(summary["mean"]["image_auroc"])
    assert row["image_auroc[brick]"] == summary["tasks"]["brick"]["image_auroc"]
    assert row["image_auroc[cat]"] is None
    assert row["command"].endswith("'x=a b'")


def test_markdown_tables_keep_their_columns(tmp_path: Path) -> None:
    write_run(tmp_path / "a", target="a|b", overrides=["loss.target=a|b"])
    write_run(tmp_path / "b", target="c\nd")
    report = report_of(tmp_path)
    text = markdown(report.facts, report.found, report.comparisons)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert len(rows) == 8
    assert len(set(widths[:4])) == len(set(widths[4:])) == 1


def test_points() -> None:
    assert [points(x) for x in (0.0123, -0.0123, -0.0001, 0.0)] == ["+1.2", "−1.2", "0.0", "0.0"]


def test_norm_curves(runs: Path) -> None:
    (chart,) = norm_curves(grouped(gather([runs]).runs))
    (line,) = chart["lines"]
    assert (chart["dataset"], line["name"], line["norms"]) == ("textures", "norm", (1, 4, 16))
    assert line["log2"] == [0, 2, 4]
    assert all(deviation > 0 for deviation in line["deviation"])


def test_score_charts_are_of_every_run_while_there_is_room(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = grouped(gather([runs]).runs)
    charts, dropped = score_charts(found, [0.05])
    assert (len(charts), dropped) == (8, 0)
    assert json.loads(json.dumps(charts, allow_nan=False)) is not None
    task = charts[0]["tasks"]["cat"]
    assert (len(task["normal"]), len(task["anomalous"])) == (20, 20)
    assert task["points"][0]["overkill"] <= 0.05
    monkeypatch.setattr(report_plots, "LIMIT", 10_000)
    few, dropped = score_charts(found, [0.05])
    assert 0 < len(few) < 8
    assert len(few) + dropped == 8


def test_a_task_of_one_kind_has_a_histogram_alone(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["only"], images=1)
    report = report_of(tmp_path)
    (run,) = score_charts(report.found, [0.05])[0]
    task = run["tasks"]["only"]
    assert set(task) == {"normal", "anomalous", "calibration", "threshold", "training"}
    assert (len(task["normal"]), task["anomalous"]) == (1, [])
    assert "only" in page(report)


def test_pictures_are_of_the_best_run_and_few(runs: Path) -> None:
    found = grouped(gather([runs]).runs)
    shown, unreadable = worst_misses(found, count=1, limit=10**7)
    assert not unreadable
    assert [(each.task, each.found, len(each.pictures)) for each in shown] == [
        ("brick", 2, 1),
        ("grass", 2, 1),
    ]
    assert all("norm loss.norm=1, seed" in each.run for each in shown)
    name, uri = shown[0].pictures[0]
    assert name == "001_defect_hole_1"
    assert uri.startswith("data:image/webp;base64,")
    assert worst_misses(found, count=1, limit=10)[0][0].pictures == []


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", pictures=2)
    damaged = run / "tasks" / "brick" / "maps" / "001_defect_hole_1.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    shown, unreadable = worst_misses(grouped(gather([run]).runs), count=2, limit=10**7)
    assert unreadable == [damaged]
    assert [len(each.pictures) for each in shown] == [1, 2]
    assert str(damaged) in page(report_of(tmp_path))


def test_the_page_stays_small(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = len(page(report_of(runs, pictures=0)))
    monkeypatch.setattr(report_page, "LIMIT", bare + 50_000)
    assert len(page(report_of(runs, pictures=9))) <= bare + 55_000


@pytest.mark.parametrize("absent", ["plotly", "jinja2"])
def test_the_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(report_page, "find_spec", lambda name: None if name == absent else object())
    with pytest.raises(InputError, match=rf"{absent} is not installed; pip install 'occ-lab\[rep"):
        require_extra()


def test_infinite_scores_do_not_break_a_chart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", tasks=["x"], shift=np.inf)
    assert [each.directory for each in gather([run]).runs] == [run]
    text = page(report_of(tmp_path)).split('id="charts">')[1].split("</script>")[0]
    task = json.loads(text, parse_constant=pytest.fail)["scores"][0]["tasks"]["x"]
    assert set(task["anomalous"]) == {"Infinity"}
