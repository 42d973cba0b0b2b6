"""The report's command as a user types it, and its page in a real browser."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from occ_lab.report import main
from tests import commands
from tests.reporting.example_runs import write_run


def command(*arguments: str | Path, columns: int = 200) -> subprocess.CompletedProcess[str]:
    return commands.command(
        "report", *map(str, arguments), cwd=Path(), env={"COLUMNS": str(columns)}
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms with two seeds each, another loss, and a job that failed."""
    folder = tmp_path_factory.mktemp("ein Lauf ä") / "sweep"
    for number, (norm, seed) in enumerate([(1, 0), (1, 1), (16, 0), (16, 1)]):
        write_run(
            folder / str(number),
            norm=norm,
            seed=seed,
            shift=2 - norm / 20,
            pictures=2,
            overrides=["loss=norm", f"loss.norm={norm}", f"seed={seed}"],
        )
    write_run(folder / "4", loss="svdd", shift=0.2, tasks=["brick", "grass"])
    task = folder / "4" / "tasks" / "grass"
    (task / "calibration.json").write_text('{"overkill": 0.05, "scores": [-1.0, 0.0, 1.0]}')
    log = ["epoch,image_auroc,loss,step,val_loss", "0,,3.0,9,2.0", "1,,2.0,19,1.5", "2,0.9,,20,"]
    (task / "metrics.csv").write_text("\n".join(log) + "\n")
    failed = folder / "10" / ".hydra"
    failed.mkdir(parents=True)
    (failed.parent / "error.txt").write_text("RuntimeError: no memory\n\nTraceback\n")
    return folder


@pytest.fixture(scope="module")
def made(sweep: Path) -> subprocess.CompletedProcess[str]:
    return command(sweep, "--resamples", "200")


def test_three_files_and_a_ranked_table(
    made: subprocess.CompletedProcess[str], sweep: Path
) -> None:
    assert made.returncode == 0, made.stderr
    assert [line for line in made.stdout.splitlines() if line][-3:] == [
        str(sweep / f"report.{suffix}") for suffix in ("html", "csv", "md")
    ]
    assert f"left out: {sweep / '10'}: failed: RuntimeError: no memory" in made.stdout
    order = [made.stdout.index(label) for label in ("loss.norm=1 ", "loss.norm=16", "svdd")]
    assert order == sorted(order)
    assert "baseline" in made.stdout
    with (sweep / "report.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1", "0"]
    text = (sweep / "report.md").read_text(encoding="utf-8")
    assert "RuntimeError: no memory" in text
    assert "python -m occ_lab.train loss=norm loss.norm=16 seed=1" in text
    assert not list(sweep.glob(".report*"))


def test_the_table_fits_a_narrow_terminal(sweep: Path, tmp_path: Path) -> None:
    done = command(sweep, "--resamples", "5", "--out", tmp_path / "out", columns=80)
    lines = done.stdout.splitlines()
    assert "difference" in done.stdout
    assert any("loss.norm=" in line.replace(" ", "") for line in lines)
    assert max(len(line) for line in lines[1:-3]) <= 80


def test_baseline_and_out(sweep: Path, tmp_path: Path) -> None:
    done = command(
        *(sweep / "0", sweep / "4", "--out", tmp_path / "new" / "out"),
        *("--baseline", "svdd", "--resamples", "20", "--overkill", "0.1"),
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new" / "out" / "report.html").read_text(encoding="utf-8")
    assert "named by --baseline svdd" in text
    assert "10 % overkill" in text
    unknown = command(sweep, "--baseline", "nothing")
    assert unknown.returncode == 1
    assert "nothing matches 'nothing'" in unknown.stdout
    assert "Traceback" not in unknown.stderr


def test_nothing_to_read_is_exit_code_1(tmp_path: Path) -> None:
    empty = command(tmp_path)
    assert empty.returncode == 1
    assert "no run could be read" in empty.stdout
    assert list(tmp_path.iterdir()) == []
    absent = command(tmp_path / "none")
    assert absent.returncode == 1
    assert "is not a directory" in absent.stdout


@pytest.mark.parametrize(
    "wrong", [["--overkill", "2"], ["--resamples", "0"], ["--pictures", "-1"], ["--seed", "x"]]
)
def test_values_out_of_range_are_refused(
    tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *wrong])
    assert wrong[0] in capsys.readouterr().err


