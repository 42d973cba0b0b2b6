"""``python -m occ_lab.stream`` on a dataset and on files, and the inputs that it refuses."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.stream import check_run, perform_stream
from occ_lab.config.train import perform_run
from occ_lab.engine.stream import Streams
from occ_lab.reporting.gallery import gallery
from tests.commands import command
from tests.data.trees import class_tree, mvtec_tree, noise, save

SMALL = ["dataset.resize=64", "dataset.crop=64", "maps=0", "loss.time=3"]
HERE = [
    *SMALL,
    "backbone=resnet18",
    "backbone.model=test_resnet",
    "backbone.weights=random",
    "logger=none",
    "cache.enabled=false",
    "trainer.accelerator=cpu",
]


def pictures(folder: Path, count: int) -> Path:
    """A folder of similar images, in order."""
    for number in range(count):
        save(folder / f"{number:03d}.png", noise(number))
    return folder


def settings(folder: Path, *overrides: str) -> DictConfig:
    return composed("stream", [*HERE, f"input='{folder}'", *overrides])


def stream(cfg: DictConfig, directory: Path) -> None:
    with user_messages():
        perform_stream(cfg, directory)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def batch_scores(parts: Path, folder: Path, paths: list[Path]) -> torch.Tensor:
    """Scores by a run of ``occ_lab.train`` on images in the layout of MVTec AD."""
    overrides = ["dataset=mvtec", f"dataset.root='{parts}'", "loss.solver=closed_form"]
    perform_run(composed("train", [*HERE, *overrides]), folder)
    return occ_lab.load(folder).score(paths).image


def test_a_dataset_ends_as_the_batch_fit_does(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "parts", train=9)
    where = ["dataset=mvtec", f"dataset.root='{tmp_path}/parts'"]
    stream(composed("stream", [*HERE, *where]), tmp_path / "out")
    found = rows(tmp_path / "out" / "streams" / "bolt.csv")
    assert list(found[0]) == ["path", "label", "score", "p_value", "decision", "learned"]
    assert [Path(row["path"]).name for row in found] == [f"{n:03d}.png" for n in range(9)]
    assert found[0]["score"] == found[0]["p_value"] == ""  # nothing was learned yet
    assert all(float(row["score"]) > 0 for row in found[1:])
    assert {row["learned"] for row in found} == {"1"}
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["bolt"]
    assert figures["n_train"] == 9
    costs = json.loads((tmp_path / "out" / "streams" / "bolt.json").read_text())
    assert (costs["images"], costs["learned"], costs["undecided"]) == (9, 9, 9)
    assert set(costs["milliseconds"]) == {"backbone", "score", "update", "re-solve"}
    assert costs["re_solves"] == 9  # once at the end
    tested = sorted((tmp_path / "parts").glob("bolt/test/*/*.png"))
    expected = batch_scores(tmp_path / "parts", tmp_path / "batch", tested)
    scores = occ_lab.load(tmp_path / "out").score(tested).image
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_each_file_is_scored_by_what_came_before(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    mvtec_tree(parts, train=4)
    images = sorted((parts / "bolt" / "train" / "good").iterdir())
    stream(settings(images[0].parent), tmp_path / "out")
    (parts / "bolt" / "train" / "good" / "003.png").rename(tmp_path / "last.png")
    expected = batch_scores(parts, tmp_path / "batch", [tmp_path / "last.png"])
    found = rows(tmp_path / "out" / "streams" / "input.csv")
    assert float(found[3]["score"]) == pytest.approx(float(expected), rel=1e-4)
    earlier = [float(row["score"]) for row in found[1:3]]
    beaten = sum(score >= float(found[3]["score"]) for score in earlier)
    assert float(found[3]["p_value"]) == pytest.approx((1 + beaten) / 3, rel=1e-5)
    loaded = occ_lab.load(tmp_path / "out")
    assert loaded.task == "input"
    maps = loaded.score(noise(1, side=90)).maps
    assert maps is not None
    assert maps.shape == (1, 90, 90)


def test_thumbnails_follow_from_the_images_and_not_from_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = pictures(tmp_path / "parts", 12)
    found = []
    for pause in (-1.0, 1000.0):  # the page is written after each image, or at the end
        monkeypatch.setattr(gallery, "PAUSE", pause)
        folder = tmp_path / f"out{pause}"
        stream(settings(parts, "overkill=0.3", "window=3"), folder)
        thumbs = sorted((folder / "gallery" / "thumbs").iterdir())
        found.append({path.name: path.read_bytes() for path in thumbs})
    assert len(found[0]) == 11
    assert found[0] == found[1]


def test_whole_images_too(tmp_path: Path) -> None:
    class_tree(tmp_path / "classes", train=12, side=32)
    where = ["dataset=class_folder", f"dataset.root='{tmp_path}/classes'", "dataset.category=dot"]
    size = ["dataset.resize=32", "dataset.crop=32"]
    stream(composed("stream", [*HERE, *where, *size]), tmp_path / "out")
    assert len(rows(tmp_path / "out" / "streams" / "dot.csv")) == 12
    costs = json.loads((tmp_path / "out" / "streams" / "dot.json").read_text())
    assert costs["re_solves"] < 12  # only when needed
    assert occ_lab.load(tmp_path / "out").score(noise(3)).maps is None


LOCAL = ["loss.cell=4", "loss.bias=solved", "loss.time=integrated"]


def test_a_projector_for_each_cell_ends_as_the_batch_fit_does(tmp_path: Path) -> None:
    """Also after a stop in the middle, and as the sum of two streams."""
    parts = tmp_path / "parts"
    mvtec_tree(parts, train=9)
    tested = sorted(parts.glob("bolt/test/*/*.png"))
    overrides = ["dataset=mvtec", f"dataset.root='{parts}'", "loss.solver=closed_form", *LOCAL]
    perform_run(composed("train", [*HERE, *overrides]), tmp_path / "batch")
    expected = occ_lab.load(tmp_path / "batch").score(tested).image

    images = sorted((parts / "bolt" / "train" / "good").iterdir())
    states = []
    for name, chosen in (("first", images[:4]), ("second", images[4:8]), ("last", images[8:])):
        (tmp_path / name).mkdir()
        for path in chosen:
            shutil.copy(path, tmp_path / name)
        state = [f"state=[{','.join(states)}]"] if name == "last" else []
        stream(settings(tmp_path / name, *state, *LOCAL), tmp_path / f"{name}_out")
        states.append(f"'{tmp_path}/{name}_out/streams/input.safetensors'")

    for path in images[4:]:
        shutil.copy(path, tmp_path / "first")
    resumed = settings(tmp_path / "first", "resume=true", *LOCAL)
    stream(resumed, tmp_path / "first_out")
    assert len(rows(tmp_path / "first_out" / "streams" / "input.csv")) == 9
    for name in ("first", "last"):
        scores = occ_lab.load(tmp_path / f"{name}_out").score(tested).image
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_the_command_streams_with_a_half_life_and_cells(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 4)
    asked = ["input=line", "half_life=2", "hydra.run.dir=out", *LOCAL]
    small = [each for each in SMALL if not each.startswith("loss.")]
    done = command("stream", *small, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path / "out" / "streams" / "input.csv")
    assert all(float(row["score"]) > 0 for row in found[1:])
    last = occ_lab.load(tmp_path / "out").score(tmp_path / "line" / "003.png").image
    assert float(last) < float(found[3]["score"])  # it has been learned from since


def test_a_directory_with_a_stream_is_left_alone_unless_resumed(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 3)
    stream(settings(tmp_path / "line", "half_life=6"), tmp_path / "out")
    table = tmp_path / "out" / "streams" / "input.csv"
    before = table.read_bytes()
    for overrides, message in (
        (["half_life=6"], "resume=true"),
        (["half_life=7", "resume=true"], "another half_life;"),
    ):
        with pytest.raises(UserError, match=message):
            stream(settings(tmp_path / "line", *overrides), tmp_path / "out")
    assert table.read_bytes() == before
    pictures(tmp_path / "line", 4)
    stream(settings(tmp_path / "line", "half_life=6", "resume=true"), tmp_path / "out")
    assert table.read_bytes().startswith(before)
    assert len(rows(table)) == 4


def test_the_command_reports_what_cannot_be_read_and_its_run_can_be_used(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 3)
    (tmp_path / "line" / "001.png").write_bytes(b"no picture")
    done = command("stream", *SMALL, "input=line", "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 1
    assert "not read: line/001.png" in done.stdout
    assert "re-solve" in done.stdout
    assert len(rows(tmp_path / "out" / "streams" / "input.csv")) == 2
    done = command("predict", "run=out", "input=line/000.png", "hydra.run.dir=p", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "p" / "predictions.csv")) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("half_life=0", "half_life must be a number and > 0"),
        ("refresh=2", "refresh must be a number and >= 0 and <= 1"),
        ("refuse=0.9", "refuse must be a number and >= 0 and <= 0.5"),
        ("window=0", "window must be an integer and >= 1"),
        ("save_every=0", "save_every must be an integer and >= 1"),
        ("loss.solver=gradient", "not norm; use loss=norm loss.solver=closed_form"),
        ("loss=knn", "loss: only the closed form can be updated image by image, not knn"),
        (
            "calibration.share=0.2",
            "calibration, loader.validation, loader.trim, ensemble: a",
        ),
        ("trainer.devices=2", "trainer.devices: a stream is one process"),
        ("projector=identity", "projector: must be LocalProjector"),
        ("overkill=0", "overkill must be a number and > 0"),
        ("heatmaps=worst", "heatmaps must be true, false or rejected, got 'worst'"),
        ("settle=-1", "settle must be a number and >= 0"),
        ("state=missing.safetensors", "state: missing.safetensors is not the state of a stream"),
    ],
)
def test_what_a_stream_cannot_do_is_refused_before_any_work(
    tmp_path: Path, override: str, message: str
) -> None:
    pictures(tmp_path / "line", 1)
    watch = ["watch=true"] if override.startswith("settle") else []
    with pytest.raises(UserError) as error:
        stream(settings(tmp_path / "line", override, *watch), tmp_path / "out")
    assert message in str(error.value)
    assert not list((tmp_path / "out").glob("streams/*"))


def test_what_is_watched_must_be_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", save(tmp_path / "0.png", noise(0))):
        with pytest.raises(UserError, match=f"^input: no folder {path} to watch; create it first"):
            stream(settings(path, "watch=true"), tmp_path / "out")


@pytest.mark.parametrize("key", ["run=somewhere", "watch=true", "heatmaps=true"])
def test_images_must_be_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match="^input is not given; with "):
        stream(composed("stream", [*HERE, key]), tmp_path / "out")


def test_the_parts_of_the_detector_of_a_run_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("stream", ["run=somewhere", "input=line"])
    asked = ["run=somewhere", "input=line", "overkill=0.1", "hydra.run.dir=out", "loss=knn"]
    monkeypatch.setattr("occ_lab.config.stream.overrides_of_the_command", lambda: asked)
    with pytest.raises(UserError, match="^loss=knn: the detector is that of run=somewhere; leave"):
        check_run(cfg)


class Line:
    """A watched folder, and the rows of the stream so far."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.stop = Event()
        self.done: Queue[str] = Queue()
        judge = Streams._judge

        def judging(streams: Streams, *arguments: Any) -> str:
            said = judge(streams, *arguments)
            self.done.put(said)
            return said

        monkeypatch.setattr(Streams, "_judge", judging)
        monkeypatch.setattr("occ_lab.config.stream.stop_on_signal", lambda: nullcontext(self.stop))

    def put(self, name: str, seed: int) -> Path:
        """Write an image that is complete as soon as it has its name."""
        return save(self.folder / f".{name}", noise(seed)).rename(self.folder / name)

    def watched(self, cfg: DictConfig, directory: Path, operator: Callable[[], None]) -> list[str]:
        """Watch while an operator works in a thread of its own; returns the lines of the images."""
        self.stop.clear()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                operator()
            except BaseException as error:
                failed.append(error)
            finally:
                self.stop.set()

        thread = Thread(target=work)
        thread.start()
        try:
            stream(cfg, directory)
        finally:
            thread.join()
            assert not failed, failed
        return list(self.done.queue)

    def wait(self) -> str:
        return self.done.get(timeout=120)


