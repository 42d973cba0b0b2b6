"""``python -m occ_lab.stream``: scored before learned, stopped and resumed, split and merged."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.data.images import read_image
from occ_lab.engine.passage import Passage
from occ_lab.engine.run import run
from occ_lab.engine.stream import stream
from occ_lab.inference.predictor import TrainedDetector
from occ_lab.utils.errors import InputError
from tests.commands import command
from tests.data.trees import class_tree, mvtec_tree, noise, save

SMALL = ["dataset.resize=64", "dataset.crop=64", "maps=0", "loss.time=3"]
HERE = [*SMALL, "logger=none", "cache.enabled=false", "trainer.accelerator=cpu"]


def pictures(folder: Path, count: int, first: int = 0) -> Path:
    """A folder of images that are alike, in order."""
    for place in range(first, first + count):
        save(folder / f"{place:03d}.png", noise(place))
    return folder


def settings(folder: Path, *overrides: str) -> DictConfig:
    return composed("stream", [*HERE, f"input='{folder}'", *overrides])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def batch_scores(parts: Path, folder: Path, paths: list[Path]) -> torch.Tensor:
    """Scores by a run of ``occ_lab.train`` on images in the layout of MVTec AD."""
    overrides = ["dataset=mvtec", f"dataset.root='{parts}'", "loss.solver=closed_form"]
    run(composed("train", [*HERE, *overrides]), folder)
    return occ_lab.load(folder).score(paths).image


def test_a_dataset_ends_as_the_batch_fit_does(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "parts", train=9)
    where = ["dataset=mvtec", f"dataset.root='{tmp_path}/parts'"]
    stream(composed("stream", [*HERE, *where]), tmp_path / "out")
    told = rows(tmp_path / "out" / "streams" / "bolt.csv")
    assert [Path(row["path"]).name for row in told] == [f"{n:03d}.png" for n in range(9)]
    assert told[0]["score"] == told[0]["p_value"] == ""  # nothing was learned yet
    assert all(float(row["score"]) > 0 for row in told[1:])
    assert {row["learned"] for row in told} == {"1"}
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["bolt"]
    assert figures["n_train"] == 9
    costs = json.loads((tmp_path / "out" / "streams" / "bolt.json").read_text())
    assert (costs["images"], costs["learned"], costs["refused"]) == (9, 9, 0)
    assert set(costs["milliseconds"]) == {"backbone", "score", "update", "re-solve"}
    assert costs["re_solves"] == 8  # and once more at the end
    tested = sorted((tmp_path / "parts").glob("bolt/test/*/*.png"))
    expected = batch_scores(tmp_path / "parts", tmp_path / "batch", tested)
    found = occ_lab.load(tmp_path / "out").score(tested).image
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_each_image_is_scored_by_what_came_before(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    mvtec_tree(parts, train=4)
    images = sorted((parts / "bolt" / "train" / "good").iterdir())
    stream(settings(images[0].parent), tmp_path / "out")
    (parts / "bolt" / "train" / "good" / "003.png").rename(tmp_path / "last.png")
    expected = batch_scores(parts, tmp_path / "batch", [tmp_path / "last.png"])
    told = rows(tmp_path / "out" / "streams" / "input.csv")
    assert float(told[3]["score"]) == pytest.approx(float(expected), rel=1e-4)
    earlier = [float(row["score"]) for row in told[1:3]]
    beaten = sum(score >= float(told[3]["score"]) for score in earlier)
    assert float(told[3]["p_value"]) == pytest.approx((1 + beaten) / 3, rel=1e-5)


def test_whole_images_too(tmp_path: Path) -> None:
    class_tree(tmp_path / "classes", train=12, side=32)
    where = ["dataset=class_folder", f"dataset.root='{tmp_path}/classes'", "dataset.category=dot"]
    size = ["dataset.resize=32", "dataset.crop=32"]
    stream(composed("stream", [*HERE, *where, *size]), tmp_path / "out")
    told = rows(tmp_path / "out" / "streams" / "dot.csv")
    assert len(told) == 12
    costs = json.loads((tmp_path / "out" / "streams" / "dot.json").read_text())
    assert costs["re_solves"] < 11  # lazily
    assert occ_lab.load(tmp_path / "out").score(noise(3)).maps is None


def test_an_odd_image_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 30)
    odd = noise(400).copy()
    odd[8:50, 8:50] = np.random.default_rng(0).integers(0, 256, (42, 42, 3), dtype=np.uint8)
    save(tmp_path / "line" / "999.png", odd)
    stream(settings(tmp_path / "line", "refuse=0.04", "window=25"), tmp_path / "out")
    told = rows(tmp_path / "out" / "streams" / "input.csv")
    assert told[-1]["learned"] == "0"
    assert float(told[-1]["p_value"]) == pytest.approx(1 / 26, rel=1e-5)
    assert sum(row["learned"] == "1" for row in told) >= 25
    for row in told[1:]:
        assert (row["learned"] == "1") == (float(row["p_value"]) > 0.04)
    with_it, without = (
        occ_lab.load(tmp_path / out).detector.objective.moments.mean
        for out in ("out", "without")
        if out == "out" or stream_without_last(tmp_path, out)
    )
    assert torch.equal(with_it, without)


def stream_without_last(folder: Path, out: str) -> bool:
    (folder / "line" / "999.png").unlink()
    stream(settings(folder / "line", "refuse=0.04", "window=25"), folder / out)
    return True


def test_stopped_it_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "line", 20)
    more = ["save_every=4", "loss.time=auto", "half_life=6", "refresh=0.3"]
    stream(settings(tmp_path / "line", *more), tmp_path / "whole")
    take, taken = Passage.take, []

    def stopping(self: Passage, pixels: np.ndarray) -> dict:
        taken.append(pixels)
        if len(taken) == 11:
            raise KeyboardInterrupt
        return take(self, pixels)

    monkeypatch.setattr(Passage, "take", stopping)
    with pytest.raises(SystemExit, match="130"):
        stream(settings(tmp_path / "line", *more), tmp_path / "parts")
    with pytest.raises(InputError, match="resume=true"):
        stream(settings(tmp_path / "line", *more), tmp_path / "parts")
    with pytest.raises(InputError, match="another half_life;"):
        stream(settings(tmp_path / "line", *more, "half_life=7", "resume=true"), tmp_path / "parts")
    stream(settings(tmp_path / "line", *more, "resume=true"), tmp_path / "parts")
    for suffix in ("csv", "safetensors"):
        ours, theirs = (
            tmp_path / out / "streams" / f"input.{suffix}" for out in ("parts", "whole")
        )
        assert ours.read_bytes() == theirs.read_bytes()
    assert len(taken) == 11 + 12  # what was saved was not done again


def test_two_processes_and_a_merge(tmp_path: Path) -> None:
    mvtec_tree(tmp_path / "parts", train=8)
    images = sorted((tmp_path / "parts" / "bolt" / "train" / "good").iterdir())
    for place, path in enumerate(images):
        save(tmp_path / "line" / str(place % 2) / path.name, read_image(path))

    def half(name: str) -> None:
        done = command(
            "stream", *SMALL, f"input=line/{name}", f"hydra.run.dir=half{name}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(half, ("0", "1")))
    pictures(tmp_path / "more", 1, first=70)
    both = "state=[half0/streams/input.safetensors,half1/streams/input.safetensors]"
    done = command("stream", *SMALL, both, "input=more", "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (told,) = rows(tmp_path / "out" / "streams" / "input.csv")
    expected = batch_scores(tmp_path / "parts", tmp_path / "batch", [tmp_path / "more" / "070.png"])
    assert float(told["score"]) == pytest.approx(float(expected), rel=1e-4)
    assert occ_lab.load(tmp_path / "out").detector.objective.moments.even.total[-1, -1] > 0


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


def test_help_shows_how_to_go_on(tmp_path: Path) -> None:
    done = command("stream", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "state=" in done.stdout
    assert "half_life" in done.stdout


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("half_life=0", "half_life must be a number and > 0"),
        ("refuse=0.9", "refuse must be a number and >= 0 and <= 0.5"),
        ("window=0", "window must be an integer and >= 1"),
        ("save_every=0", "save_every must be an integer and >= 1"),
        ("loss.solver=gradient", "loss.solver=closed_form"),
        ("calibration.share=0.2", "calibration, ensemble: a stream"),
        ("trainer.devices=2", "trainer.devices: a stream is one process"),
        ("state=missing.safetensors", "state: missing.safetensors is not the state of a stream"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(tmp_path: Path, override: str, told: str) -> None:
    pictures(tmp_path / "line", 1)
    with pytest.raises(InputError) as error:
        stream(settings(tmp_path / "line", override), tmp_path / "out")
    assert told in str(error.value)
    assert not list((tmp_path / "out").glob("streams/*"))


def test_other_methods_do_not_learn_from_a_stream(tmp_path: Path) -> None:
    cfg = composed("stream", ["loss=knn", f"input='{tmp_path}'"])
    with pytest.raises(InputError, match="loss: only the closed form .* not knn"):
        stream(cfg, tmp_path / "out")


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 2)
    stream(settings(tmp_path / "line"), tmp_path / "out")
    state = tmp_path / "out" / "streams" / "input.safetensors"
    with pytest.raises(InputError, match=r"learned with time 3, not 5; repeat its settings"):
        stream(settings(tmp_path / "line", "loss.time=5", f"state='{state}'"), tmp_path / "more")
    (tmp_path / "broken.safetensors").write_bytes(state.read_bytes()[:-9])
    with pytest.raises(InputError, match="is not the state of a stream"):
        stream(
            settings(tmp_path / "line", f"state='{tmp_path}/broken.safetensors'"), tmp_path / "more"
        )


def test_as_a_detector_its_pixels_are_those_of_the_run(tmp_path: Path) -> None:
    pictures(tmp_path / "line", 2)
    stream(settings(tmp_path / "line"), tmp_path / "out")
    loaded = occ_lab.load(tmp_path / "out")
    assert isinstance(loaded, TrainedDetector)
    assert loaded.task == "input"
    assert loaded.score(noise(1, side=90)).maps.shape == (1, 64, 64)  # type: ignore[union-attr]
