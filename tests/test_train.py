"""The main command, as a user types it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.commands import command
from tests.data.trees import mvtec_tree, noise, save

SMALL = ["loss.fit.epochs=1", "dataset.resize=64", "dataset.crop=64", "maps=2"]
# Runs the command in-process and says on stderr which slow imports it made.
SPY = (
    "import atexit, sys; sys.argv[0] = 'train'; import occ_lab.train as t; "
    "from occ_lab.config.start import start; "
    "atexit.register(lambda: print('IMPORTED', "
    "[m for m in ('torch', 'lightning', 'timm', 'albumentations') if m in sys.modules], "
    "file=sys.stderr)); start(t.main, 'train')"
)


def train(
    *overrides: str, cwd: Path, spy: bool = False, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    if not spy:
        return command("train", *overrides, cwd=cwd, env=env)
    return subprocess.run(
        [sys.executable, "-c", SPY, *overrides],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "140", **(env or {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("Daten ä") / "parts"
    mvtec_tree(root, "bolt")
    mvtec_tree(root, "nut")
    return root


def on_bolts(bolts: Path, *overrides: str) -> list[str]:
    return ["dataset=mvtec", f"dataset.root='{bolts}'", *SMALL, *overrides]


def test_a_run_leaves_what_the_design_lists(bolts: Path, tmp_path: Path) -> None:
    gradient = ["loss=norm", "loss.solver=gradient"]
    done = train(*on_bolts(bolts, *gradient, "hydra.run.dir=out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    summary = json.loads((out / "metrics.json").read_text())
    header = {"dataset", "loss", "backbone", "seed", "version", "train_limit", "contamination"}
    header |= {"protocol", "aupro_limit"}
    assert set(summary) == {*header, "tasks", "mean"}
    assert summary["seed"] == 0
    assert list(summary["tasks"]) == ["bolt", "nut"]
    metrics = {"image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_aupro"}
    metrics |= {"pixel_aupro_005", "pixel_ap", "pixel_f1max", "pixel_aupimo"}
    for figures in summary["tasks"].values():
        counts = {"n_train", "n_train_anomalous", "n_test", "trainable_parameters"}
        facts = {*counts, "seconds", "peak_memory_mb", "steps"}
        assert set(figures) == metrics | facts
        assert all(0 <= figures[name] <= 1 for name in metrics)
        assert set(figures["seconds"]) == {"features", "fit", "test"}
        assert (figures["n_train"], figures["n_test"], figures["steps"]) == (6, 6, 1)
    assert set(summary["mean"]) == metrics
    rows = list(csv.DictReader((out / "scores.csv").open(encoding="utf-8")))
    assert [row["task"] for row in rows] == ["bolt"] * 6 + ["nut"] * 6
    assert {row["label"] for row in rows} == {"0", "1"}
    assert all(Path(row["path"]).is_file() and float(row["score"]) >= 0 for row in rows)
    assert (out / ".hydra" / "config.yaml").is_file()
    # What differs from task to task keeps its reference; all else is resolved.
    assert "${" not in (out / "config.yaml").read_text().replace("${task.folder}", "")
    for name in ("bolt", "nut"):
        task = out / "tasks" / name
        assert len(list((task / "maps").glob("*.png"))) == 2
        assert Image.open(next((task / "maps").glob("*.png"))).width > 800
        assert "loss" in (task / "metrics.csv").read_text()
        checkpoint = torch.load(task / "checkpoints" / "last.ckpt", weights_only=True)
        assert not [key for key in checkpoint["state_dict"] if key.startswith("backbone.")]
        assert [key for key in checkpoint["state_dict"] if key.startswith("projector.")]
        assert checkpoint["backbone"]
    for text in ("bolt", "nut", "mean", "image AUROC", "pixel AUPRO", str(out), "maps/*.png"):
        assert text in done.stdout
    assert "Traceback" not in done.stderr


def test_same_seed_same_figures_and_resume_skips(bolts: Path, tmp_path: Path) -> None:
    # A cold cache first, then a warm one.
    command = on_bolts(bolts, "dataset.category=bolt", f"cache.dir={tmp_path}/cache")
    figures = []
    for place in ("a", "b"):
        assert train(*command, f"hydra.run.dir={place}", cwd=tmp_path).returncode == 0
        task = json.loads((tmp_path / place / "metrics.json").read_text())["tasks"]["bolt"]
        scores = (tmp_path / place / "scores.csv").read_text()
        measured = ("seconds", "peak_memory_mb")
        figures.append(({k: v for k, v in task.items() if k not in measured}, scores))
    assert figures[0] == figures[1]

    refused = train(*command, "hydra.run.dir=a", cwd=tmp_path)
    assert refused.returncode == 1
    assert "resume=true" in refused.stderr

    before = (tmp_path / "a" / "tasks" / "bolt" / "metrics.json").stat().st_mtime_ns
    again = train(
        *on_bolts(bolts, "resume=true", f"cache.dir={tmp_path}/cache"),
        "hydra.run.dir=a",
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert "bolt: finished before, skipped" in again.stdout
    assert (tmp_path / "a" / "tasks" / "bolt" / "metrics.json").stat().st_mtime_ns == before
    assert list(json.loads((tmp_path / "a" / "metrics.json").read_text())["tasks"]) == [
        "bolt",
        "nut",
    ]


def test_oracle_is_labelled(bolts: Path, tmp_path: Path) -> None:
    command = on_bolts(
        bolts, "dataset.category=bolt", "loss=svdd", "oracle=true", "loss.fit.epochs=2"
    )
    done = train(*command, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["bolt"]
    for name, best in task["oracle_best_epoch"].items():
        assert best["epoch"] in (1, 2)
        assert best["value"] >= task[name] - 1e-9


def test_one_pass_has_no_oracle(bolts: Path, tmp_path: Path) -> None:
    done = train(*on_bolts(bolts, "loss=knn", "oracle=true"), cwd=tmp_path)
    assert done.returncode == 1
    assert "oracle: the objective learns in one pass" in done.stderr


def test_ctrl_c_leaves_finished_tasks_whole(bolts: Path, tmp_path: Path) -> None:
    long = ["loss.solver=gradient", "hydra.run.dir=out"]  # one pass would be over too soon
    command = on_bolts(bolts, *long, "loss.fit.epochs=100000")
    first = train(*on_bolts(bolts, *long, "dataset.category=bolt"), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    settings = tmp_path / "out" / "config.yaml"  # so that one task is finished, one runs for long
    settings.write_text(settings.read_text().replace("epochs: 1\n", "epochs: 100000\n"))
    process = subprocess.Popen(
        [sys.executable, "-m", "occ_lab.train", *command, "resume=true"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        # A shell lets its background jobs ignore Ctrl-C, and they their own children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started = time.monotonic()
    while not list(tmp_path.glob("out/tasks/.nut*/metrics.csv")):
        assert process.poll() is None
        assert time.monotonic() - started < 120
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "1 of 2 tasks are finished" in output
    assert "resume=true hydra.run.dir=" in output
    assert "Traceback" not in output
    assert [path.name for path in (tmp_path / "out" / "tasks").iterdir()] == ["bolt"]
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]) == ["bolt"]


@pytest.mark.parametrize(
    ("overrides", "code", "texts"),
    [
        (["--help"], 0, ["KEY=VALUE", "occ-lab train -m", "*textures"]),
        (["--cfg", "job"], 0, ["_target_: occ_lab.objectives.norm.objective.Norm"]),
        (["loss.nrom=1"], 1, ["did you mean loss.norm?"]),
        (["dataset=mvtec", "dataset.root=nowhere"], 1, ["dataset.root: no mvtec data", "licence"]),
        (["dataset.category=[]"], 1, ["dataset.category is empty"]),
    ],
)
def test_answers_before_slow_imports(
    overrides: list[str], code: int, texts: list[str], tmp_path: Path
) -> None:
    done = train(*overrides, cwd=tmp_path, spy=True)
    assert done.returncode == code, done.stderr
    for text in texts:
        assert text in done.stdout + done.stderr
    assert "IMPORTED []" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("loss.norm=-1", "loss.norm must be a number and > 0"),
        ("loss.fit.epochs=0", "loss.fit.epochs must be"),
        ("scoring.image=median", "scoring.image must be max, top or patches"),
        ("seed=-1", "seed must be"),
        ("backbone.weights=no.safetensors", "no.safetensors"),
        ("loss._target_=mine.Cosine", "loss._target_: mine.Cosine cannot be imported"),
    ],
)
def test_bad_values_fail_before_any_work(
    bolts: Path, tmp_path: Path, override: str, text: str
) -> None:
    done = train(*on_bolts(bolts, override, "hydra.run.dir=out"), cwd=tmp_path)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "tasks").exists()


def test_a_corrupt_file_stops_before_training(tmp_path: Path) -> None:
    folder = mvtec_tree(tmp_path / "data", "bolt")
    (folder / "train" / "good" / "003.png").write_bytes(b"no image")
    done = train(*on_bolts(tmp_path / "data", "hydra.run.dir=out"), cwd=tmp_path)
    assert done.returncode == 1
    assert f"{folder / 'train' / 'good' / '003.png'}: unreadable" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_results_agree_with_and_without_the_cache(bolts: Path, tmp_path: Path) -> None:
    scores = []
    for place, enabled in (("with", "true"), ("without", "false")):
        command = on_bolts(bolts, "dataset.category=bolt", f"cache.enabled={enabled}")
        done = train(*command, f"hydra.run.dir={place}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = csv.DictReader((tmp_path / place / "scores.csv").open(encoding="utf-8"))
        scores.append([float(row["score"]) for row in rows])
    # float16 keeps 11 bits: 5e-4 relative for a feature, less for a score that sums many
    assert scores[0] == pytest.approx(scores[1], rel=2e-3)


def test_random_training_images_are_not_cached(bolts: Path, tmp_path: Path) -> None:
    command = on_bolts(bolts, "dataset.category=bolt", "dataset.rotate=10")
    done = train(*command, "hydra.run.dir=out", f"cache.dir={tmp_path}/cache", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cache: only for test images" in done.stdout
    assert len(list((tmp_path / "cache").glob("*/entry.json"))) == 1


def test_few_and_dirty_training_images_are_recorded(bolts: Path, tmp_path: Path) -> None:
    asked = ["dataset.category=bolt", "dataset.train_limit=4", "dataset.contamination=0.25"]
    done = train(*on_bolts(bolts, *asked, "hydra.run.dir=out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (record["train_limit"], record["contamination"]) == (4, 0.25)
    figures = record["tasks"]["bolt"]
    assert (figures["n_train"], figures["n_train_anomalous"]) == (4, 1)


def test_normal_images_alone_are_scored_without_an_auroc(bolts: Path, tmp_path: Path) -> None:
    normal = f"dataset.normal='{bolts}/bolt/train/good'"
    own = ["dataset=folder", normal, "dataset.name=my_bolts", *SMALL, "hydra.run.dir=out"]
    done = train(*own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "my_bolts" in done.stdout
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["my_bolts"]
    assert not any("auroc" in name for name in figures)
    rows = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    assert len(rows) == 1 + figures["n_test"]
    refused = train("dataset=folder", cwd=tmp_path)
    assert refused.returncode == 1
    assert "dataset.normal: name a folder" in refused.stderr


def test_a_chosen_time_is_reported_and_kept(bolts: Path, tmp_path: Path) -> None:
    command = on_bolts(bolts, "dataset.category=bolt", "loss.time=auto")
    done = train(*command, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "time=auto: t = " in done.stdout
    task = tmp_path / "out" / "tasks" / "bolt"
    assert json.loads((task / "metrics.json").read_text())["image_auroc"] >= 0
    state = torch.load(task / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for half in ("even", "odd"):
        total = state[f"objective.moments.{half}.total"]
        assert total.dtype == torch.float64
        assert total[-1, -1] == 3 * 16 * 16  # three images, each on a grid of 16 by 16
    assert len(list((task / "maps").glob("*.png"))) == 2


def test_views_are_averaged(bolts: Path, tmp_path: Path) -> None:
    """Two views alike say what one says: standardised, smoothed and reduced, the same order."""
    shared = on_bolts(bolts, "dataset.category=bolt", "loss=norm", "loss.solver=closed_form")
    alone = train(*shared, "hydra.run.dir=one", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    twice = "ensemble=[{resize:64,crop:64},{resize:64,crop:64}]"
    both = train(*shared, twice, "hydra.run.dir=two", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    one, two = (scores_of(tmp_path / name) for name in ("one", "two"))
    scale = torch.linalg.lstsq(torch.stack([one, torch.ones_like(one)], dim=1), two[:, None])
    torch.testing.assert_close(
        two, one * scale.solution[0] + scale.solution[1], rtol=1e-4, atol=1e-4
    )
    figures = [
        json.loads((tmp_path / name / "metrics.json").read_text())["mean"]
        for name in ("one", "two")
    ]
    assert figures[1] == pytest.approx(figures[0])
    other = "ensemble=[{resize:64,crop:64},{resize:72,crop:64}]"
    views = train(*shared, other, "hydra.run.dir=three", cwd=tmp_path)
    assert views.returncode == 0, views.stderr
    task = tmp_path / "three" / "tasks" / "bolt"
    assert {p.name for p in (task / "checkpoints").iterdir()} == {"last.ckpt", "view1.ckpt"}
    assert len(list((task / "maps").glob("*.png"))) == 2


def scores_of(run: Path) -> torch.Tensor:
    with (run / "scores.csv").open(newline="") as stream:
        return torch.tensor([float(row["score"]) for row in csv.DictReader(stream)]).double()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ensemble=[{resize:72,crop:64},{resize:80,crop:64}]"], "ensemble must be null, or two"),
        (["ensemble=[64,72]"], "ensemble must be null, or two"),
        (["ensemble=5"], "ensemble must be null, or two"),
        (["pretrain=autoencoder"], "the backbone efficientnet_lite0 is frozen"),
        (["backbone=lenet"], "28x28 px, not 64x64"),
    ],
)
def test_what_does_not_fit_together_is_told_before_any_work(
    bolts: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    done = train(*on_bolts(bolts, *overrides), cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert not list(tmp_path.glob("outputs/**/tasks"))


def test_deep_svdd_trains_its_own_network(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 4)):
        for place in range(count):
            for kind in ("ring", "dot"):
                seed = place + 100 * (part == "test") + 1000 * (kind == "dot")
                save(tmp_path / "toys" / part / kind / f"{place}.png", noise(seed, 28))
    done = train(
        "experiment=deep_svdd_mnist",
        "dataset=class_folder",
        "dataset.root=toys",
        "pretrain.epochs=2",
        "loss.fit.epochs=3",
        "loss.boundary=soft",
        "loss.warmup=1",
        "hydra.run.dir=out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "cache: off, because the backbone is trained" in done.stdout
    task = tmp_path / "out" / "tasks" / "ring"
    figures = json.loads((task / "metrics.json").read_text())
    # Images of one's own are calibrated.
    assert set(figures["seconds"]) == {"features", "pretrain", "fit", "test", "calibration"}
    assert figures["trainable_parameters"] == 25 * (8 + 32) + 4 * 7 * 7 * 32
    state = torch.load(task / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["objective.radius"] > 0
    fresh = [
        torch.load(
            tmp_path / "out" / "tasks" / name / "checkpoints" / "last.ckpt", weights_only=True
        )["state_dict"]["backbone.linear.weight"]
        for name in ("ring", "dot")
    ]
    assert not torch.equal(*fresh)  # each task has trained a network of its own
