"""The wheel carries all it needs: it works where the checkout cannot be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OF_EXTRAS = (  # what an installation without extras may lack
    *("kornia", "onnx", "onnxruntime", "onnxscript", "openvino", "optuna", "pillow_heif"),
    *("plotly", "wandb", "watchfiles"),
)
WITHOUT_EXTRAS = (
    "import runpy, sys; "
    f"sys.modules.update(dict.fromkeys({OF_EXTRAS})); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **env},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=folder)
    return python


def test_wheel_holds_every_config_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")]
    assert {f"occ_lab/conf/{path.as_posix()}" for path in files} <= inside
    assert "occ_lab/py.typed" in inside


def test_wheel_holds_the_package_alone(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == {"occ_lab"}
    assert not [name for name in inside if "bench" in name and name.endswith(".py")]


def test_wheel_names_its_licence_and_dependencies(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    metadata = archive.read(name).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Dist: lightning" in metadata


def test_the_version_is_that_of_the_wheel(wheel: Path, fresh: Path, tmp_path: Path) -> None:
    said = run(fresh, "-c", "import occ_lab; print(occ_lab.__version__)", cwd=tmp_path)
    assert wheel.name.startswith(f"occ_lab-{said.strip()}-py3")
    assert said[0].isdigit()


def test_default_config_composes_from_the_wheel_alone(fresh: Path, tmp_path: Path) -> None:
    run(fresh, "-m", "pip", "install", "hydra-core", "numpy", "filelock", cwd=tmp_path)
    printed = run(fresh, "-m", "occ_lab.train", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert "_target_: occ_lab.objectives.norm.objective.Norm" in printed
    where = run(fresh, "-c", "import occ_lab; print(occ_lab.__file__)", cwd=tmp_path)
    assert not Path(where.strip()).is_relative_to(ROOT)


def test_the_wheel_trains_and_predicts_without_extras(fresh: Path, tmp_path: Path) -> None:
    # The heavy dependencies are lent from this environment; PYTHONPATH does not read the .pth
    # file by which an editable install would show the checkout.
    libraries = sysconfig.get_paths()["purelib"]
    small = ["dataset.category=brick", "dataset.train=4", "dataset.normal=2", "dataset.defective=5"]
    where = "import occ_lab; print(occ_lab.__file__)"
    installed = run(fresh, "-c", where, cwd=tmp_path, PYTHONPATH=libraries)
    assert not Path(installed.strip()).is_relative_to(ROOT)
    train = ["occ_lab.train", *small, "loss.fit.epochs=1", "hydra.run.dir=out"]
    run(fresh, "-c", WITHOUT_EXTRAS, *train, cwd=tmp_path, PYTHONPATH=libraries)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]["brick"]
    images = next(tmp_path.glob("data/*/brick/test/good"))
    predict = ["occ_lab.predict", "run=out", f"input={images}", "hydra.run.dir=new"]
    run(fresh, "-c", WITHOUT_EXTRAS, *predict, cwd=tmp_path, PYTHONPATH=libraries)
    assert (tmp_path / "new" / "predictions.csv").is_file()
