"""Comparison of methods, as a user types it and in this process."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from occ_lab.config.compare import perform_comparison
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.train import perform_run
from occ_lab.engine import compare as engine
from occ_lab.inference.predictor import load
from occ_lab.reporting.tables.compare import Row
from occ_lab.utils.errors import InputError
from tests.commands import command
from tests.data.trees import class_tree, mvtec_tree

SMALL = [
    "backbone.model=test_resnet",
    "backbone.weights=random",
    "trainer.accelerator=cpu",
    "maps=1",
]
QUICK = ["dataset.resize=64", "calibration.folds=2"]


@pytest.fixture(autouse=True)
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the throughput with a single pass after the warm-up."""
    monkeypatch.setattr(engine, "SECONDS", 0)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal parts of several sizes, and anomalous ones with masks."""
    folder = mvtec_tree(tmp_path_factory.mktemp("parts"), train=10, bad=4)
    mvtec_tree(folder / "wide", train=4, side=96)
    return folder


def own(part: Path, *overrides: str, anomalous: bool = True) -> list[str]:
    bad = [f"dataset.abnormal='{part}/test/dent'", f"dataset.masks='{part}/ground_truth/dent'"]
    where = ["dataset=folder", f"dataset.normal='{part}/train'", f"cache.dir='{part}/cache'"]
    return [*where, *(bad if anomalous else []), *SMALL, *QUICK, *overrides]


def compared(asked: list[str], directory: Path) -> list[Row]:
    with user_messages():
        found = perform_comparison(composed("compare", asked), directory)
    assert not found.failed
    return found.rows


def content(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "compare.json").read_text(encoding="utf-8"))
    return found


def test_a_comparison_as_it_is_typed(part: Path) -> None:
    """Its figures, its files and what it prints; a run of it is that of `occ_lab.train`."""
    out = part / "out of it"
    asked = own(part, "methods=[norm,'norm loss.time=auto',padim]")
    done = command("compare", *asked, "hydra.run.dir='out of it'", cwd=part, fresh=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for text in (
        "norm loss.time=auto: folder (1 of 1)",
        "the best",
        "defects missed",
        "2 normal and 4 anomalous test images",
        "images are few",
        "The best of 3",
        f"occ-lab predict 'run={out}/methods/",
    ):
        assert text in done.stdout, text
    found = content(out)
    assert (found["dataset"], found["seed"], found["normal"], found["anomalous"]) == (
        *("folder", 0, 2, 4),
    )
    methods = {each["method"]: each for each in found["methods"]}
    assert list(methods) == ["norm", "norm loss.time=auto", "padim"]
    assert methods["norm loss.time=auto"]["run"] == "methods/norm_loss.time=auto"
    assert sum(each["difference"] is None for each in methods.values()) == 1
    rows = list(csv.DictReader((out / "compare.csv").open(encoding="utf-8")))
    assert [row["method"] for row in rows] == list(methods)
    for row, each in zip(rows, methods.values(), strict=True):
        summary = json.loads((out / each["run"] / "metrics.json").read_text(encoding="utf-8"))
        interval = each["image_auroc"]
        assert interval["value"] == pytest.approx(summary["mean"]["image_auroc"])
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
        assert each["mean"] == summary["mean"]
        assert {"pixel_auroc", "pixel_aupro"} <= set(each["mean"])
        assert float(row["image_auroc"]) == interval["value"]
        assert each["images_per_second"] > 0
        assert 0 <= each["pasted_auroc"] <= 1
        assert each["calibration"]["folder"]["images"] == 8
        checkpoint = out / each["run"] / "tasks" / "folder" / "checkpoints" / "last.ckpt"
        assert each["size_mb"] == checkpoint.stat().st_size / 1e6
    train = [each for each in asked if not each.startswith("methods")]
    alone = perform_run(composed("train", [*train, "loss=padim"]), part / "alone")
    assert alone["folder"]["image_auroc"] == methods["padim"]["mean"]["image_auroc"]
    assert load(out / methods["norm"]["run"], "folder").calibration is not None


def test_without_anomalous_images(
    part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = own(part, "methods=[gaussian,knn]", "cache.enabled=false", anomalous=False)
    rows = compared(asked, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "Accuracy cannot be compared without anomalous images" in said
    assert "patches of the 2 held-out normal images" in said
    assert "Take gaussian: the first of the list" in said
    for text in ("AUROC [", "from the best", "few", "Traceback"):
        assert text not in said
    for row in rows:
        assert (row.image_auroc, row.difference) == (None, None)
        assert row.pasted_auroc is not None
        assert row.figures["calibration"]["folder"]["overkill"] is not None
    assert [each["image_auroc"] for each in content(tmp_path)["methods"]] == [None, None]


def test_a_comparison_goes_on(
    part: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = own(part, "calibration.folds=0")
    fitted = engine.fitted

    def stopped(*arguments: Any) -> Any:
        if "knn" in str(arguments[5]):
            raise KeyboardInterrupt
        return fitted(*arguments)

    monkeypatch.setattr(engine, "fitted", stopped)
    with pytest.raises(SystemExit) as stop:
        compared([*asked, "methods=[gaussian,knn]"], tmp_path)
    assert stop.value.code == 130
    said = capsys.readouterr().out
    assert "1 of 2 methods are finished" in said
    assert f"resume=true hydra.run.dir={tmp_path}" in said
    assert not (tmp_path / "compare.json").exists()

    with pytest.raises(UserError, match="already holds results; add resume=true"):
        compared([*asked, "methods=[gaussian,knn]"], tmp_path)
    with pytest.raises(UserError, match="holds a run with another seed"):
        compared([*asked, "methods=[gaussian,knn]", "resume=true", "seed=1"], tmp_path)

    calls: list[str] = []

    def counted(*arguments: Any) -> Any:
        calls.append(str(arguments[5]))
        return fitted(*arguments)

    monkeypatch.setattr(engine, "fitted", counted)
    rows = compared([*asked, "methods=[gaussian,knn]", "resume=true"], tmp_path)
    assert [row.name for row in rows] == ["gaussian", "knn"]
    assert len(calls) == 1
    assert "gaussian: folder: finished before, skipped" in capsys.readouterr().out
    more = compared([*asked, "methods=[gaussian,kde]", "resume=true"], tmp_path)
    assert [row.name for row in more] == ["gaussian", "kde"]
    assert len(calls) == 2

    scores = tmp_path / "methods" / "kde" / "tasks" / "folder" / "scores.csv"
    scores.write_text(scores.read_text(encoding="utf-8").replace("000.png", "999.png"))
    with pytest.raises(UserError, match="test images have changed"):
        compared([*asked, "methods=[gaussian,kde]", "resume=true"], tmp_path)


def test_several_tasks_of_whole_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_tree(tmp_path / "classes", side=64)
    where = ["dataset=class_folder", f"dataset.root='{tmp_path}/classes'", "dataset.crop=64"]
    asked = [*where, *SMALL, *QUICK, "methods=[norm,kde]", f"cache.dir='{tmp_path}/cache'"]
    rows = compared(asked, tmp_path / "out")
    assert [list(row.tasks) for row in rows] == [["dot", "ring"]] * 2
    assert len(list((tmp_path / "cache").glob("*/entry.json"))) == 3  # the tests are the same
    said = capsys.readouterr().out
    for text in ("norm: dot (1 of 2)", "kde, ring", "task=NAME"):
        assert text in said
    assert "pixel AUROC" not in said


def test_images_in_tiles(part: Path, tmp_path: Path) -> None:
    (row,) = compared(own(part, "methods=gaussian", "dataset.tile=32"), tmp_path)
    assert row.image_auroc is not None
    assert row.pasted_auroc is not None
    assert row.images_per_second > 0


def test_a_method_that_cannot_be_run_is_left_out(
    part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = own(part, "methods=[gaussian,'padim loss.shrinkage=0 loss.dims=50']")
    found = perform_comparison(composed("compare", asked), tmp_path)
    assert [row.name for row in found.rows] == ["gaussian"]
    (reason,) = found.failed.values()
    assert reason.startswith("loss.shrinkage: ")
    assert "error: padim loss.shrinkage=0 loss.dims=50: loss.shrinkage" in capsys.readouterr().out
    assert content(tmp_path)["failed"] == found.failed
    only = composed("compare", own(part, "methods='padim loss.shrinkage=0 loss.dims=50'"))
    with pytest.raises(InputError, match="^loss.shrinkage: "):
        perform_comparison(only, tmp_path / "none")


def test_a_backbone_that_is_trained_is_refused(part: Path, tmp_path: Path) -> None:
    cfg = composed("compare", own(part, "dataset.resize=28", "dataset.crop=28"))
    cfg.backbone = {"_target_": "occ_lab.backbones.lenet.LeNet", "name": "lenet"}
    with pytest.raises(UserError, match="^backbone: lenet is trained"):
        perform_comparison(cfg, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["methods=[norm,padmi]"], "^methods: loss=padmi: there is no such option; did you mean"),
        (["methods=[]"], "^methods must be a name or a list of names"),
        (["methods=['norm seed=1']"], "^methods: 'norm seed=1' sets seed, which all have"),
        (["methods=['norm loss.tmie=1']"], "^methods: loss.tmie.*did you mean loss.time"),
        (["methods=['knn loss.bank=0']"], "^loss.bank must be"),
        (["methods=['knn loss.metric=a/b']"], "it contains a slash"),
        (["maps=-1"], "^maps must be"),
        (["dataset.normal=nowhere"], "nowhere"),
        (["backbone=lenet"], "^backbone=lenet needs a projector of its own"),
    ],
)
def test_bad_values_fail_before_any_work(
    part: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(engine, "fitted", None)
    with pytest.raises((UserError, InputError), match=message):
        compared(own(part, *overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()
