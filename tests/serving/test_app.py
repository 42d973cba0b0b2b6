"""What the service answers."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from PIL import Image

from occ_lab.serving.limits import Limits
from occ_lab.serving.service import Plan
from tests.serving.parts import RATE, Held, Running, content, predictor, requests, running, wait_for

TOKEN = "a token of 20 signs."


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(megabytes=0.05, rate=0)
    with running(tmp_path_factory.mktemp("out"), Plan(limits)) as found:
        yield found


def test_the_answer_is_that_of_the_detector(service: Running) -> None:
    expected = predictor()
    assert expected.calibration is not None
    for number in range(20, 24):
        image = content(number)
        said = service.score(image).json()
        judged = expected.score(image)
        assert judged.p_values is not None
        assert judged.anomalous is not None
        assert said["score"] == pytest.approx(float(judged.image), rel=1e-5)
        assert said["p_value"] == pytest.approx(float(judged.p_values), rel=1e-5)
        assert said["decision"] == ("reject" if judged.anomalous else "accept")
        assert said["threshold"] == pytest.approx(expected.calibration.threshold(RATE))
        assert said["task"] == "bolt"


def test_the_map_is_that_of_the_detector(service: Running) -> None:
    found = service.score(content(20)).json()["map"]
    assert found["shown"] == [0.0, 0.0, 1.0, 1.0]
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["png"]))), float)
    values = found["low"] + (found["high"] - found["low"]) * levels / 255
    expected = predictor()
    seen = expected.seen(content(20))
    _, maps = expected.score_pixels(seen.pixels[None], [seen.size])
    assert maps is not None
    step = (found["high"] - found["low"]) / 255
    assert np.abs(values - maps[0].numpy()).max() <= step
    assert service.score(content(20), params={"map": "false"}).json()["map"] is None


def test_many_at_a_time_get_their_own_answers(service: Running) -> None:
    images = [content(number) for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        scores = [each.json()["score"] for each in pool.map(service.score, images)]
    assert scores == pytest.approx(predictor().score(images).image.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("image", "status", "said"),
    [
        (b"", 422, "not an image"),
        (b"GIF89a and no more", 422, "unreadable"),
        (content(1)[:5000], 422, "unreadable"),
        (bytes(60_000), 413, "0.05 MB"),
        (iter([bytes(30_000)] * 2), 413, "0.05 MB"),  # of unknown length
    ],
)
def test_bad_input_costs_nothing(service: Running, image: bytes, status: int, said: str) -> None:
    answer = service.score(image)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert service.score(content(1)).status_code == 200


def test_whoever_goes_away_costs_nothing(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = service.address.removeprefix("http://").split(":")
    for sent in (b"", content(1)[:500], content(1)):
        length = len(content(1))
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
                + sent
            )
    assert service.score(content(1)).status_code == 200
    assert service.ask("GET", "/health").status_code == 200
    assert caplog.text == ""


def test_pages_of_other_sites_are_refused(service: Running) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Host": "example.org"}):
        assert service.score(content(1), headers=headers).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert service.ask("GET", "/docs", headers=link).status_code == 200


def test_health_figures_and_interface(service: Running) -> None:
    before = service.ask("GET", "/health").json()["scored"]
    service.score(content(3))
    service.score(b"")
    assert service.ask("GET", "/health").json()["scored"] == before + 1
    figures = service.ask("GET", "/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in figures.splitlines() if not line.startswith("#"))
    decided = [
        float(lines[f'occ_lab_images_total{{decision="{said}"}}']) for said in ("accept", "reject")
    ]
    assert sum(decided) == before + 1
    assert float(lines['occ_lab_requests_total{route="/score",status="422"}']) >= 1
    described = service.ask("GET", "/openapi.json").json()["paths"]
    assert set(described) == {"/score", "/health", "/metrics"}
    interface = service.ask("GET", "/docs")
    assert interface.status_code == 200
    assert "//cdn" not in interface.text  # nothing comes from a network
    assert service.ask("GET", "/", allow_redirects=False).headers["location"] == "docs"
    assert service.ask("GET", "/rows").status_code == 404  # no images are recorded


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with running(tmp_path / "out", Plan(Limits(token=TOKEN))) as found:
        assert found.score(content(1), headers={"Authorization": f"Bearer {TOKEN}"}).ok
        assert found.ask("GET", "/health").status_code == 200
        browser = requests.Session()
        first = browser.get(f"{found.address}/docs", params={"token": TOKEN}, timeout=60)
        assert first.status_code == 200
        assert TOKEN not in first.url
        assert browser.get(f"{found.address}/metrics", timeout=60).status_code == 200
        answers = [
            found.ask("GET", "/metrics", headers={"Authorization": f"Bearer {guess}"})
            for guess in ("", "wrong", "é", TOKEN[:-1])
        ]
        assert answers[0].status_code == 401
        assert {each.status_code for each in answers[1:]} == {429}  # guesses are slowed down
        assert found.score(content(1), headers={"Authorization": f"Bearer {TOKEN}"}).ok


def test_a_client_that_sends_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    with running(tmp_path / "out", Plan(Limits(rate=0.5))) as found:
        assert found.score(content(1)).status_code == 200
        again = found.score(content(1))
        assert again.status_code == 429
        assert 1 <= int(again.headers["Retry-After"]) <= 3


def test_what_has_begun_is_answered_when_the_service_ends(tmp_path: Path) -> None:
    images = [content(number) for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        with running(tmp_path / "out") as found:
            held = Held(found.service.predictor)
            answers = [pool.submit(found.score, image) for image in images]
            wait_for(lambda: sum(held.sizes) + found.service.scorer.length == 5)
            Timer(0.3, held.go.set).start()  # the server has been told to end by then
        scores = [each.result().json()["score"] for each in answers]
    assert scores == pytest.approx(predictor().score(images).image.tolist(), rel=1e-4)
