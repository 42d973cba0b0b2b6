"""The page of a gallery, in a browser."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from occ_lab.data.transforms import Seen, WholeImage
from occ_lab.reporting.gallery.gallery import AFTER, BEFORE, Entry, Gallery, Judging
from occ_lab.reporting.gallery.scale import Scale

NASTY = "=<b>x<b>&\"'é#%.png"
CALIBRATION = [float(value) for value in range(1, 20)]  # 19 scores
JUDGING = Judging(19.0, 0.05, CALIBRATION, Scale(10.0, 19.0))


def pixels(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def write(directory: Path, labels: bool = True) -> Path:
    """Ten good images with scores 0, 2, …, and five defects with 15, 17, …, 23."""
    gallery = Gallery(directory, "parts <i>", {"task": JUDGING})
    for number in range(15):
        name = NASTY if number == 3 else f"{number}.png"
        path = directory / "images é" / ("bad" if number >= 10 else "good") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
        score = 2.0 * number if number < 10 else 2.0 * number - 5
        heat = np.zeros((12, 16), np.float32)
        heat[3:6, 4:8] = score
        label = int(number >= 10) if labels else None
        kind = "scratch" if number >= 13 and labels else ""
        gallery.add(Entry(path, score, label, kind, "task"), pixels(number), heat)
    page = gallery.write()
    assert page is not None
    return page


def content(directory: Path) -> Any:
    text = (directory / "gallery" / "data.js").read_text(encoding="utf-8")
    return json.loads(text[len(BEFORE) : -len(AFTER)])


@pytest.mark.filterwarnings("error")
def test_an_image_without_a_finite_score_or_map_is_on_the_page(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, "parts", {"task": JUDGING})
    for number, value in enumerate((np.nan, np.inf, -np.inf)):
        heat = np.ones((12, 16), np.float32)
        heat[2, 3] = value
        gallery.add(Entry(Path(f"{number}.png"), value, task="task"), pixels(number), heat)
    assert gallery.write() is not None
    rows = content(tmp_path)["rows"]
    assert [(row["score"], row["range"]) for row in rows] == [(None, None)] * 3
    assert len(list((tmp_path / "gallery" / "thumbs").iterdir())) == 3


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("a gallery é"))


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page; nothing may go wrong on it, and nothing may leave the disk."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    opened = context.new_page()
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("requestfailed", lambda request: troubles.append(request.url) if lost(request) else 0)
    opened.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else troubles.append(request.url)
        ),
    )
    opened.goto(page_file.as_uri())
    opened.wait_for_selector(".tile")
    yield opened
    context.close()
    assert not troubles


def lost(request: Any) -> bool:
    """Whether a request has failed; a reload ends those that are on their way."""
    return "ERR_ABORTED" not in (request.failure or "")


def counts(page: Any) -> dict[str, str]:
    found = page.locator("#counts").locator("dt, dd").all_inner_texts()
    return dict(zip(found[::2], found[1::2], strict=True))


def shown(page: Any) -> list[str]:
    page.wait_for_timeout(60)  # a frame in which the tiles are drawn
    tiles = page.locator(".tile")
    found = tiles.evaluate_all(
        "all => all.map(t => [+t.ariaPosInSet, t.firstChild.title.split('/').pop()])"
    )
    return [name for _, name in sorted(found)]


def test_the_threshold_moves_and_all_counts_with_it(page: Any) -> None:
    assert counts(page) == {
        "Rejected": "2 of 15 (13.3 %)",
        "False-positive rate": "5 % by 19 calibration images",
        "Missed": "3 of 5 anomalous images (60 %)",
        "False alarms": "0 of 10 normal images (0 %)",
    }
    page.locator("#threshold").fill("14")
    assert counts(page) == {
        "Rejected": "7 of 15 (46.7 %)",
        "False-positive rate": "30 % by 19 calibration images",  # 5 of 19 are above
        "Missed": "0 of 5 anomalous images (0 %)",
        "False alarms": "2 of 10 normal images (20 %)",
    }
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    assert counts(page)["Rejected"] == "14 of 15 (93.3 %)"
    page.locator("#reset").click()
    assert counts(page)["Rejected"] == "2 of 15 (13.3 %)"


def test_images_are_sorted_and_filtered(page: Any) -> None:
    assert shown(page)[:3] == ["14.png", "13.png", "12.png"]
    page.locator("#sort").select_option("name")
    assert shown(page)[:6] == ["10.png", "11.png", "12.png", "13.png", "14.png", NASTY]
    page.locator("#sort").select_option("decision")
    assert set(shown(page)[:2]) == {"9.png", "12.png"}
    page.locator("#filter").select_option("reject")
    assert sorted(shown(page)) == ["13.png", "14.png"]
    page.locator("#filter").select_option("missed")
    assert sorted(shown(page)) == ["10.png", "11.png", "12.png"]
    page.locator("#filter").select_option("all")
    page.locator("#text").fill("<b>X")
    assert shown(page) == [NASTY]
    page.locator("#text").fill("nothing of this name")
    assert page.locator(".none").inner_text() == "No image matches."


def test_keys_walk_judge_and_zoom(page: Any) -> None:
    page.locator(".tile button").first.click()
    assert page.locator("#viewer-title").inner_text().endswith("bad/14.png")
    assert "p-value 0.05" in page.locator("#facts").inner_text()
    assert "labelled anomalous (scratch)" in page.locator("#facts").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-title").inner_text().endswith("bad/13.png")
    page.wait_for_function("document.getElementById('full').naturalWidth === 64")
    before = page.locator("#sheet").get_attribute("style")
    page.keyboard.press("+")
    assert page.locator("#sheet").get_attribute("style") != before
    page.keyboard.press("0")
    assert page.locator("#sheet").get_attribute("style") == before
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    page.wait_for_function("document.activeElement.title.endsWith('13.png')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#viewer-title").inner_text().endswith("bad/12.png")


def test_the_map_lies_where_it_belongs(page: Any) -> None:
    page.locator("#sort").select_option("score")
    page.locator(".tile button").first.click()
    page.wait_for_function("document.getElementById('heat').width === 64")
    canvas = (
        "([x, y]) => [...document.getElementById('heat').getContext('2d')"
        ".getImageData(x, y, 1, 1).data]"
    )
    page.keyboard.press("o")  # no outline
    page.wait_for_timeout(100)
    assert page.evaluate(canvas, [24, 18])[3] > 100  # rows 3 to 5 and columns 4 to 7, four times
    assert page.evaluate(canvas, [2, 2])[3] == 0
    page.keyboard.press("o")
    page.wait_for_timeout(100)
    outlined = page.evaluate(
        "() => { const c = document.getElementById('heat'), d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
        " for (let i = 0; i < d.length; i += 4) n += d[i] === 0 && d[i + 1] === 255; return n; }"
    )
    assert 20 < outlined < 300
    page.keyboard.press("h")
    page.wait_for_timeout(100)
    assert page.evaluate(canvas, [24, 18])[3] == 0


def test_verdicts_stay_over_a_reload_and_are_saved(page: Any, tmp_path: Path) -> None:
    page.locator("#text").fill("<b>x")
    page.locator(".tile button").first.click()
    page.keyboard.press("r")  # a good part that is accepted: missed
    page.keyboard.press("t")
    page.keyboard.type('dent, "deep"')
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator("#text").fill("14.png")
    page.locator(".tile button").first.click()
    page.keyboard.press("a")  # rejected, and a good part
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".tile")
    page.locator("#filter").select_option("marked")
    assert sorted(shown(page)) == ["14.png", NASTY]
    with page.expect_download() as download:
        page.locator("#save").click()
    target = tmp_path / "verdicts.csv"
    download.value.save_as(target)
    assert download.value.suggested_filename == "verdicts.csv"
    rows = {Path(row["path"]).name: row for row in csv.DictReader(target.open(encoding="utf-8"))}
    assert (rows[NASTY]["verdict"], rows[NASTY]["defect"]) == ("missed", 'dent, "deep"')
    assert (rows["14.png"]["verdict"], rows["14.png"]["decision"]) == ("false alarm", "reject")
    page.locator(".tile button").first.click()
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    assert len(shown(page)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000])
def test_everyone_can_use_it(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    """By axe-core, with the viewer closed and open; nothing is wider than a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector(".tile")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_with_axe(axe, page)
    page.locator(".tile button").first.click()
    check_with_axe(axe, page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def check_with_axe(axe: Any, page: Any) -> None:
    found = axe.run(page).response["violations"]
    assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def test_only_the_tiles_in_sight_exist(browser: Any, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, "many")
    for number in range(600):
        gallery.add(Entry(Path(f"{number}.png"), float(number)), pixels(0, 8, 8), None)
    gallery.write()
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector(".tile")
    assert page.locator(".tile").count() < 60
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    assert shown(page)[-1] == "0.png"
    assert page.locator(".tile").count() < 80
    context.close()


def test_a_gallery_that_goes_on_keeps_what_it_had(tmp_path: Path) -> None:
    write(tmp_path, labels=False)
    paths = [row["path"] for row in content(tmp_path)["rows"]]
    again = Gallery(tmp_path, "more", kept=set(paths[:4]))
    again.add(Entry(Path("new.png"), 1.0, task="task"), pixels(0), None)
    again.write()
    rows = content(tmp_path)["rows"]
    assert [row["path"] for row in rows] == [*paths[:4], "new.png"]
    assert len({row["file"] for row in rows}) == 5
    assert (tmp_path / "gallery" / "thumbs" / f"{rows[-1]['file']}.jpg").is_file()
    Gallery(tmp_path, "anew").write()
    assert content(tmp_path)["rows"] == []


@pytest.mark.parametrize("damage", ["", "window.occGallery = {};\n", "nonsense"])
def test_a_damaged_gallery_begins_anew(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    (tmp_path / "gallery" / "data.js").write_text(damage)
    assert Gallery(tmp_path, "anew", kept={"1.png"}).rows == []


def test_what_browsers_cannot_show_is_copied(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 60), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(pixels(0)).save(tmp_path / "plain.tif")
    gallery = Gallery(tmp_path, "formats", range=(0, 4095))
    for name in ("deep.png", "plain.tif", "absent.png"):
        gallery.add(Entry(tmp_path / name, 1.0), pixels(0), None)
    gallery.write()
    sources = [row["source"] for row in content(tmp_path)["rows"]]
    assert sources == ["gallery/images/0.jpg", "gallery/images/1.jpg", ""]
    copy = np.asarray(Image.open(tmp_path / sources[0])).astype(float)
    assert np.abs(copy.mean() - values.mean() / 4095 * 255) < 2


def test_a_gallery_that_cannot_be_written_costs_the_gallery_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gallery").touch()  # where its folder should be; so does a full disk
    gallery = Gallery(tmp_path, "full")
    seen = Seen(pixels(0), (48, 64))
    gallery.show(Entry(Path("1.png"), 1.0), WholeImage(48, 64), seen, None)
    assert gallery.write() is None
    assert "no picture of 1.png" in caplog.text
    assert f"no gallery in {tmp_path}" in caplog.text


def test_scores_that_are_not_finite_are_errors(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, "nan")
    gallery.add(Entry(Path("1.png"), float("nan")), pixels(0), None)
    gallery.write()
    assert content(tmp_path)["rows"][0]["score"] is None
