"""Streams without a configuration: stopped and resumed, split and merged, unreadable images."""

from __future__ import annotations

import csv
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from occ_lab.backbones import LeNet, TimmBackbone
from occ_lab.data.transforms import Seen
from occ_lab.engine.job import Job
from occ_lab.engine.live import Stream
from occ_lab.engine.stream import Streams
from occ_lab.engine.stream_files import StreamFiles
from occ_lab.engine.stream_images import ImageFiles
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.engine.stream_state import read_state
from occ_lab.objectives import KNN, Norm
from occ_lab.utils.errors import InputError
from tests.data.trees import noise, save


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Similar images, in order."""
    folder = tmp_path_factory.mktemp("line")
    return [save(folder / f"{number:03d}.png", noise(number)) for number in range(30)]


def job(paths: list[Path], **arguments: Any) -> Job:
    objective = partial(Norm, **{"solver": "closed_form", "time": 3, **arguments})
    backbone = TimmBackbone("test_resnet", weights="random", strides=[8])
    return Job([ImageFiles(paths, 64, 64)], backbone, objective)


def followed(
    paths: list[Path], directory: Path, plan: StreamPlan, save_every: int = 100, **arguments: Any
) -> tuple[Stream, StreamFiles]:
    streams = Streams(plan, directory, save_every)
    made = job(paths, **arguments)
    trainer = made.trainer([], [], 1)
    frame = made.benchmark.preprocessing("input")
    streams.follow_files(streams.stream(made, trainer, frame), paths, trainer, workers=1)
    return streams.done["input"]


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "streams" / "input.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def state(directory: Path) -> Path:
    return directory / "streams" / "input.safetensors"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image like the others of the stream, with a defect."""
    pixels = noise(400).copy()
    pixels[8:50, 8:50] = np.random.default_rng(0).integers(0, 256, (42, 42, 3), dtype=np.uint8)
    return save(tmp_path_factory.mktemp("odd") / "odd.png", pixels)


def test_an_odd_image_is_rejected_and_not_learned_from(
    line: list[Path], odd: Path, tmp_path: Path
) -> None:
    plan = StreamPlan(overkill=0.04)
    with_it, files = followed([*line, odd], tmp_path / "with", plan)
    without, before = followed(line, tmp_path / "without", plan)
    found = rows(tmp_path / "with")
    assert (found[-1]["decision"], found[-1]["learned"]) == ("reject", "0")
    # 29 scores came before; 24 are needed for 4 %, and the latest count.
    assert float(found[-1]["p_value"]) == pytest.approx(1 / 25, rel=1e-5)
    assert [row["decision"] for row in found[:25]] == [""] * 25
    for row in found[25:]:
        rejected = float(row["p_value"]) <= 0.04
        assert (row["decision"], row["learned"]) == (("accept", "1"), ("reject", "0"))[rejected]
    assert files.counts["rejected"] == before.counts["rejected"] + 1
    assert [row["path"] for row in files.rejected][-1] == str(odd)
    assert with_it.online is not None
    assert without.online is not None
    one, two = (each.online.objective.local.state() for each in (with_it, without))
    assert all(torch.equal(total, two[name]) for name, total in one.items())


@pytest.mark.parametrize(("refuse", "learned"), [(0.0, ("1", "1")), (0.5, ("0", "1"))])
def test_what_is_learned_from_can_be_chosen_apart_from_the_decision(
    line: list[Path], odd: Path, tmp_path: Path, refuse: float, learned: tuple[str, str]
) -> None:
    """0 also learns from rejected images; a high value does not learn from all accepted ones."""
    plan = StreamPlan(overkill=0.1, refuse=refuse)
    followed([*line[:14], odd, line[14]], tmp_path, plan)
    *_, rejected, accepted = rows(tmp_path)
    assert (rejected["decision"], accepted["decision"]) == ("reject", "accept")
    assert (rejected["learned"], accepted["learned"]) == learned


