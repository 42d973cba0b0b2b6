"""The examples of examples/line/, built and run where there is a compiler."""

from __future__ import annotations

import math
import os
import runpy
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import pytest
from PIL import Image

import occ_lab
from occ_lab.config.composition import composed
from occ_lab.config.export import perform_export
from occ_lab.data.generated import made_image
from tests.deploy.line_parts import LIBRARY
from tests.inference.runs import trained

LINE = Path(__file__).resolve().parents[2] / "examples" / "line"
SIZES = ((64, 64), (90, 70), (40, 131))
INCLUDES = ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime", "/usr/local/include")


class Exported(NamedTuple):
    """An exported detector, images to score, and what the examples must print of them."""

    file: Path
    images: list[Path]
    scores: list[float]
    threshold: float

    @property
    def words(self) -> list[str]:
        """The arguments of an example."""
        return [str(self.file), *map(str, self.images)]

    def check(self, printed: str) -> None:
        """Compare what an example has printed with what the detector computes."""
        rows = [line.split("\t") for line in printed.splitlines()]
        assert [row[0] for row in rows] == self.words[1:]
        assert [float(row[1]) for row in rows] == pytest.approx(self.scores, rel=1e-3)
        assert [float(row[2]) for row in rows] == pytest.approx([self.threshold] * len(rows))
        expected = ["anomalous" if score > self.threshold else "normal" for score in self.scores]
        assert [row[3] for row in rows] == expected


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("line")
    backbone = ["backbone=resnet18", "backbone.model=test_resnet", "backbone.weights=random"]
    calibrated = ["calibration.folds=2", "calibration.overkill=0.3"]
    run = trained(folder, *backbone, "loss=norm", *calibrated)
    file = perform_export(composed("export", [f"run='{run}'", f"output='{folder}/bolt.onnx'"])).path
    images = [folder / f"{number}.ppm" for number in range(len(SIZES) + 1)]
    for number, size in enumerate(SIZES):
        Image.fromarray(made_image(number, *size)).save(images[number])
    normal = next((folder / "parts").glob("bolt/train/good/*.png"))
    Image.open(normal).convert("RGB").save(images[-1])
    judged = occ_lab.load(run)
    found = judged.score(images)
    assert judged.calibration is not None
    threshold = judged.calibration.threshold(0.3)
    assert len(set((found.image > threshold).tolist())) == 2  # both decisions are there
    return Exported(file, images, found.image.tolist(), threshold)


def parts() -> Path:
    """What `tests.deploy.line_parts` has laid."""
    return Path(os.environ.get("OCC_LAB_LINE_PARTS", "absent"))


@pytest.fixture
def libraries(tmp_path: Path) -> dict[str, str]:
    """The environment in which the native library of the Python package is found."""
    (native,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(native)
    return {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def refused(words: list[str], tmp_path: Path, file: Path, env: dict[str, str]) -> None:
    """Check that an example refuses a file that is no image."""
    (tmp_path / "no.ppm").write_bytes(b"P5 2 2 255 ....")
    done = run([*words, str(file), str(tmp_path / "no.ppm")], env=env)
    assert done.returncode != 0
    assert "no.ppm is no 8-bit PPM" in done.stderr
    assert run(words, env=env).stderr.startswith("use: score MODEL.onnx")


def test_they_are_short() -> None:
    for path in LINE.glob("[sS]core.*"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path


def test_python(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    program = runpy.run_path(str(LINE / "score.py"))
    program["main"](*exported.words)
    exported.check(capsys.readouterr().out)


def test_cpp(exported: Exported, tmp_path: Path, libraries: dict[str, str]) -> None:
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    folders = [parts() / "include", *map(Path, INCLUDES)]
    headers = next((each for each in folders if (each / "onnxruntime_cxx_api.h").is_file()), None)
    if compiler is None or headers is None:
        pytest.skip("no C++ compiler" if compiler is None else "no headers of ONNX Runtime")
    native, program = str(tmp_path / "libonnxruntime.so"), str(tmp_path / "score")
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-isystem{headers}"]
    built = run([compiler, *options, str(LINE / "score.cpp"), native, "-o", program])
    assert built.returncode == 0, built.stderr
    done = run([program, *exported.words], env=libraries)
    assert done.returncode == 0, done.stderr
    exported.check(done.stdout)
    refused([program], tmp_path, exported.file, libraries)


def test_csharp(exported: Exported, tmp_path: Path, libraries: dict[str, str]) -> None:
    if not shutil.which("mcs") or not shutil.which("mono"):
        pytest.skip("no C# compiler: mcs and mono")
    if not (parts() / LIBRARY).is_file():
        pytest.skip(f"no {LIBRARY}; see tests/deploy/line_parts.py")
    shutil.copy(parts() / LIBRARY, tmp_path)
    program = str(tmp_path / "score.exe")
    options = [f"-r:{tmp_path / LIBRARY}", "-warnaserror", f"-out:{program}"]
    built = run(["mcs", *options, str(LINE / "Score.cs")])
    assert built.returncode == 0, built.stderr
    done = run(["mono", program, *exported.words], env=libraries)
    assert done.returncode == 0, done.stderr
    exported.check(done.stdout)
    refused(["mono", program], tmp_path, exported.file, libraries)


def test_the_csharp_project_names_its_package() -> None:
    project = ElementTree.parse(LINE / "score.csproj").getroot()
    packages = {each.get("Include") for each in project.iter("PackageReference")}
    assert packages == {"Microsoft.ML.OnnxRuntime"}


def test_without_a_threshold_all_is_normal(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = onnx.load(exported.file)
    kept = [each for each in model.metadata_props if each.key != "threshold"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "bare.onnx")
    program = runpy.run_path(str(LINE / "score.py"))
    program["main"](str(tmp_path / "bare.onnx"), str(exported.images[0]))
    _, _, threshold, decision = capsys.readouterr().out.strip().split("\t")
    assert (float(threshold), decision) == (math.inf, "normal")
