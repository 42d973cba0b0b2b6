"""A small detector, and a service of it on a free port."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from occ_lab.backbones import TimmBackbone
from occ_lab.data.transforms import Preprocessing
from occ_lab.detector import Detector
from occ_lab.inference.predictor import Predictor
from occ_lab.metrics.calibration import Calibration
from occ_lab.objectives import Norm
from occ_lab.serving.service import Plan, Service

requests = pytest.importorskip("requests")
pytest.importorskip("fastapi", reason="the extra serve is not installed")

RATE = 0.1


def predictor() -> Predictor:
    """A detector with random weights; its calibration accepts about half of all noise."""
    torch.manual_seed(0)
    backbone = TimmBackbone("test_resnet", weights="random")
    detector = Detector(backbone, Norm(solver="gradient"), preprocessing=Preprocessing(64, 64))
    found = Predictor(detector, "bolt")
    noises = [content(number) for number in range(30)]
    scores = found.score(noises[:20]).image.double()
    found.calibration = Calibration.of(scores, scores)
    found.overkill = RATE
    return found


def content(seed: int, height: int = 80, width: int = 100) -> bytes:
    """The content of a PNG file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


class Held:
    """Makes a predictor wait before each batch, and counts its images; black is an error.

    Attributes:
        go: lets it work.
        begun: is set as soon as a batch waits.
        sizes: of the batches so far, the one that waits included.
    """

    def __init__(self, found: Predictor) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self._score = found.score_pixels
        found.score_pixels = self.score  # type: ignore[method-assign]

    def score(self, pixels: np.ndarray, sizes: Any) -> Any:
        self.sizes.append(len(pixels))
        self.begun.set()
        assert self.go.wait(60)
        if not pixels.any(axis=(1, 2, 3)).all():
            raise ValueError("black")
        return self._score(pixels, sizes)


@dataclass
class Running:
    """A service that runs, and its address."""

    service: Service
    address: str

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Send a request."""
        return requests.request(method, f"{self.address}{path}", timeout=60, **more)

    def score(self, image: bytes, **more: Any) -> Any:
        """Send an image."""
        return self.ask("POST", "/score", data=image, **more)


@contextmanager
def running(directory: Path, plan: Plan | None = None) -> Iterator[Running]:
    """A service in a thread, until the block ends."""
    from occ_lab.serving.server import listening, server_of

    directory.mkdir(exist_ok=True)
    service = Service(predictor(), directory, plan or Plan())
    with listening("127.0.0.1", 0) as listener:
        server = server_of(service)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield Running(service, f"http://127.0.0.1:{listener.getsockname()[1]}")
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def wait_for(done: Any, seconds: float = 30) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
