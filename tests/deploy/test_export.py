"""Exported detectors compared with the detectors themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.errors import UserError, user_messages
from occ_lab.config.export import perform_export
from occ_lab.config.train import perform_run
from occ_lab.data.images import read_image
from occ_lab.deploy import export as exporting
from occ_lab.deploy import formats
from occ_lab.deploy.export import as_tensor, differences, export, made_image
from occ_lab.deploy.formats import FORMATS, METADATA, Run
from occ_lab.utils.errors import InputError
from tests.commands import command
from tests.data.trees import mvtec_tree
from tests.inference.runs import (
    OBJECTIVES,
    SMALL,
    change_checkpoint,
    trained,
    trained_on_classes,
)

CALIBRATED = ["calibration.folds=2", "calibration.overkill=0.3"]


def exported(directory: Path, *overrides: str) -> Path:
    with user_messages():
        return perform_export(composed("export", [f"run='{directory}'", *overrides])).path


def opened(path: Path) -> Run:
    (form,) = (each for each in FORMATS.values() if each.suffix == path.suffix)
    return form.run(path, 1)


def check(directory: Path, path: Path, raw: bool, count: int) -> None:
    """Compare the file with the detector on images that the export has not used."""
    detector, file = occ_lab.load(directory), opened(path)
    side = detector.detector.frame.resize
    for number, size in enumerate([(side, side), (side + 9, side - 5), (3 * side, 2 * side)]):
        images = [made_image(900 + 10 * number + index, *size) for index in range(count)]
        seen = [detector.seen(image) for image in images]
        pixels = np.stack([each.pixels for each in seen])
        wanted = detector.score_pixels(pixels, [each.size for each in seen])
        found = file(np.stack(images) if raw else as_tensor(pixels))
        np.testing.assert_allclose(found["score"], wanted.score, rtol=1e-3)
        assert ("map" in found) == (wanted.map is not None)
        if wanted.map is not None:
            atol = 2e-3 * float(wanted.map.abs().max())
            np.testing.assert_allclose(found["map"], wanted.map, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    return trained(folder, *OBJECTIVES["closed_form"], *CALIBRATED)


@pytest.fixture(scope="module")
def file(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(calibrated, f"output='{tmp_path_factory.mktemp('file')}/bolt.onnx'")


EXPORTED = {
    **OBJECTIVES,
    "cfa": [*OBJECTIVES["cfa"], "loss.half_selection=true", "projector=coordconv"],
    "knn": [*OBJECTIVES["knn"], "loss.k=3", "loss.metric=cosine"],
    "norm_mean": [*OBJECTIVES["norm_mean"], "scoring.image=top", "scoring.top=0.05"],
}


@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_scores_structured_tasks_as_the_detector_does(tmp_path: Path, name: str) -> None:
    directory = trained(tmp_path, *EXPORTED[name])
    check(directory, exported(directory, "input=tensor", "batch_size=3"), raw=False, count=3)


SEMANTIC = {
    "norm": [],
    "closed_form": ["loss.solver=closed_form"],
    "local": OBJECTIVES["local"],
    "knn": ["loss=knn"],
    "svdd": ["loss=svdd"],
    "lenet": ["backbone=lenet", "loss=svdd", "pretrain.epochs=1"],
}


@pytest.mark.parametrize("name", SEMANTIC)
def test_onnx_scores_semantic_tasks_as_the_detector_does(tmp_path: Path, name: str) -> None:
    directory = trained_on_classes(tmp_path, *SEMANTIC[name])
    given = "raw" if name == "norm" else "tensor"  # which takes a third of the time
    check(directory, exported(directory, f"input={given}"), raw=given == "raw", count=1)


@pytest.mark.parametrize("name", ["torch_export", "openvino"])
@pytest.mark.parametrize("given", ["raw", "tensor"])
def test_other_formats_do_so_too(calibrated: Path, name: str, given: str) -> None:
    path = exported(calibrated, f"format={name}", f"input={given}", "batch_size=2")
    check(calibrated, path, raw=given == "raw", count=2)


@pytest.mark.parametrize("name", ["torch_export", "openvino"])
def test_other_formats_hold_a_projector_for_each_cell(tmp_path: Path, name: str) -> None:
    directory = trained(tmp_path, *OBJECTIVES["local"])
    check(directory, exported(directory, f"format={name}", "input=tensor"), raw=False, count=1)


def test_raw_images_are_cropped_after_the_resize(tmp_path: Path) -> None:
    directory = trained(tmp_path, *OBJECTIVES["closed_form"], "dataset.resize=75")
    check(directory, exported(directory), raw=True, count=1)


REAL = {  # normal images to train on, and those to score
    "transistor": ("mvtec_256/transistor/train/good/*.png", "mvtec_256/transistor/test/*/*.png"),
    "magnetic_tile": ("magnetic_tile/MT_Free/**/*.jpg", "magnetic_tile/MT_*/**/*.jpg"),
}


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Closed forms of real parts; the tiles come in many sizes."""
    made = {}
    for name, (normal, _) in REAL.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "parts").mkdir()
        for path in sorted(shared_data.glob(normal))[:20]:
            (folder / "parts" / path.name).symlink_to(path)
        asked = ["dataset=folder", f"dataset.normal='{folder}/parts'", "calibration.folds=0"]
        cut = ["dataset.resize=256", "dataset.crop=224", "loss.time=10"]
        perform_run(composed("train", [*SMALL, *asked, *cut]), folder / "run")
        made[name] = folder / "run"
    return made


