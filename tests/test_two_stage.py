"""Both stages, as a user types them, and the use of the trained encoders."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from occ_lab.backbones.learned import load_encoder
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.norm_study import perform_study
from occ_lab.config.train import perform_run
from occ_lab.config.two_stage import perform_both_stages
from occ_lab.engine import representation, two_stage
from tests.backbones.tiny import TINY
from tests.commands import command
from tests.data.trees import class_tree

HEAD = "representation.encoder.head=[16,8]"
QUICK = [
    "dataset.resize=8",
    "dataset.crop=8",
    HEAD,
    "representation.fit.epochs=2",
    "representation.fit.save_epochs=1",
    "representation.fit.batch_size=4",
    "trainer.accelerator=cpu",
    "maps=1",
]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_tree(tmp_path_factory.mktemp("Daten ä") / "toys")


@pytest.fixture(scope="module")
def learned(toys: Path) -> Path:
    """The directory of a whole run with a real network, as a user types it."""
    out = toys.parent / "it's learned"
    done = command(
        "two_stage",
        "dataset=class_folder",
        f"dataset.root='{toys}'",
        *QUICK,
        "representation.fit.save_epochs=10",
        "representation=contrastive_da",
        "density=[kde,'norm loss.solver=closed_form']",
        "hydra.run.dir='it\\'s learned'",
        cwd=toys.parent,
        fresh=True,
    )
    assert done.returncode == 0, done.stderr
    for text in ("contrastive_da on class_folder, seed 0", "kde_pooled", "backbones:", "densities"):
        assert text in done.stdout
    assert "Traceback" not in done.stderr
    return out


def test_a_run_leaves_what_the_design_lists(learned: Path) -> None:
    densities = ["kde_pooled", "norm_loss.solver=closed_form_pooled"]
    assert sorted(path.name for path in (learned / "backbones").iterdir()) == [
        "dot.safetensors",
        "ring.safetensors",
    ]
    assert "${" not in (learned / "config.yaml").read_text().replace("${task.folder}", "")
    for task in ("dot", "ring"):
        _, facts = load_encoder(learned / "backbones" / f"{task}.safetensors")
        assert (facts["model"], facts["side"], facts["patches"]) == ("resnet18", 8, 0)
        assert sorted(path.name for path in (learned / "stage1" / task).iterdir()) == [
            "metrics.csv",
            "stage1.json",
        ]
    assert sorted(path.name for path in (learned / "densities").iterdir()) == densities
    whole = json.loads((learned / "two_stage.json").read_text())
    assert (whole["dataset"], whole["representation"], whole["seed"]) == (
        "class_folder",
        "contrastive_da",
        0,
    )
    assert sorted(whole["densities"]) == densities
    for name in densities:
        folder = learned / "densities" / name
        summary = json.loads((folder / "metrics.json").read_text())
        assert summary["loss"] == name.split("_")[0]
        assert summary["backbone"] == "contrastive_da"
        assert summary["tasks"] == whole["densities"][name]["tasks"]
        assert summary["mean"] == whole["densities"][name]["mean"]
        assert set(summary["mean"]) == {"image_auroc", "image_ap", "image_f1max"}
        assert len((folder / "scores.csv").read_text().splitlines()) == 1 + 2 * 8
    for facts in whole["stage1"].values():
        assert (facts["n_train"], facts["epochs"], facts["steps"]) == (6, 2, 2)
        assert facts["chance"] == pytest.approx(1.3862944)  # of four images


def run(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    with user_messages():
        return perform_run(cfg, directory)


def both_stages(cfg: DictConfig, directory: Path) -> dict[str, dict[str, Any]]:
    with user_messages():
        return perform_both_stages(cfg, directory)


def entries(cache: Path) -> set[str]:
    return {path.parent.name for path in cache.glob("*/entry.json")}


def again(backbone: str, toys: Path, cache: Path, *overrides: str) -> DictConfig:
    """A run of ``occ_lab.train`` on what is learned, in this process."""
    where = ["dataset=class_folder", f"dataset.root='{toys}'", "dataset.resize=8", "dataset.crop=8"]
    kept = [f"cache.dir='{cache}'", "maps=0", "logger=none", "trainer.accelerator=cpu"]
    return composed("train", [f"backbone={backbone}", *where, "loss=knn", *kept, *overrides])


def test_what_is_learned_is_a_backbone_like_any_other(
    learned: Path, toys: Path, tmp_path: Path
) -> None:
    """By its folder, then by folder and by file from the cache."""
    cache = tmp_path / "cache"
    folder = f"file:{learned / 'backbones'}"
    first = run(again(folder, toys, cache), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (summary["loss"], summary["backbone"]) == ("knn", "learned")
    made = entries(cache)
    assert len(made) == 4  # of each task's own network, the images to train and to test on
    stamps = {path: path.read_bytes() for path in cache.glob("*/entry.json")}

    found = run(again(folder, toys, cache), tmp_path / "folder")
    for task, figures in first.items():
        assert found[task]["image_auroc"] == figures["image_auroc"]
    file = f"file:{learned / 'backbones' / 'ring.safetensors'}"
    alone = run(again(file, toys, cache, "dataset.category=ring"), tmp_path / "file")
    assert alone["ring"]["image_auroc"] == first["ring"]["image_auroc"]
    assert entries(cache) == made
    assert {path: path.read_bytes() for path in cache.glob("*/entry.json")} == stamps

    other = run(again(file, toys, cache, "backbone.features=head"), tmp_path / "head")
    assert set(other) == {"dot", "ring"}  # one network for both
    assert len(entries(cache)) == 7  # the test images of both tasks are the same


def test_a_study_takes_each_tasks_own_network(learned: Path, toys: Path, tmp_path: Path) -> None:
    where = ["dataset=class_folder", f"dataset.root='{toys}'", "dataset.resize=8", "dataset.crop=8"]
    small = ["norms=[1,4]", "times=[10]", f"cache.dir='{tmp_path}/cache'", "accelerator=cpu"]
    folder = f"backbone=file:{learned / 'backbones'}"
    both = perform_study(composed("norm_study", [folder, *where, *small]), tmp_path / "both")
    file = f"backbone=file:{learned / 'backbones' / 'ring.safetensors'}"
    one = [file, *where, *small, "dataset.category=ring"]
    alone = perform_study(composed("norm_study", one), tmp_path / "ring")
    assert alone["ring"]["times"] == both["ring"]["times"]
    assert both["dot"]["times"] != both["ring"]["times"]


# In this process, with a network that takes no time


def small(toys: Path, *overrides: str) -> DictConfig:
    where = ["dataset=class_folder", f"dataset.root='{toys}'", *QUICK, "density=kde"]
    tiny = [f"representation.encoder.model={TINY}", f"cache.dir='{toys.parent}/cache'"]
    return composed("two_stage", [*where, *tiny, *overrides])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rotation_has_a_score_of_its_own(toys: Path, tmp_path: Path) -> None:
    runs = both_stages(small(toys, "representation=rotation", "dataset.category=dot"), tmp_path)
    assert list(runs) == ["kde_pooled", "rotation_classifier"]
    assert names(tmp_path / "densities") == ["kde_pooled", "rotation_classifier"]
    summary = json.loads((tmp_path / "densities/rotation_classifier/metrics.json").read_text())
    assert summary["loss"] == "rotation_classifier"
    rows = (tmp_path / "densities/rotation_classifier/scores.csv").read_text().splitlines()[1:]
    assert all(float(row.split(",")[2]) > 0 for row in rows)
    summary = json.loads((tmp_path / "two_stage.json").read_text())
    assert summary["stage1"]["dot"]["chance"] == pytest.approx(1.3862944)  # of four turns


class CtrlC(Callback):
    """In the second epoch of the second task."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1 and "ring" in str(trainer.checkpoint_callback.dirpath):
            raise KeyboardInterrupt


