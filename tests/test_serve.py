"""``occ-lab serve``, from its start to its end."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.serve import perform_serve
from occ_lab.config.train import perform_run
from occ_lab.inference.predictor import load
from tests import warm
from tests.data.trees import noise, save
from tests.serving.parts import content, requests

SMALL = [
    *("dataset=folder", "dataset.resize=64", "dataset.tile=null", "loss.time=3", "maps=0"),
    *("backbone.model=test_resnet", "backbone.weights=random", "gallery=false", "logger=none"),
    *("calibration.folds=2", "calibration.overkill=0.1", "moments=false"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factory")
    for number in range(20):
        save(folder / "good" / f"{number:02}.png", noise(number))
    given = [f"dataset.normal='{folder / 'good'}'"]
    perform_run(composed("train", [*SMALL, *given]), folder / "model")
    return folder / "model"


def serve(arguments: list[str], cwd: Path) -> None:
    """``occ-lab serve`` in a process that prints into two files."""
    printed = [cwd / "stdout", cwd / "stderr"]
    warm.as_main(["-m", "occ_lab.serve", *arguments], str(cwd), dict(os.environ), printed)


def test_the_command_serves_until_it_is_stopped(model: Path, tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "1.png").write_bytes(content(1))
    arguments = [f"run='{model}'", "input=line", "port=0", "settle=0", "hydra.run.dir=out"]
    printed, table = tmp_path / "stdout", tmp_path / "out" / "predictions.csv"
    process = warm.started(serve, arguments, tmp_path)
    try:
        address = ""
        while not address:
            assert process.is_alive()
            time.sleep(0.1)
            said = printed.read_text() if printed.exists() else ""
            if found := re.search(r"POST (http://127.0.0.1:\d+)/score", said):
                address = found[1]
        images = [content(number) for number in range(10)]

        def send(image: bytes) -> float:
            return float(requests.post(f"{address}/score", data=image, timeout=60).json()["score"])

        expected = load(model).score(images).image.tolist()
        assert send(images[0]) == pytest.approx(expected[0], rel=1e-4)
        while "line/1.png" not in table.read_text():
            time.sleep(0.05)
        with ThreadPoolExecutor(10) as pool:
            scores = [pool.submit(send, image) for image in images]
            process.terminate()
        for number, each in enumerate(scores):  # in time, or too late
            if not isinstance(each.exception(), requests.ConnectionError):
                assert each.result() == pytest.approx(expected[number], rel=1e-4)
        process.join(60)
    finally:
        process.kill()
    assert process.exitcode == 0
    assert "\nStopped; " in printed.read_text()
    assert (tmp_path / "stderr").read_text() == ""
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("port=70000", "port must be"),
        ("rate=-1", "rate must be"),
        ("host=0.0.0.0", "OCC_LAB_TOKEN"),
        ("host=192.0.2.1 token=0123456789abcdef", "cannot be used"),
        ("input=absent", "no folder"),
        ("run=absent", "absent"),
    ],
)
def test_what_cannot_be_served_is_refused(
    model: Path, tmp_path: Path, override: str, message: str
) -> None:
    given = [f"run='{model}'", "port=0", *override.split()]
    with pytest.raises(UserError, match=message), user_messages():
        perform_serve(composed("serve", given), tmp_path)
    assert not list(tmp_path.iterdir())


def test_signals_are_as_they_were_after_a_refusal(model: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError), user_messages():
        perform_serve(composed("serve", [f"run='{model}'", "input=absent", "port=0"]), tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
