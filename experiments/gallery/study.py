"""How well a gallery of ten thousand images scrolls: ``python -m experiments.gallery.study``."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from experiments.trial import table
from occ_lab.reporting.gallery.gallery import Entry, Gallery, Judging
from occ_lab.reporting.gallery.scale import Scale
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
COUNTS = (1000, 10_000)
STEPS = 120  # frames that are scrolled, each by three rows
# Scrolls a step in each frame and returns the milliseconds between the frames.
SCROLL = """
async (steps) => {
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let step = 0; step < steps; step += 1) {
    scrollBy(0, 666);
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}
"""
# Moves the threshold and returns the milliseconds until the next frame is drawn.
MOVE = """
async (steps) => {
  const times = [], slider = document.getElementById('slider');
  for (let step = 0; step < steps; step += 1) {
    const before = performance.now();
    slider.value = 300 + step;
    slider.dispatchEvent(new Event('input'));
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
  }
  return times;
}
"""


def main() -> None:
    """Measure and write the page."""
    results = {str(count): measured(count) for count in COUNTS}
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def measured(count: int) -> dict[str, Any]:
    """Milliseconds an image to write, and of frames while the page scrolls."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (192, 256, 3), dtype=np.uint8)
    heat = generator.random((192, 256), dtype=np.float32)
    scores = generator.gamma(4.0, size=count)
    calibration = sorted(generator.gamma(4.0, size=999).tolist())
    threshold = calibration[-10]
    judging = Judging(threshold, 0.01, calibration, Scale(calibration[500], threshold))
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder), "parts", {"parts": judging})
        started = time.perf_counter()
        for index, score in enumerate(scores):
            entry = Entry(Path(f"line/{index:05}.png"), float(score), task="parts")
            gallery.add(entry, pixels, heat)
        page_file = gallery.write()
        written = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            started = time.perf_counter()
            page.goto(page_file.as_uri())
            page.wait_for_selector(".tile")
            opened = time.perf_counter() - started
            frames, moves = page.evaluate(SCROLL, STEPS), page.evaluate(MOVE, STEPS)
            browser.close()
    return {
        "write_ms": 1000 * written / count,
        "mb": size / 1e6,
        "open_seconds": opened,
        "frame_ms": frames,
        "move_ms": moves,
    }


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows = [
        [
            key,
            f"{found['write_ms']:.1f}",
            f"{found['mb']:.0f}",
            f"{found['open_seconds']:.1f}",
            *(
                f"{median(found[name]):.0f} / {np.quantile(found[name], 0.99):.0f}"
                for name in ("frame_ms", "move_ms")
            ),
        ]
        for key, found in results.items()
    ]
    titles = ["images", "writing, ms an image", "size, MB", "opening, s"]
    titles += ["a frame while scrolling, ms", "moving the threshold, ms"]
    return "\n".join(
        [
            "# A gallery of ten thousand images",
            "",
            "Generated images with maps, 1280 × 900 pixels of a headless Chromium without a GPU:",
            f"{STEPS} frames, each scrolled by three rows, and {STEPS} movements of the threshold",
            "until the next frame. Median / 99 % quantile. Writing is thumbnail, map and table, on",
            "one thread of a busy machine.",
            "",
            f"Recorded on {date.today()} by `python -m experiments.gallery.study`.",
            "",
            *table(titles, rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
