"""Streams without a configuration: stopped and resumed, split and merged, images refused."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occ_lab.backbones import LeNet, TimmBackbone
from occ_lab.engine.job import Job
from occ_lab.engine.passage import Passage
from occ_lab.engine.stream import ImageFiles, StreamPlan, Streams
from occ_lab.engine.stream_state import read_state
from occ_lab.objectives import KNN, Norm
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images that are alike, in order."""
    folder = tmp_path_factory.mktemp("line")
    return [save(folder / f"{number:03d}.png", noise(number)) for number in range(30)]


def job(paths: list[Path], **arguments: Any) -> Job:
    objective = partial(Norm, **{"solver": "closed_form", "time": 3, **arguments})
    backbone = TimmBackbone("resnet10t", weights="random")
    return Job([ImageFiles(paths, 64, 64)], backbone, objective)


def followed(paths: list[Path], directory: Path, plan: StreamPlan, **arguments: Any) -> Passage:
    streams = Streams(plan, directory)
    streams.follow_files(job(paths, **arguments))
    return streams.passages["input"]


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "streams" / "input.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def state(directory: Path) -> Path:
    return directory / "streams" / "input.safetensors"


def test_an_odd_image_is_refused(line: list[Path], tmp_path: Path) -> None:
    pixels = noise(400).copy()
    pixels[8:50, 8:50] = np.random.default_rng(0).integers(0, 256, (42, 42, 3), dtype=np.uint8)
    odd = save(tmp_path / "odd.png", pixels)
    plan = StreamPlan(refuse=0.04, window=25)
    with_it = followed([*line, odd], tmp_path / "with", plan)
    without = followed(line, tmp_path / "without", plan)
    found = rows(tmp_path / "with")
    assert found[-1]["learned"] == "0"
    assert float(found[-1]["p_value"]) == pytest.approx(1 / 26, rel=1e-5)
    assert sum(row["learned"] == "1" for row in found) >= 25
    for row in found[1:]:
        assert (row["learned"] == "1") == (float(row["p_value"]) > 0.04)
    assert with_it.figures()["refused"] == without.figures()["refused"] + 1
    one, two = (each.online.objective.local.state() for each in (with_it, without))
    assert all(torch.equal(total, two[name]) for name, total in one.items())


def test_a_stopped_stream_goes_on_to_the_same_end(
    line: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = StreamPlan(half_life=6, refresh=0.3, save_every=4)
    followed(line[:20], tmp_path / "whole", plan, time="auto")
    take, taken = Passage.take, []

    def stopping(self: Passage, pixels: np.ndarray) -> dict[str, Any]:
        taken.append(pixels)
        if len(taken) == 11:
            raise KeyboardInterrupt
        return take(self, pixels)

    monkeypatch.setattr(Passage, "take", stopping)
    with pytest.raises(SystemExit, match="130"):
        followed(line[:20], tmp_path / "parts", plan, time="auto")
    said = capsys.readouterr().out.replace("\n", " ")
    assert f"Go on: the same command with resume=true hydra.run.dir={tmp_path}/parts" in said
    followed(line[:20], tmp_path / "parts", plan, time="auto")
    for suffix in ("csv", "safetensors"):
        ours, theirs = (
            (tmp_path / out / "streams" / f"input.{suffix}").read_bytes()
            for out in ("parts", "whole")
        )
        assert ours == theirs
    assert len(taken) == 11 + 12  # what was saved was not done again


def test_streams_on_parts_of_the_images_are_merged(line: list[Path], tmp_path: Path) -> None:
    for name, part in (("even", line[0:8:2]), ("odd", line[1:8:2])):
        followed(part, tmp_path / name, StreamPlan())
    both = [state(tmp_path / name) for name in ("even", "odd")]
    merged = followed(line[8:9], tmp_path / "merged", StreamPlan(states=both))
    whole = followed(line[:9], tmp_path / "whole", StreamPlan())
    ours, theirs = (float(rows(tmp_path / name)[-1]["score"]) for name in ("merged", "whole"))
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert merged.online.images == whole.online.images == 9
    assert len(merged.scores) == 3 + 3 + 1  # of each stream but for its first image


def test_it_goes_on_from_the_state_of_another_stream(line: list[Path], tmp_path: Path) -> None:
    followed(line[:5], tmp_path / "first", StreamPlan())
    plan = StreamPlan(states=[state(tmp_path / "first")], window=3)
    passage = followed(line[5:8], tmp_path / "second", plan)
    followed(line[:8], tmp_path / "whole", StreamPlan(window=3))
    assert rows(tmp_path / "second") == rows(tmp_path / "whole")[5:]
    assert (passage.position, len(passage.rows), len(passage.scores)) == (3, 3, 3)


def test_what_cannot_be_read_is_left_out(line: list[Path], tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    passage = followed([line[0], tmp_path / "no.png", line[1]], tmp_path / "out", StreamPlan())
    assert list(passage.failed) == [str(tmp_path / "no.png")]
    assert (passage.position, passage.online.images, len(passage.rows)) == (3, 2, 2)
    with pytest.raises(InputError, match="no image could be learned from"):
        followed([tmp_path / "no.png"], tmp_path / "none", StreamPlan())
    followed([tmp_path / "no.png", line[0]], tmp_path / "none", StreamPlan())  # it goes on


@pytest.mark.parametrize(
    ("name", "value"), [("half_life", 0), ("refuse", 0.9), ("window", 0), ("save_every", 0)]
)
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        StreamPlan(**{name: value})  # type: ignore[arg-type]


def test_other_detectors_are_refused(line: list[Path], tmp_path: Path) -> None:
    frozen = job(line[:1])
    for other, message in (
        (Job(frozen.views, frozen.backbone, KNN), "solver=closed_form can be updated .* not KNN"),
        (Job(frozen.views, LeNet(), frozen.objective), "a frozen backbone, not lenet"),
    ):
        with pytest.raises(InputError, match=message):
            Streams(StreamPlan(), tmp_path / "out").follow_files(other)


def test_a_state_of_other_settings_or_a_broken_one_is_refused(
    line: list[Path], tmp_path: Path
) -> None:
    followed(line[:2], tmp_path / "out", StreamPlan())
    kept = state(tmp_path / "out")
    with pytest.raises(InputError, match="learned with time 3, not 5; use the same settings"):
        followed(line[:2], tmp_path / "more", StreamPlan(states=[kept]), time=5)
    (tmp_path / "broken.safetensors").write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(InputError, match="broken.safetensors is not the state of a stream"):
        read_state(tmp_path / "broken.safetensors", {})