@pytest.fixture
def answers_ctrl_c() -> Iterator[None]:
    """Lightning makes the process deaf to it for good."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_a_stopped_run_goes_on(
    toys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers_ctrl_c: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["representation=contrastive", "representation.fit.epochs=3"]
    calls: list[str] = []

    def learn(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments[2])
        return representation.learn(*arguments[:-1], [CtrlC()])

    monkeypatch.setattr(two_stage, "learn", learn)
    with pytest.raises(SystemExit) as stop:
        both_stages(small(toys, *asked), tmp_path)
    assert stop.value.code == 130
    said = capsys.readouterr().out
    assert "1 of 2 encoders are finished" in said
    assert f"resume=true hydra.run.dir={tmp_path}" in said
    assert names(tmp_path / "backbones") == ["dot.safetensors"]
    assert names(tmp_path / "stage1" / "ring") == ["last.ckpt", "metrics.csv"]
    assert not (tmp_path / "densities").exists()

    with pytest.raises(UserError, match="already holds results; add resume=true"):
        both_stages(small(toys, *asked), tmp_path)
    for other in ("representation.fit.epochs=4", "representation.temperature=0.1", "seed=1"):
        with pytest.raises(UserError, match=f"another .*{other.split('=')[0]}"):
            both_stages(small(toys, *asked, "resume=true", other), tmp_path)

    monkeypatch.setattr(two_stage, "learn", representation.learn)
    first = (tmp_path / "backbones" / "dot.safetensors").stat().st_mtime_ns
    both_stages(small(toys, *asked, "resume=true"), tmp_path)
    said = capsys.readouterr().out
    assert "contrastive, dot (1 of 2): trained before, skipped" in said
    assert "ring (2 of 2): trained before" not in said
    assert (tmp_path / "backbones" / "dot.safetensors").stat().st_mtime_ns == first
    assert names(tmp_path / "stage1" / "ring") == ["metrics.1.csv", "metrics.csv", "stage1.json"]
    epochs = [
        [row.split(",")[1] for row in (tmp_path / "stage1" / "ring" / name).read_text().split()[1:]]
        for name in ("metrics.1.csv", "metrics.csv")
    ]
    assert epochs == [["0"], ["1", "2"]]
    summary = json.loads((tmp_path / "two_stage.json").read_text())
    assert summary["stage1"]["ring"]["steps"] == summary["stage1"]["dot"]["steps"] == 3

    # Another density, seen elsewhere: stage 1 knows nothing of it.
    monkeypatch.setattr(two_stage, "learn", None)
    more = ["resume=true", "density=[kde,knn]", "features=head"]
    both_stages(small(toys, *asked, *more), tmp_path)
    assert names(tmp_path / "densities") == ["kde_head", "kde_pooled", "knn_head"]


def test_patches_of_photographs_have_maps(tmp_path: Path) -> None:
    cfg = composed(
        "two_stage",
        [
            "dataset=textures",
            f"dataset.root='{tmp_path}'",
            "dataset.category=grass",
            "dataset.train=4",
            "dataset.normal=2",
            "dataset.defective=8",
            "dataset.resize=64",
            "dataset.crop=64",
            "representation=contrastive",
            f"representation.encoder.model={TINY}",
            "representation.encoder.side=32",
            "representation.patches=3",
            HEAD,
            "representation.fit.epochs=1",
            "representation.fit.batch_size=6",
            "stride=16",
            "density=[kde,'norm loss.solver=closed_form']",
            "trainer.accelerator=cpu",
            "maps=1",
            f"cache.dir='{tmp_path}/cache'",
        ],
    )
    runs = both_stages(cfg, tmp_path / "out")
    for tasks in runs.values():
        assert {"image_auroc", "pixel_auroc", "pixel_aupro"} <= set(tasks["grass"])
    out = tmp_path / "out" / "densities" / "kde_pooled" / "tasks" / "grass"
    assert len(list((out / "maps").glob("*.png"))) == 1
    summary = json.loads((tmp_path / "out" / "two_stage.json").read_text())
    assert summary["stage1"]["grass"]["steps"] == 2  # two images of three patches each a step
    _, facts = load_encoder(tmp_path / "out" / "backbones" / "grass.safetensors")
    assert (facts["side"], facts["patches"]) == (32, 3)
    levels = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/entry.json")]
    assert len(levels) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["density=kdd"], "^density: loss=kdd: there is no such option; did you mean loss=kde"),
        (["density=['kde seed=1']"], "^density: 'kde seed=1' sets seed, which all have in common"),
        (["density=[]"], "^density must be a name or a list of names"),
        (["density=null"], "^density must be a name or a list of names"),
        (["density=['kde loss.scale=-1']"], r"^loss\.scale must be a number"),
        (["features=turns"], "^features must be of pooled, head, got 'turns'"),
        (["features=[pooled,tail]"], "^features must be of pooled, head, got 'tail'"),
        (["precision=int8"], r"^backbone\.precision must be one of"),
        (
            ["representation.encoder.side=16"],
            r"^representation\.encoder\.side: 16 px, but images are cropped to 8 px",
        ),
        (
            ["representation.encoder.side=4"],
            r"^representation\.encoder\.side must be an integer and >= 8",
        ),
        (
            ["representation.patches=2", "representation.encoder.side=9"],
            r"^representation\.encoder\.side: patches of 9 px are larger than the images",
        ),
        (["representation.augment.scale=0"], r"^representation\.augment\.scale must be a number"),
        (["representation.encoder.classes=3"], r"^representation\.encoder\.classes must be 4"),
        (["representation.fit.epochs=0"], r"^representation\.fit\.epochs must be"),
        (["representation.fit.save_epochs=0"], r"^representation\.fit\.save_epochs must be"),
        (["representation.fit.batch_size=0"], r"^representation\.fit\.batch_size must be"),
        (
            ["representation=contrastive", "representation.family=hflip"],
            r"^representation\.augment\.flip must be 0",
        ),
        (
            ["dataset.kind=structured", "representation.encoder.side=8", "stride=3"],
            r"^backbone\.stride must be at most the 8 px of a patch",
        ),
        (
            ["representation._target_=mine.No"],
            r"^representation\._target_: mine.No cannot be import",
        ),
        (["callbacks=early_stopping"], "^callbacks.early_stopping.*: val_loss"),
        (["maps=-1"], "^maps must be"),
        (["dataset.root=nowhere"], r"^dataset\.root: no class_folder data"),
    ],
)
def test_bad_values_fail_before_any_work(
    toys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(two_stage, "learn", None)
    with pytest.raises(UserError, match=message):
        both_stages(small(toys, *overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_backbone_cannot_do_is_reported_before_any_work(
    learned: Path, toys: Path, tmp_path: Path
) -> None:
    (tmp_path / "some").mkdir()
    shutil.copy(learned / "backbones" / "dot.safetensors", tmp_path / "some")
    larger = ["dataset.category=dot", "dataset.resize=16", "dataset.crop=16"]
    for name, overrides, message in (
        ("some", [], r"^backbone\.path: .*some has no \.safetensors file of ring$"),
        ("none", [], r"^backbone\.path: no learned backbone in .*none"),
        ("some", larger, "was trained on images of 8x8 px, not 16x16: resize and crop them to 8"),
        ("some", ["backbone.features=turns"], "^backbone.features must be pooled or head"),
    ):
        cfg = again(f"file:{tmp_path / name}", toys, tmp_path / "cache", *overrides)
        with pytest.raises(UserError, match=message):
            run(cfg, tmp_path / "out")
    assert not (tmp_path / "out").exists()
