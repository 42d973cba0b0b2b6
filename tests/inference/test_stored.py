"""Runs of earlier versions, and run directories written by an attacker."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import occ_lab
from occ_lab.detector import Detector
from occ_lab.utils.errors import InputError
from occ_lab.utils.trusted import MOVED, TRUSTED
from tests.inference.runs import change_checkpoint

RUNS = Path(__file__).resolve().parents[1] / "stored_runs"
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (RUNS / "expected.json").read_text(encoding="utf-8")
)


def images() -> list[np.ndarray]:
    """Three images; those of `expected.json` were made by the same lines."""
    generators = [np.random.default_rng(seed) for seed in range(3)]
    drawn = [each.integers(0, 256, (48, 40, 3), dtype=np.uint8) for each in generators]
    return [image // (seed + 1) for seed, image in enumerate(drawn)]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_of_before_the_move_scores_as_it_did(name: str) -> None:
    found, expected = occ_lab.load(RUNS / name).score(images()), EXPECTED[name]
    torch.testing.assert_close(found.image, torch.tensor(expected["image"]), rtol=1e-5, atol=1e-5)
    if expected["maps"] is None:
        assert found.maps is None
    else:
        assert found.maps is not None
        means = torch.tensor(expected["maps"])
        torch.testing.assert_close(found.maps.mean(dim=(1, 2)), means, rtol=1e-5, atol=1e-5)
    if expected["p_values"] is None:
        assert found.p_values is None
    else:
        assert found.p_values is not None
        assert found.p_values.tolist() == pytest.approx(expected["p_values"])
        assert found.anomalous is not None
        assert found.anomalous.tolist() == expected["anomalous"]


def test_every_moved_class_is_known() -> None:
    assert set(MOVED.values()) <= TRUSTED
    assert not set(MOVED) & TRUSTED


# Names that lead to functions that run commands, and the arguments for it.
HOSTILE = {
    "system": ("os.system", {"command": "touch MARK"}),
    "popen": ("subprocess.Popen", {"args": ["touch", "MARK"]}),
    "eval": ("builtins.eval", {"source": "__import__('os').system('touch MARK')"}),
    "by our modules": ("occ_lab.detector.torch.os.system", {"command": "touch MARK"}),
    "by our sweeps": ("occ_lab.config.sweeps.subprocess.Popen", {"args": ["touch", "MARK"]}),
    "sympy": (
        "occ_lab.data.datamodule.torch._higher_order_ops.triton_kernel_wrap.sympy.sin",
        {"x": "__import__('os').system('touch MARK')"},
    ),
    "our function": ("occ_lab.utils.specs.made_of", {"spec": {"class": "os.system"}}),
    "not on the list": ("occ_lab.reporting.record.RunRecord", {"directory": "MARK"}),
    "old name": ("occ_lab.sweep.subprocess.Popen", {"args": ["touch", "MARK"]}),
    "no name": ("", {}),
}
TASK = "3"  # of the run with a small network, which is quick to load
CHECKPOINT = f"tasks/{TASK}/checkpoints/last.ckpt"
GROUPS = ("loss", "backbone", "projector", "scoring")
PARTS = ("objective", "backbone", "projector", "postprocess", "optimizer", "scheduler")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run from before the move, whose ``config.yaml`` names the classes."""
    return Path(shutil.copytree(RUNS / "lenet", tmp_path / "run"))


@pytest.fixture
def described_run(run: Path) -> Path:
    """A run whose checkpoint names the classes."""
    parts = dict(occ_lab.load(run).detector.hparams)
    change_checkpoint(run, TASK, lambda content: content.update(hyper_parameters=parts))
    assert occ_lab.load(run).score(images()).image.isfinite().all()
    return run


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that hostile code would create."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "what the run directory says has been executed"


def with_mark(value: Any, mark: Path) -> Any:
    """``value`` with the path of the file in place of MARK."""
    return json.loads(json.dumps(value).replace("MARK", str(mark)))