def test_a_stopped_stream_goes_on_to_the_same_end(
    line: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The stream is interrupted in the middle of an image, so the last saved state counts."""
    plan = StreamPlan(half_life=6, refresh=0.3, overkill=0.1)
    (tmp_path / "no.png").write_bytes(b"no picture")
    paths = [*line[:3], tmp_path / "no.png", *line[3:19]]
    _, undisturbed = followed(paths, tmp_path / "whole", plan, 4, time="auto")
    take, taken = Stream.take, []

    def stopping(self: Stream, seen: Seen) -> Any:
        taken.append(seen)
        if len(taken) == 11:
            raise KeyboardInterrupt
        return take(self, seen)

    monkeypatch.setattr(Stream, "take", stopping)
    with pytest.raises(SystemExit, match="130"):
        followed(paths, tmp_path / "parts", plan, 4, time="auto")
    said = capsys.readouterr().out
    assert "Stopped; 11 of 20 images are done." in said
    assert f"Go on: the same command with resume=true hydra.run.dir={tmp_path}/parts" in said
    assert len(rows(tmp_path / "parts")) == 10  # two of them after the state was saved
    _, files = followed(paths, tmp_path / "parts", plan, 4, time="auto")
    for suffix in ("csv", "safetensors"):
        ours, theirs = (
            (tmp_path / out / "streams" / f"input.{suffix}").read_bytes()
            for out in ("parts", "whole")
        )
        assert ours == theirs
    assert len(taken) == 11 + 12  # what was saved was not done again
    assert list(files.failed) == list(undisturbed.failed) == [str(tmp_path / "no.png")]


@pytest.mark.parametrize("damage", ["cut", "changed", "absent"])
def test_a_damaged_state_is_named_and_the_stream_begins_anew(
    line: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for out in ("whole", "again"):
        followed(line[:6], tmp_path / out, StreamPlan())
    kept = state(tmp_path / "again")
    content = bytearray(kept.read_bytes())
    if damage == "absent":  # killed before the first one was saved
        kept.unlink()
    else:
        content[-5] ^= 1
        kept.write_bytes(content[: len(content) // (2 if damage == "cut" else 1)])
    followed(line[:6], tmp_path / "again", StreamPlan())
    assert rows(tmp_path / "again") == rows(tmp_path / "whole")
    assert kept.read_bytes() == state(tmp_path / "whole").read_bytes()
    named = f"{kept} is not the state of a stream" in caplog.text
    assert named == (damage != "absent")


@pytest.mark.parametrize("cut", ["half a row", "half a header", "no end of a line"])
def test_a_row_that_was_cut_is_made_again(line: list[Path], tmp_path: Path, cut: str) -> None:
    followed(line[:6], tmp_path, StreamPlan())
    table = tmp_path / "streams" / "input.csv"
    whole = table.read_text()
    lines = whole.splitlines(keepends=True)
    followed(line[:4], tmp_path / "four", StreamPlan())
    shutil.copy(state(tmp_path / "four"), state(tmp_path))
    if cut == "half a header":
        state(tmp_path).unlink()
        table.write_text(lines[0][:9])
    else:
        end = lines[5][:-1] if cut == "no end of a line" else lines[5][: len(lines[5]) // 2]
        table.write_text("".join(lines[:5]) + end)
    followed(line[:6], tmp_path, StreamPlan())
    assert table.read_text() == whole


def test_the_rows_that_a_state_counts_may_have_been_taken_away(
    line: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    followed(line[:4], tmp_path, StreamPlan())
    (tmp_path / "streams" / "input.csv").unlink()
    stream, _ = followed(line[:6], tmp_path, StreamPlan())
    assert "input.csv: 0 rows of 4 are left" in caplog.text
    assert stream.online is not None
    assert stream.online.images == 6
    assert len(rows(tmp_path)) == 2


def test_images_of_one_file_are_not_done_twice(line: list[Path], tmp_path: Path) -> None:
    followed(line[:4], tmp_path, StreamPlan())
    files, listed = StreamFiles(tmp_path, "input"), [f"digits.idx#{n}" for n in range(6)]
    with (tmp_path / "streams" / "input.csv").open("a") as table:
        table.write("digits.idx#4,1,1,,1\n")  # after the state; there is no such file
    made = job(line[:4])
    frame = made.benchmark.preprocessing("input")
    streams = Streams(StreamPlan(), tmp_path)
    stream = streams.stream(made, made.trainer([], [], 1), frame)
    files.restore(stream, listed)
    assert len(files.known) == 4
    assert len(rows(tmp_path)) == 4


def test_it_stops_between_two_images_with_its_state_saved(
    line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Stream.take
    made = job(line[:6])
    trainer = made.trainer([], [], 1)
    stream_of = Streams(StreamPlan(), tmp_path / "out")

    def stopping(self: Stream, seen: Seen) -> Any:
        if len(self.reference.scores) == 2:
            stream_of.stop.set()
        return take(self, seen)

    monkeypatch.setattr(Stream, "take", stopping)
    stream = stream_of.stream(made, trainer, made.benchmark.preprocessing("input"))
    with pytest.raises(SystemExit, match="130"):
        stream_of.follow_files(stream, line[:6], trainer)
    assert read_state(state(tmp_path / "out"), {}).position == 4
    assert len(rows(tmp_path / "out")) == 4


def test_streams_on_parts_of_the_images_are_merged(line: list[Path], tmp_path: Path) -> None:
    for name, part in (("even", line[0:8:2]), ("odd", line[1:8:2])):
        followed(part, tmp_path / name, StreamPlan())
    both = [state(tmp_path / name) for name in ("even", "odd")]
    merged, _ = followed(line[8:9], tmp_path / "merged", StreamPlan(states=both))
    whole, _ = followed(line[:9], tmp_path / "whole", StreamPlan())
    ours, theirs = (float(rows(tmp_path / name)[-1]["score"]) for name in ("merged", "whole"))
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert merged.online is not None
    assert whole.online is not None
    assert merged.online.images == whole.online.images == 9
    assert len(merged.reference.scores) == 3 + 3 + 1  # of each stream but for its first image


def test_it_goes_on_from_the_state_of_another_stream(line: list[Path], tmp_path: Path) -> None:
    followed(line[:5], tmp_path / "first", StreamPlan(overkill=0.25))
    plan = StreamPlan(overkill=0.25, states=[state(tmp_path / "first")], window=3)
    stream, files = followed(line[5:8], tmp_path / "second", plan)
    followed(line[:8], tmp_path / "whole", StreamPlan(overkill=0.25, window=3))
    assert rows(tmp_path / "second") == rows(tmp_path / "whole")[5:]
    assert (files.position, files.counts["images"], len(stream.reference.scores)) == (3, 3, 3)


def test_what_cannot_be_read_is_left_out(line: list[Path], tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    paths = [line[0], tmp_path / "no.png", line[1]]
    stream, files = followed(paths, tmp_path / "out", StreamPlan())
    assert list(files.failed) == [str(tmp_path / "no.png")]
    assert stream.online is not None
    assert (files.position, stream.online.images, files.counts["images"]) == (3, 2, 2)
    with pytest.raises(InputError, match="no image could be learned from"):
        followed([tmp_path / "no.png"], tmp_path / "none", StreamPlan())
    followed([tmp_path / "no.png", line[0]], tmp_path / "none", StreamPlan())  # it goes on


@pytest.mark.parametrize(
    ("name", "value"), [("half_life", 0), ("refuse", 0.9), ("overkill", 0), ("window", 0)]
)
def test_numbers_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        StreamPlan(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^save_every must be"):
        Streams(StreamPlan(), Path(), save_every=0)


def test_other_detectors_are_refused(line: list[Path], tmp_path: Path) -> None:
    frozen = job(line[:1])
    for other, message in (
        (Job(frozen.views, frozen.backbone, KNN), "its objective is KNN, not the norm-space"),
        (Job(frozen.views, LeNet(), frozen.objective), "a frozen backbone, not lenet"),
    ):
        with pytest.raises(InputError, match=message):
            Streams(StreamPlan(), tmp_path).stream(other, other.trainer([], [], 1), None)


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