@pytest.mark.parametrize("name", REAL)
def test_50_real_images_score_the_same_to_a_thousandth(
    real: dict[str, Path], shared_data: Path, name: str
) -> None:
    detector, file = occ_lab.load(real[name]), opened(exported(real[name]))
    paths = sorted(shared_data.glob(REAL[name][1]))
    images = [read_image(path) for path in paths[:: len(paths) // 50][:50]]
    assert len(images) == 50
    seen = [detector.seen(image) for image in images]
    wanted = detector.score_pixels(
        np.stack([each.pixels for each in seen]), [each.size for each in seen]
    )
    found = [file(image[None]) for image in images]
    scores = np.concatenate([each["score"] for each in found])
    np.testing.assert_allclose(scores, wanted.score, rtol=1e-3)
    assert wanted.map is not None
    peaks = wanted.map.flatten(1).amax(dim=1).numpy()
    maps = np.concatenate([each["map"] for each in found])
    apart = np.abs(maps - wanted.map.numpy()).max(axis=(1, 2))
    assert (apart <= 5e-3 * peaks).all()


def test_the_file_is_one_and_names_what_it_takes(file: Path) -> None:
    assert [each.name for each in file.parent.iterdir()] == ["bolt.onnx"]
    onnx.checker.check_model(file)
    session = onnxruntime.InferenceSession(file)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("image", "tensor(uint8)")
    assert image.shape == [1, "height", "width", 3]
    assert {each.name: each.shape for each in session.get_outputs()} == {
        "score": [1],
        "map": [1, 64, 64],
    }


def metadata_of(path: Path) -> dict[str, str]:
    """Read the metadata as the documentation describes."""
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    if path.suffix == ".pt2":
        extra = {METADATA: ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra[METADATA])
    return openvino.Core().read_model(path).get_rt_info(["occ_lab"]).value


@pytest.mark.parametrize("name", FORMATS)
def test_metadata_holds_the_threshold(calibrated: Path, tmp_path: Path, name: str) -> None:
    suffix = FORMATS[name].suffix
    where = f"output='{tmp_path}/bolt{suffix}'"
    path = exported(calibrated, f"format={name}", "overkill=0.4", "input=tensor", where)
    detector, found = occ_lab.load(calibrated), metadata_of(path)
    assert detector.calibration is not None
    assert float(found["threshold"]) == detector.calibration.threshold(0.4)
    assert float(found["pixel_threshold"]) == detector.calibration.pixel_threshold(0.4)
    assert float(found["overkill"]) == 0.4
    assert found["backbone_identity"] == detector.detector.backbone.identity
    assert (found["task"], found["loss"], found["input"]) == ("bolt", "norm", "tensor")
    assert (found["resize"], found["crop"], found["calibration_images"]) == ("64", "64", "6")


def test_without_calibration_there_is_no_threshold(tmp_path: Path) -> None:
    directory = trained(tmp_path, *OBJECTIVES["closed_form"])
    with pytest.raises(UserError, match="was not calibrated"):
        exported(directory, "overkill=0.1")
    found = metadata_of(exported(directory, "format=torch_export", "input=tensor"))
    assert "threshold" not in found


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=tflite"], "format: must be one of onnx, torch_export, openvino, got 'tflite'"),
        (["input=jpeg"], "input: must be raw or tensor"),
        (["batch_size=0"], "batch_size must be an integer"),
        (["output=bolt.pt2"], "ends in .onnx"),
        (["overkill=0.01"], "needs at least 99 calibration images"),
        (["task=nut"], "this run has bolt"),
    ],
)
def test_mistakes_are_reported(calibrated: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        exported(calibrated, *overrides)


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("onnx", "onnxscript"), ("openvino", "openvino")],
)
def test_a_missing_package_is_named_with_what_to_install(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch, name: str, lacking: str
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda each: None if each == lacking else each)
    with pytest.raises(UserError, match=rf"needs {lacking}, .*pip install 'occ-lab\[{name}\]'$"):
        exported(calibrated, f"format={name}")