def change_settings(run: Path, group: str, node: Any) -> None:
    path = run / "config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings[group] = node
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def change_part(run: Path, name: str, value: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        content["hyper_parameters"][name] = value

    change_checkpoint(run, TASK, change)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_target_is_refused(run: Path, mark: Path, way: str, group: str) -> None:
    name, arguments = with_mark(HOSTILE[way], mark)
    change_settings(run, group, {"_target_": name, **arguments})
    with pytest.raises(InputError, match="is not a class that OCC Lab makes"):
        occ_lab.load(run)


@pytest.mark.parametrize("key", ["_target_", "class"])
@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_target_in_an_argument_is_refused(
    run: Path, mark: Path, way: str, key: str
) -> None:
    name, arguments = with_mark(HOSTILE[way], mark)
    node = {key: name, "arguments": arguments, "_args_": list(arguments.values()), **arguments}
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for group, argument in (("loss", "nu"), ("backbone", "variant"), ("projector", "more")):
        change_settings(run, group, {**settings[group], argument: node})
        with pytest.raises(InputError):
            occ_lab.load(run)
        change_settings(run, group, settings[group])


def test_the_dataset_of_a_run_is_not_made(run: Path, mark: Path) -> None:
    node = {"_target_": "os.system", "command": f"touch {mark}", "resize": 28, "crop": 28}
    change_settings(run, "dataset", node)
    assert occ_lab.load(run).task == TASK


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_class_in_a_checkpoint_is_refused(
    described_run: Path, mark: Path, way: str, part: str
) -> None:
    name, arguments = with_mark(HOSTILE[way], mark)
    for partial in (False, True):
        change_part(
            described_run, part, {"class": name, "arguments": arguments, "partial": partial}
        )
        with pytest.raises(InputError, match="is not a class that OCC Lab makes"):
            occ_lab.load(described_run)
        with pytest.raises(InputError, match="is not a class that OCC Lab makes"):
            Detector.load_from_checkpoint(described_run / CHECKPOINT)


def test_a_hostile_argument_of_our_class_is_refused(described_run: Path, mark: Path) -> None:
    hostile = {"class": "os.system", "arguments": {"command": f"touch {mark}"}}
    ours = "occ_lab.objectives.norm.objective.Norm"
    for arguments in ({"norm": hostile}, {"norm": [[hostile]]}, {"norm": {"deep": hostile}}):
        change_part(described_run, "objective", {"class": ours, "arguments": arguments})
        with pytest.raises(InputError, match=r"os\.system is not a class that OCC Lab makes"):
            occ_lab.load(described_run)


def test_a_checkpoint_trusts_nobody(described_run: Path, mark: Path) -> None:
    hostile = {"class": "subprocess.Popen", "arguments": {"args": ["touch", str(mark)]}}
    change_part(described_run, "objective", hostile)
    change_part(described_run, "trust", ["subprocess"])
    with pytest.raises(InputError):
        occ_lab.load(described_run)
    with pytest.raises(InputError, match="is not a class that OCC Lab makes"):
        Detector.load_from_checkpoint(described_run / CHECKPOINT)


@pytest.mark.parametrize("value", ["text", 3, ["text"], {}, {"class": 3}, {"class": ["os.system"]}])
@pytest.mark.parametrize("part", PARTS)
def test_what_is_no_description_is_an_input_error(
    described_run: Path, part: str, value: Any
) -> None:
    change_part(described_run, part, value)
    with pytest.raises(InputError):
        occ_lab.load(described_run)


@pytest.mark.parametrize("value", ["text", ["text"], {"more": {}}, {"backbone": None}])
def test_what_describes_no_detector_is_an_input_error(described_run: Path, value: Any) -> None:
    change_checkpoint(described_run, TASK, lambda content: content.update(hyper_parameters=value))
    with pytest.raises(InputError):
        occ_lab.load(described_run)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_checkpoint_that_runs_code_is_refused(run: Path, mark: Path) -> None:
    torch.save({"state_dict": {}, "more": Touch(mark)}, run / CHECKPOINT)
    with pytest.raises(InputError, match="cannot be read safely"):
        occ_lab.load(run)


def test_yaml_that_runs_code_is_refused(run: Path, mark: Path) -> None:
    path = run / "config.yaml"
    path.write_text(f"loss: !!python/object/apply:os.system ['touch {mark}']", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        occ_lab.load(run)


MINE = """
import os
from os import system
from subprocess import Popen
from occ_lab.objectives import Objective

class Distance(Objective):
    def __init__(self, power=2, **more):
        super().__init__()
        self.power = power
    def forward(self, z):
        return z.norm(dim=1) ** self.power
    def loss(self, z):
        return self(z).mean()

def function(**arguments):
    os.system(arguments["command"])
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user's own module."""
    (tmp_path / "own_module.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_module", None)


@pytest.mark.usefixtures("mine")
def test_trust_admits_a_class_of_ones_own(described_run: Path) -> None:
    own = {"class": "own_module.Distance", "arguments": {"power": 3}}
    change_part(described_run, "objective", own)
    drop_objective(described_run)
    for trust in ([], ["own"], ["own_module.Distance"], ["mine"]):
        with pytest.raises(InputError, match=r"trust=\[own_module\]"):
            occ_lab.load(described_run, trust=trust)
        assert "own_module" not in sys.modules
    assert occ_lab.load(described_run, trust=["own_module"]).score(images()).image.isfinite().all()
    path = described_run / CHECKPOINT
    assert Detector.load_from_checkpoint(path, trust=["own_module"]).objective.power == 3


def drop_objective(run: Path) -> None:
    """Take the state of the objective out of the checkpoint."""

    def change(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        content["state_dict"] = {
            name: value for name, value in state.items() if not name.startswith("objective.")
        }

    change_checkpoint(run, TASK, change)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("name", ["os.system", "system", "Popen", "function", "os.path.join", "os"])
def test_trust_admits_nothing_that_ones_own_module_imports(
    described_run: Path, mark: Path, name: str
) -> None:
    for arguments in ({"command": f"touch {mark}"}, {"args": ["touch", str(mark)]}):
        change_part(
            described_run, "objective", {"class": f"own_module.{name}", "arguments": arguments}
        )
        with pytest.raises(InputError, match="cannot be imported|is not the name of a class"):
            occ_lab.load(described_run, trust=["own_module"])


@pytest.mark.usefixtures("mine")
def test_the_arguments_of_ones_own_class_are_checked_too(described_run: Path, mark: Path) -> None:
    hostile = {"class": "os.system", "arguments": {"command": f"touch {mark}"}}
    own = {"class": "own_module.Distance", "arguments": {"power": 3, "more": hostile}}
    change_part(described_run, "objective", own)
    with pytest.raises(InputError, match=r"os\.system is not a class"):
        occ_lab.load(described_run, trust=["own_module"])


def test_absurd_sizes_are_refused(described_run: Path) -> None:
    change_part(described_run, "preprocessing", {"resize": 100_000, "crop": 100_000})
    with pytest.raises(InputError, match=r"resize must be .* <= 10000, got 100000"):
        occ_lab.load(described_run)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (f"tasks/{TASK}/calibration.json", '{"scores": [1, 2', "cannot be read"),
        (f"tasks/{TASK}/calibration.json", '{"scores": ["x"], "peaks": []}', "no calibration"),
        (f"tasks/{TASK}/calibration.json", "[]", "no calibration"),
        (f"tasks/{TASK}/calibration.json", '{"scores": -1, "peaks": -1}', "no calibration"),
        (f"tasks/{TASK}/calibration.json", '{"scores": [1], "peaks": []}', "no calibration"),
        (
            f"tasks/{TASK}/calibration.json",
            '{"scores": [1], "peaks": [1], "overkill": 7}',
            "no calibration",
        ),
        ("config.yaml", "a: &a [x]\nb: *a\n", "cannot be read .*aliases"),
        ("config.yaml", "- 1\n", "holds no settings"),
    ],
)
def test_damaged_files_of_a_run_are_named(run: Path, name: str, text: str, message: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(InputError, match=f"{Path(name).name}.* {message}"):
        occ_lab.load(run)
