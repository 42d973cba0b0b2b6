"""The images of a folder, and what is recorded of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from occ_lab.engine.corrections import read_verdicts
from occ_lab.serving.limits import Limits
from occ_lab.serving.service import Plan
from tests.serving.parts import Running, content, predictor, running, wait_for

pytest.importorskip("watchfiles", reason="the extra serve is not installed")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page_rows(found: Running, after: int = 0) -> list[dict[str, Any]]:
    answer = found.ask("GET", "/rows", params={"after": after}).json()
    return list(answer["rows"])


def test_a_folder_is_followed_recorded_and_gone_on_with(tmp_path: Path) -> None:
    line, out = tmp_path / "line é", tmp_path / "out"
    line.mkdir()
    for number in range(3):
        (line / f"{number}.png").write_bytes(content(number))
    plan = Plan(Limits(rate=0), line, keep=True, settle=0.05, patience=0.3)
    with running(out, plan) as found:
        (line / "damaged.png").write_bytes(content(9)[:3000])
        wait_for(lambda: len(page_rows(found)) == 3 and found.service.failed)
        assert found.score(content(3)).status_code == 200  # kept, and shown as well
        wait_for(lambda: len(page_rows(found)) == 4)
        (last,) = page_rows(found, after=3)
        assert Path(last["path"]).read_bytes() == content(3)
        for row in page_rows(found):
            image = found.ask("GET", f"/{row['source']}")
            assert image.content == Path(row["path"]).read_bytes()
            for part in ("thumbs/{}.jpg", "maps/{}.js"):
                assert found.ask("GET", f"/gallery/{part.format(row['file'])}").status_code == 200
        assert found.ask("GET", "/images/99").status_code == 404
        assert found.ask("GET", "/gallery/thumbs/..%2F..%2Findex.jpg").status_code in (404, 422)
    assert list(found.service.failed) == [str(line / "damaged.png")]
    assert (out / "index.html").is_file()
    table = rows(out / "predictions.csv")
    expected = predictor().score([content(number) for number in range(4)]).image.tolist()
    assert [float(row["score"]) for row in table] == pytest.approx(expected, rel=1e-4)

    with (out / "predictions.csv").open("a") as file:
        file.write("line/cut")  # as a power cut may leave it
    (line / "4.png").write_bytes(content(4))
    with running(out, plan) as found:
        wait_for(lambda: len(page_rows(found)) == 5)
        assert found.score(content(5)).status_code == 200
        wait_for(lambda: len(page_rows(found)) == 6)
        assert found.service.counters.scored == 2  # the others are known
    names = [Path(row["path"]).name for row in rows(out / "predictions.csv")]
    assert names == ["0.png", "1.png", "2.png", "000001.png", "4.png", "000002.png"]


def test_an_image_that_cannot_be_kept_has_its_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    floats = tmp_path / "floats.tif"  # 64 bits, which Pillow does not know
    tifffile.imwrite(floats, np.arange(64.0**2).reshape(64, 64))
    with running(out, Plan(Limits(rate=0), keep=True)) as found:
        detector = found.service.predictor.detector
        detector.see(replace(detector.frame, range=(0, 64**2)))
        assert found.score(floats.read_bytes()).status_code == 200
        assert (out / "posted" / "000001.tif").read_bytes() == floats.read_bytes()
        (out / "posted").rename(tmp_path / "away")
        (out / "posted").write_text("no folder")
        assert found.score(content(1)).status_code == 200
    assert "is not kept" in caplog.text


def test_verdicts_are_saved_at_once_and_read_by_correct(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(out, Plan(Limits(rate=0), keep=True)) as found:
        for number in range(3):
            found.score(content(number))
        wait_for(lambda: len(page_rows(found)) == 3)
        paths = [row["path"] for row in page_rows(found)]

        def say(path: str, verdict: str | None, defect: str = "") -> int:
            body = {"path": path, "verdict": verdict, "defect": defect, "score": 1.5}
            return int(found.ask("PUT", "/verdicts", json=body).status_code)

        assert found.ask("GET", "/verdicts.csv").status_code == 404
        assert say(paths[0], "missed", "=scratch") == 204
        assert say(paths[1], "false alarm") == 204
        assert say(paths[2], "good") == 204
        assert say(paths[2], None) == 204
        assert say("/etc/passwd", "good") == 404
        assert say(paths[0], "perhaps") == 422
        assert found.ask("GET", "/verdicts.csv").content == (out / "verdicts.csv").read_bytes()
    marked = read_verdicts(out / "verdicts.csv")
    assert [(each.path, each.verdict) for each in marked] == [
        (Path(paths[0]), "missed"),
        (Path(paths[1]), "false alarm"),
    ]
    assert rows(out / "verdicts.csv")[0]["defect"] == "./=scratch"
    with running(out, Plan(Limits(rate=0), keep=True)) as found:
        marks = found.ask("GET", "/rows", params={"after": 0}).json()["marks"]
        assert marks[paths[1]] == {"truth": "good", "kind": ""}


def test_the_page_shows_what_comes_and_saves_verdicts(tmp_path: Path, browser: Any) -> None:
    out = tmp_path / "out"
    with running(out, Plan(Limits(rate=0), keep=True)) as found:
        context = browser.new_context(viewport={"width": 900, "height": 700})
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text))
        page.goto(found.address)
        assert page.inner_text("#shown") == "0 of 0 images"
        found.score(content(1))
        page.wait_for_selector(".tile")
        found.score(content(2))
        page.locator(".tile").nth(1).wait_for()
        assert page.inner_text("#shown") == "2 of 2 images"
        assert "000002" in page.inner_text(".tile .name")  # the latest is the first
        page.click(".tile button")
        page.keyboard.press("r")
        page.get_by_text("saved in verdicts.csv").wait_for(state="attached")
        (row,) = rows(out / "verdicts.csv")
        assert row["verdict"] == ("defect" if row["decision"] == "reject" else "missed")
        page.keyboard.press("Escape")
        page.reload()
        page.wait_for_selector(".tile .verdict:not([hidden])")
        assert errors == []
        context.close()
