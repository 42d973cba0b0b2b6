"""The examples of docs/extending.md, in a folder outside the project."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.export import perform_export
from occ_lab.utils.errors import InputError
from tests.commands import command
from tests.data.trees import noise, save
from tests.docs.pages import blocks, commands

PAGE = "docs/extending.md"
SMALL = ["dataset.resize=64", "dataset.crop=64", "maps=0", "trainer.accelerator=cpu"]
TEXTURES = ["dataset.category=brick", "dataset.train=8", "dataset.normal=4", "dataset.defective=5"]
# The plug-in leaves a mark whenever a module of it is imported.
MARK = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of the page, and with the table that the benchmark reads."""
    folder = tmp_path_factory.mktemp("outside")
    for block in blocks(PAGE):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    (folder / "plugin" / "mine" / "__init__.py").write_text(MARK, encoding="utf-8")
    table_of_parts(folder / "parts")
    return folder


def table_of_parts(folder: Path) -> None:
    rows = [("train", 0)] * 6 + [("test", 0)] * 2 + [("test", 1)] * 3
    listed = []
    for index, (part, label) in enumerate(rows):
        pixels, mask = noise(index).copy(), np.zeros((64, 64), np.uint8)
        if label:
            pixels[20:40, 20:40], mask[20:40, 20:40] = 255, 255
            save(folder / f"{index}_mask.png", mask)
        save(folder / f"{index}.png", pixels)
        listed.append(["bolt", f"{index}.png", part, label, f"{index}_mask.png" if label else ""])
    with (folder / "parts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["task", "path", "part", "label", "mask"])
        writer.writerows(listed)


def trained(place: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = command("train", *arguments, cwd=place, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def runs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs of the page's commands: by themselves, in a multirun, and of the benchmark."""
    cache = tmp_path_factory.mktemp("cache")
    single, sweep, listed = commands(PAGE, "train")
    trained(place, cache, *single, *SMALL, *TEXTURES, "hydra.run.dir=single")
    trained(place, cache, *sweep, *SMALL, *TEXTURES, "hydra.sweep.dir=sweep")
    trained(place, cache, *listed, *SMALL, "hydra.run.dir=listed", "loss.fit.epochs=2")
    return {name: place / name for name in ("single", "sweep", "listed")}


@pytest.fixture
def importable(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(place / "plugin"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_each_example_has_fewer_than_forty_lines() -> None:
    files = {block.file: block.text for block in blocks(PAGE) if block.file}
    assert len(files) == 8
    for name in ("cosine", "edges", "listed", "timing"):
        parts = [text for file, text in files.items() if file and Path(file).stem == name]
        assert len(parts) == 2
        assert sum(text.count("\n") for text in parts) <= 42  # two lines are the names of the files


def test_a_run_and_a_multirun(runs: dict[str, Path]) -> None:
    for directory in (runs["single"], runs["sweep"] / "0", runs["sweep"] / "1"):
        assert (directory / "metrics.json").is_file()
        assert "mine.cosine.Cosine" in (directory / "config.yaml").read_text(encoding="utf-8")


def test_benchmark_and_callback(runs: dict[str, Path]) -> None:
    epochs = (runs["listed"] / "tasks" / "bolt" / "epochs.csv").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in epochs.splitlines()] == ["0", "1"]
    metrics = (runs["listed"] / "metrics.json").read_text(encoding="utf-8")
    assert '"dataset": "listed"' in metrics
    assert "pixel_auroc" in metrics


def test_predict_without_trust_runs_nothing_of_it(runs: dict[str, Path], place: Path) -> None:
    mark = place / "plugin" / "mine" / "imported"
    assert mark.is_file()
    mark.unlink()
    (asked,) = commands(PAGE, "predict")
    arguments = for_run(asked, runs["single"])
    untrusted = [each for each in arguments if not each.startswith("trust=")]
    done = command("predict", *untrusted, "hydra.run.dir=refused", cwd=place)
    assert not mark.exists()
    assert done.returncode == 1
    assert "mine.edges.Edges is not a class that OCC Lab makes" in done.stdout + done.stderr
    assert "trust=[mine]" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.usefixtures("importable")
def test_export_without_trust_runs_nothing_of_it(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        perform_export(composed("export", [f"run={runs['single']}"]))
    assert "mine" not in sys.modules


def for_run(arguments: list[str], run: Path) -> list[str]:
    """The arguments on the page for the run that there is."""
    return [f"run={run}" if each.startswith("run=") else each for each in arguments]


def test_predict_with_trust(runs: dict[str, Path], place: Path) -> None:
    (asked,) = commands(PAGE, "predict")
    done = command("predict", *for_run(asked, runs["single"]), "hydra.run.dir=predicted", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (place / "predicted" / "predictions.csv").read_text(encoding="utf-8")
    assert table.count("\n") == 15  # a heading, 11 images and 3 masks


def test_export_with_trust(runs: dict[str, Path], place: Path) -> None:
    pytest.importorskip("onnxruntime")
    (asked,) = commands(PAGE, "export")
    done = command("export", *for_run(asked, runs["single"]), cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(runs["single"].glob("tasks/brick/export/*.onnx"))


@pytest.mark.usefixtures("importable")
def test_load_with_trust(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        occ_lab.load(runs["single"])
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        occ_lab.load(runs["single"], trust=["min", "mine.cosine"])
    assert "mine" not in sys.modules
    detector = occ_lab.load(runs["single"], trust=["mine"])
    assert detector.score(noise(1)).maps is not None


@pytest.mark.usefixtures("importable")
def test_without_configuration(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = [block for block in blocks(PAGE, "python") if "import lightning" in block.text]
    exec(compile(program.text, PAGE, "exec"), {})
    from mine.listed import Listed  # type: ignore[import-not-found]

    data = occ_lab.data.AnomalyDataModule(Listed(root=place / "parts"), task="bolt")
    assert len(data.train_images) == 6