def test_half_precision_is_refused(calibrated: Path, tmp_path: Path) -> None:
    predictor = occ_lab.load(calibrated)
    predictor.detector.backbone.precision = "bfloat16"
    with pytest.raises(InputError, match=r"bfloat16.*precision float32"):
        export(predictor, tmp_path / "bolt.onnx")


def test_a_file_that_scores_otherwise_is_not_kept(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(path: Path, threads: int) -> Run:
        run = formats.run_torch(path, threads)
        return lambda image: {name: 1.002 * value for name, value in run(image).items()}

    form = FORMATS["torch_export"]
    monkeypatch.setitem(
        FORMATS, "torch_export", formats.Format(form.suffix, (), form.write, off, "")
    )
    with pytest.raises(UserError, match=r"differs from the detector: score by 2\..e-03"):
        exported(calibrated, "format=torch_export", "input=tensor", f"output='{tmp_path}/bolt.pt2'")
    assert list(tmp_path.iterdir()) == []


def test_differences_are_relative_to_the_size_of_scores(calibrated: Path) -> None:
    detector = occ_lab.load(calibrated)

    def far(image: np.ndarray) -> dict[str, np.ndarray]:
        pixels = np.round(image * 255).astype(np.uint8)
        scores, maps = detector.score_pixels(pixels, [pixels.shape[1:3]] * len(pixels))
        assert maps is not None
        return {"score": 1.5 * scores.numpy(), "map": np.full_like(maps, np.nan)}

    found = differences(detector, lambda image: far(image.transpose(0, 2, 3, 1)), False, 2)
    assert 0.5 <= found["score"] < 1
    assert np.isnan(found["map"])
    with pytest.raises(InputError, match="score by .*, map by nan"):
        exporting.check_differences(found)


def test_the_command_writes_a_file_and_prints_how_to_use_it(
    calibrated: Path, tmp_path: Path
) -> None:
    mvtec_tree(tmp_path / "parts")
    shutil.copytree(calibrated, tmp_path / "run ä", ignore=shutil.ignore_patterns("export"))
    done = command("export", "run='run ä'", cwd=tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run ä" / "tasks" / "bolt" / "export" / "bolt_raw.onnx"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    for part in (
        "bolt_raw.onnx: ",
        "uint8 [1, height, width, 3]",
        "at a false-positive rate of 30 %",
        "differs",
    ):
        assert part in done.stdout
    assert sorted(each.name for each in tmp_path.iterdir()) == ["parts", "run ä"]
    image = np.asarray(Image.open(next((tmp_path / "parts").rglob("*.png"))).convert("RGB"))
    found = opened(path)(image[None])
    wanted = occ_lab.load(tmp_path / "run ä").score(image)
    assert found["score"] == pytest.approx(wanted.image.numpy(), rel=1e-3)


def test_a_run_whose_backbone_has_gone_is_named(calibrated: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(calibrated, tmp_path / "run")

    def change(checkpoint: dict[str, Any]) -> None:
        gone = str(tmp_path / "gone.safetensors")
        checkpoint["hyper_parameters"]["backbone"]["arguments"]["weights"] = gone

    change_checkpoint(directory, "bolt", change)
    with pytest.raises(UserError, match="gone.safetensors"):
        exported(directory)
