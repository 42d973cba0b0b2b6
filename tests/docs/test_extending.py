"""What docs/guides/extending.md and trust.md say beyond their programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.export import perform_export
from occ_lab.utils.errors import InputError
from tests.data.trees import noise
from tests.docs.pages import Command, blocks
from tests.docs.world import World, called, inside

PAGE = "docs/guides/extending.md"
RUN = "outputs/textures/cosine/DATE"
# The plug-in leaves a mark whenever a module of it is imported.
MARK = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"
SWEEP = "train --config-dir plugin -m loss=cosine backbone=edges seed=0,1"
LISTED = "train --config-dir plugin dataset=listed dataset.root=listed callbacks=timing loss=svdd"


@pytest.fixture(scope="module")
def run(world: World) -> Path:
    """A run of the page's own classes, which are forgotten afterwards."""
    world.make(RUN)
    (world.folder / "plugin" / "mine" / "__init__.py").write_text(MARK, encoding="utf-8")
    return world.folder / RUN


@pytest.fixture
def importable(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget()
    monkeypatch.syspath_prepend(str(world.folder / "plugin"))
    yield
    forget()


def forget() -> None:
    """As in a process that has not imported the plug-in."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_each_example_has_fewer_than_forty_lines() -> None:
    files = {block.file: block.text for block in blocks(PAGE) if block.file}
    assert len(files) == 8
    for name in ("cosine", "edges", "listed", "timing"):
        parts = [text for file, text in files.items() if file and Path(file).stem == name]
        assert len(parts) == 2
        assert sum(text.count("\n") for text in parts) <= 42  # two lines are the names of the files


def test_a_multirun(world: World) -> None:
    done = world.run(Command(("occ-lab", *SWEEP.split())))
    assert done.code == 0, done.text
    jobs = world.folder.glob("outputs/sweeps/*/0/config.yaml")
    assert any("mine.cosine.Cosine" in job.read_text(encoding="utf-8") for job in jobs)


def test_benchmark_and_callback(world: World) -> None:
    done = world.run(Command(("occ-lab", *LISTED.split())))
    assert done.code == 0, done.text
    (epochs,) = world.folder.glob("outputs/listed/**/epochs.csv")
    assert epochs.read_text(encoding="utf-8").startswith("0,")
    assert "pixel_auroc" in (epochs.parent / "metrics.json").read_text(encoding="utf-8")


def test_predict_without_trust_runs_nothing_of_it(run: Path, world: World) -> None:
    forget()
    mark = world.folder / "plugin" / "mine" / "imported"
    mark.unlink(missing_ok=True)
    asked = ["--config-dir", "plugin", f"run={run}", "input=parts/new"]
    with inside(world.folder):
        refused = called("predict", [*asked, "hydra.run.dir=refused"])
    assert not mark.exists()
    assert refused.code == 1
    assert "mine.edges.Edges is not a class that OCC Lab makes" in refused.text
    assert "trust=[mine]" in refused.text
    assert "Traceback" not in refused.text
    with inside(world.folder):
        done = called("predict", [*asked, "trust=[mine]", "hydra.run.dir=judged"])
    assert done.code == 0, done.text
    assert mark.exists()
    table = (world.folder / "judged" / "predictions.csv").read_text(encoding="utf-8")
    assert table.count("\n") == 3  # a heading and 2 images


@pytest.mark.usefixtures("importable")
def test_export_without_trust_runs_nothing_of_it(run: Path) -> None:
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        perform_export(composed("export", [f"run={run}"]))
    assert "mine" not in sys.modules


@pytest.mark.usefixtures("importable")
def test_load_with_trust(run: Path) -> None:
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        occ_lab.load(run)
    with pytest.raises(InputError, match=r"trust=\[mine\]"):
        occ_lab.load(run, trust=["min", "mine.cosine"])
    assert "mine" not in sys.modules
    detector = occ_lab.load(run, trust=["mine"])
    assert detector.score(noise(1)).maps is not None