def test_a_folder_is_watched_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tmp_path / "line", monkeypatch)
    asked = ["watch=true", "settle=0.05", "overkill=0.4", "loss.cell=null", "loss.bias=flow"]
    table = tmp_path / "out" / "streams" / "input.csv"

    def morning() -> None:
        line.put("0.png", 0)
        assert line.wait() == f"first   {line.folder}/0.png  (there is nothing to compare it with)"
        assert len(rows(table)) == 1  # it is there at once
        whole = save(tmp_path / "aside" / "1.png", noise(1)).read_bytes()
        with (line.folder / "1.png").open("wb") as file:
            file.write(whole[:100])
            file.flush()
            line.put("2.png", 2)
            assert "2.png" in line.wait()  # the others go on meanwhile
            file.write(whole[100:])
        assert "1.png  score" in line.wait()
        (line.folder / "3.png").write_bytes(b"no picture")
        assert line.wait().startswith(f"not read  {line.folder}/3.png: ")

    with pytest.raises(SystemExit, match="1"):
        line.watched(settings(line.folder, *asked, "patience=1"), tmp_path / "out", morning)
    said = capsys.readouterr().out
    assert f"watching {line.folder} for images; Ctrl-C ends it" in said
    assert said.count("not read: ") == 1
    before = table.read_text()
    assert [Path(row["path"]).name for row in rows(table)] == ["0.png", "2.png", "1.png"]
    pictures = sorted((tmp_path / "out" / "heatmaps" / "input").iterdir())
    assert [path.name for path in pictures] == ["000002_2.png", "000003_1.png"]

    def afternoon() -> None:
        line.put("4.png", 4)
        line.put("3.png", 3)
        assert {Path(line.wait().split()[1]).name for _ in range(2)} == {"3.png", "4.png"}

    line.watched(settings(line.folder, *asked, "resume=true"), tmp_path / "out", afternoon)
    assert "not read" not in capsys.readouterr().out
    assert table.read_text().startswith(before)
    assert len(rows(table)) == 5
    assert occ_lab.load(tmp_path / "out").calibration is not None


