"""How many images a second a service scores: ``python -m experiments.serve.study``."""

from __future__ import annotations

import http.client
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.trial import table
from occ_lab.config.composition import composed
from occ_lab.config.train import perform_run
from occ_lab.data.images import read_image
from occ_lab.inference.predictor import Predictor, load
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
TASK = "brick"
IMAGES, ROUNDS = 64, 5
CLIENTS = (1, 4, 16)
ADDRESS = re.compile(r"POST http://127.0.0.1:(\d+)/score")
BARE = {"bare, one by one": 1, "bare, batches of 32": 32}


def main() -> None:
    """Measure in turns, so that all meet the same machine, and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [f"dataset.category={TASK}", "gallery=false", "maps=0", "logger=none"]
        perform_run(composed("train", settings), run)
        predictor, images = load(run, TASK), contents(run)
        with served(run, Path(folder)) as port:
            ways = {name: bare(predictor, images, size) for name, size in BARE.items()}
            for clients in CLIENTS:
                ways[f"service, clients: {clients}"] = service(port, images, clients, "true")
            ways[f"service, clients: {CLIENTS[-1]}, map=false"] = service(
                port, images, CLIENTS[-1], "false"
            )
            rounds = [{name: work() for name, work in ways.items()} for _ in range(ROUNDS + 1)]
    rates = {name: [each[name] for each in rounds[1:]] for name in ways}  # the first warms up
    results = {"threads": torch.get_num_threads(), "rates": rates}
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def contents(run: Path) -> list[bytes]:
    """Test images as JPEG files of 256 pixels, as a camera may send them."""
    rows = (run / "scores.csv").read_text(encoding="utf-8").splitlines()[1:]
    found = []
    for row in rows[:IMAGES]:
        path = next(Path(cell) for cell in row.split(",") if cell.endswith(".png"))
        file = io.BytesIO()
        Image.fromarray(read_image(path)).resize((256, 256)).save(file, "jpeg", quality=90)
        found.append(file.getvalue())
    return [found[index % len(found)] for index in range(IMAGES)]


@contextmanager
def served(run: Path, folder: Path) -> Iterator[int]:
    """A service of a run in a process of its own; yields its port."""
    arguments = ["-m", "occ_lab.serve", f"run='{run}'", "port=0", "rate=0"]
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield next(int(found[1]) for line in process.stdout if (found := ADDRESS.search(line)))
    finally:
        process.terminate()
        process.wait(60)


def bare(predictor: Predictor, images: list[bytes], batch_size: int) -> Callable[[], float]:
    """Reading and scoring in this process, without maps at full size."""

    def work() -> float:
        started = time.perf_counter()
        for at in range(0, len(images), batch_size):
            seen = [predictor.seen(image) for image in images[at : at + batch_size]]
            predictor.score_pixels(np.stack([each.pixels for each in seen]), [e.size for e in seen])
        return len(images) / (time.perf_counter() - started)

    return work


def service(port: int, images: list[bytes], clients: int, maps: str) -> Callable[[], float]:
    """As many clients as are named, each with a connection, that send one image after another."""

    def client(mine: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for image in mine:
            connection.request("POST", f"/score?map={maps}", image)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        connection.close()

    def work() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, [images[start::clients] for start in range(clients)]))
        return len(images) / (time.perf_counter() - started)

    return work


def report(results: dict[str, Any]) -> str:
    """The page."""
    rates = results["rates"]
    bases = [rates[name] for name in BARE]
    rows = [
        [
            name,
            f"{median(found):.0f}",
            *(f"{median(map(truediv, found, base)):.2f}" for base in bases),
        ]
        for name, found in rates.items()
    ]
    titles = ["", "images a second", "of bare, one by one", "of bare, batches of 32"]
    return "\n".join(
        [
            "# A service beside the bare detector",
            "",
            f"{IMAGES} JPEG files of 256 × 256 pixels, `loss=norm` on `{TASK}` of the embedded",
            "photographs, the default backbone. The service and its clients share the machine,",
            "over its loopback; bare is reading and scoring in a program, without a service.",
            f"Medians of {ROUNDS} rounds, in each of which every way has its turn; the ratios are",
            "medians of the ratios within a round.",
            "",
            f"Recorded on {date.today()} by `python -m experiments.serve.study` on the CPU.",
            f"Torch had {results['threads']} threads.",
            "",
            *table(titles, rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