@pytest.fixture
def opened(browser: Any, made: Any, sweep: Path) -> Iterator[tuple[Any, list[str]]]:
    """The page, and whatever went wrong or out to the network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    troubles: list[str] = []
    address = (sweep / "report.html").as_uri()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url == address or request.url.startswith(("data:", "blob:"))
            else troubles.append(request.url)
        ),
    )
    page.goto(address)
    page.wait_for_selector("#pr .main-svg")
    yield page, troubles
    context.close()


def test_page_draws_everything_without_network(opened: tuple[Any, list[str]]) -> None:
    page, troubles = opened
    drawn = {
        "#histogram path": 2,
        "#roc .scatterlayer .trace": 3,
        "#pr .scatterlayer .trace path.js-line": 1,
        "#norm-charts .scatterlayer .trace": 1,
        "svg.bar": 2,
    }
    for selector, least in drawn.items():
        assert page.locator(selector).count() >= least, selector
    widths = page.eval_on_selector_all("#misses img", "found => found.map(x => x.naturalWidth)")
    assert len(widths) == 4
    assert all(width > 0 for width in widths)
    assert troubles == []


def test_a_click_sorts_by_number_and_back(opened: tuple[Any, list[str]]) -> None:
    page, troubles = opened

    def column(title: str) -> list[str]:
        titles = page.locator("#runs-table th").all_inner_texts()
        index = [each.strip() for each in titles].index(title) + 1
        return page.locator(f"#runs-table tbody td:nth-child({index})").all_inner_texts()

    norm = page.locator("#runs-table th button", has_text="loss.norm")
    norm.click()
    assert column("loss.norm") == ["16", "16", "1", "1", "–"]
    norm.click()
    assert column("loss.norm") == ["1", "1", "16", "16", "–"]  # what is absent stays last
    page.locator("#runs-table th button", has_text="loss").first.click()
    assert column("loss") == ["norm"] * 4 + ["svdd"]
    assert page.locator("#runs-table th[aria-sort]").count() == 1
    assert troubles == []


def test_selectors_change_what_is_shown(opened: tuple[Any, list[str]]) -> None:
    page, troubles = opened
    before = page.locator("#score-facts").inner_text()
    page.select_option("#score-run", label="svdd, seed 0")
    page.select_option("#score-task", label="grass")
    assert page.locator("#score-facts").inner_text() != before
    page.select_option("#score-run", index=0)
    assert page.locator("#score-task option:checked").inner_text() == "grass"  # kept
    shown = page.locator("#tasks table:visible")
    assert shown.count() == 1
    first = shown.inner_text()
    page.select_option("#tasks select", label="pixel AUROC")
    assert shown.count() == 1
    assert shown.inner_text() != first
    assert troubles == []


def test_the_threshold_of_a_run_moves_and_its_training_is_drawn(
    opened: tuple[Any, list[str]],
) -> None:
    page, troubles = opened

    def counts() -> dict[str, str]:
        found = page.locator("#counts").locator("dt, dd").all_inner_texts()
        return dict(zip(found[::2], found[1::2], strict=True))

    assert page.locator("#training").is_hidden()
    assert counts()["False-positive rate"].startswith("unknown without a calibration")
    assert counts()["False alarms"] == "1 of 20 normal images (5 %)"
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    assert counts()["Missed"] in (
        "0 of 20 anomalous images (0 %)",
        "1 of 20 anomalous images (5 %)",
    )
    moved = page.evaluate("document.querySelector('#roc').data.at(-1).x[0]")
    assert moved >= 0.95  # the point on the curve moves along
    page.select_option("#score-run", label="svdd, seed 0")
    page.select_option("#score-task", label="grass")
    page.locator("#threshold").fill("0.5")
    assert counts()["False-positive rate"] == "50 % by 3 calibration images"
    assert page.locator("#training-charts .trace").count() == 2
    assert page.evaluate("document.querySelector('#training-charts .chart').data[0].x") == [10, 20]
    page.select_option("#score-run", index=0)
    assert page.locator("#training").is_hidden()
    assert troubles == []


def test_pictures_enlarge_by_mouse_and_keys(opened: tuple[Any, list[str]]) -> None:
    page, troubles = opened
    dialog, pictures = page.locator("#enlarged"), page.locator(".pictures button")
    small = pictures.nth(0).bounding_box()["width"]
    pictures.nth(0).click()
    assert page.locator("#enlarged-title").inner_text().startswith("001_defect_hole_1 brick")
    assert page.locator("#sheet img").bounding_box()["width"] > 1.5 * small
    page.keyboard.press("ArrowRight")
    assert page.locator("#enlarged-title").inner_text().startswith("002_defect_hole_2 brick")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    page.locator(".pictures button:focus[data-title='002_defect_hole_2']").wait_for()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    page.locator("#close").click()
    assert dialog.is_hidden()
    assert troubles == []


def test_the_mode_bar_hides_no_title(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    for chart in page.locator("figure").all():
        chart.locator(".nsewdrag").first.hover()
        bar = chart.locator(".modebar").bounding_box()
        for shown in (chart.locator("figcaption"), chart.locator(".nsewdrag").first):
            box = shown.bounding_box()
            assert box["y"] + box["height"] <= bar["y"] or bar["y"] + bar["height"] <= box["y"] + 1


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_everyone_can_use_the_page(
    browser: Any, made: Any, sweep: Path, scheme: str, width: int
) -> None:
    """By axe-core, also with a picture enlarged."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto((sweep / "report.html").as_uri())
    page.wait_for_selector("#pr .main-svg")
    for enlarge in (False, True):
        if enlarge:
            page.locator(".pictures button").first.click()
        found = axe.run(page).response["violations"]
        assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_pages_do_not_scroll_sideways(browser: Any, opened: Any, scheme: str) -> None:
    page, troubles = opened
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = page.evaluate("document.querySelector('#roc').layout.paper_bgcolor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
    assert paper == ("#ffffff" if scheme == "light" else "#14171c")
    assert troubles == []