def test_a_run_judges_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mvtec_tree(tmp_path / "parts", train=9)
    where = ["dataset=mvtec", f"dataset.root='{tmp_path}/parts'"]
    calibrated = ["calibration.folds=3", "calibration.overkill=0.2"]
    perform_run(composed("train", [*HERE, *where, *calibrated]), tmp_path / "run")
    line = Line(tmp_path / "line", monkeypatch)
    capsys.readouterr()

    def operator() -> None:
        line.put("good.png", 50)
        assert line.wait().split()[0] in ("accept", "reject")
        shutil.copy(tmp_path / "parts" / "bolt" / "test" / "dent" / "000.png", line.folder)
        assert line.wait().startswith("reject")

    cfg = settings(line.folder, "watch=true", "settle=0.05", f"run='{tmp_path}/run'")
    line.watched(cfg, tmp_path / "out", operator)
    said = capsys.readouterr().out
    assert "at a false-positive rate of 20 %, by 9 scores of normal images" in said
    assert "The detector does not learn: the moments" in said
    found = rows(tmp_path / "out" / "streams" / "input.csv")
    expected = occ_lab.load(tmp_path / "run").score([row["path"] for row in found])
    assert [float(row["score"]) for row in found] == pytest.approx(expected.image.tolist())
    assert expected.anomalous is not None
    assert [row["decision"] == "reject" for row in found] == expected.anomalous.tolist()
    again = occ_lab.load(tmp_path / "out")  # a run directory with the same detector
    assert again.score(found[1]["path"]).p_values == expected.p_values[1]
    assert len(list((tmp_path / "out" / "heatmaps" / "input").iterdir())) == 2


def test_ctrl_c_ends_the_command_with_its_state_saved(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 2)
    asked = ["input=line", "watch=true", "hydra.run.dir=out", "heatmaps=false", *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "occ_lab.stream", *asked],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for said in process.stdout:
        if "001.png" in said:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(300) == 0, rest
    assert "input: 0 accepted, 0 rejected" in rest
    assert len(rows(tmp_path / "out" / "streams" / "input.csv")) == 2
    assert (tmp_path / "out" / "streams" / "input.safetensors").is_file()
