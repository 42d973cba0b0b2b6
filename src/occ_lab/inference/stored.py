"""What a run directory holds of one task, read as data: nothing that it says is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from occ_lab.detector import Detector
from occ_lab.engine.calibrate import CALIBRATION, read_calibration
from occ_lab.metrics.calibration import RATE, Calibration
from occ_lab.utils.errors import InputError, MissingError
from occ_lab.utils.plain import read_yaml
from occ_lab.utils.scratch import visible

CHECKPOINT = Path("checkpoints", "last.ckpt")
# Keys of a part's configuration that are no arguments of its class.
NOT_ARGUMENTS = {"loss": ("_target_", "name", "fit")}


@dataclass(frozen=True)
class Stored:
    """One task of a run directory.

    Attributes:
        directory: the run directory.
        task: the name of the task.
        settings: the content of ``config.yaml``.
    """

    directory: Path
    task: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of the task."""
        return self.directory / "tasks" / self.task

    def calibration(self) -> tuple[Calibration | None, float]:
        """The scores that a threshold comes from, if there are any, and its false-positive rate."""
        calibration, rate = read_calibration(self.folder / CALIBRATION)
        if rate is None:  # of an earlier version, which has it in the settings
            rate = (self.settings.get("calibration") or {}).get("overkill") or RATE
        return calibration, float(rate)

    def detector(self, trust: Sequence[str] = ()) -> Detector:
        """The detector in the checkpoint of the task.

        Raises:
            InputError: a damaged checkpoint, a class that is not trusted, or other weights of the
                backbone.
        """
        path = self.folder / CHECKPOINT
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            described = checkpoint.get("hyper_parameters") or parts_of_settings(self.settings)
            state = checkpoint["state_dict"]
        except Exception as error:  # a damaged file fails in any way
            raise InputError(
                f"{path} cannot be read safely ({type(error).__name__})", part="run"
            ) from error
        try:
            detector = Detector(**for_task(described, self.task), trust=trust)
            detector.on_load_checkpoint(checkpoint)
            detector.load_state_dict(state)
        except InputError as error:
            raise InputError(f"{self.directory} cannot be loaded: {error}", part="run") from error
        except Exception as error:  # values of any kind are given to the classes it names
            said = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{path} does not describe a detector ({said})", part="run") from error
        return detector


def stored_run(directory: Path, task: str | None = None) -> Stored:
    """The task of a run directory.

    Args:
        directory: the run directory.
        task: which task; may be left out where there is one.

    Raises:
        InputError: there is no such run or task, or the run is an ensemble.
    """
    kept = directory / "config.yaml"
    tasks = sorted(path.parents[1].name for path in visible(directory, f"tasks/*/{CHECKPOINT}"))
    if not kept.is_file() or not tasks:
        raise MissingError(
            f"{directory.absolute()} holds no trained detector; name the run directory that "
            "`occ-lab train` prints at its end",
            part="run",
        )
    if task is None and len(tasks) == 1:
        (task,) = tasks
    if task not in tasks:
        asked = "" if task is None else f"no {task}; "
        raise InputError(f"{asked}this run has {', '.join(tasks)}; name one", part="task")
    settings = read_yaml(kept, "run")
    if not isinstance(settings, dict):
        raise InputError(f"{kept} holds no settings", part="run")
    if settings.get("ensemble"):
        raise InputError(
            f"{directory} is an ensemble of views, which cannot be loaded as one", part="run"
        )
    return Stored(directory, task, settings)


def parts_of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Detector` as the configuration of an earlier version says them.

    Checkpoints of those versions do not describe their detector.
    """
    groups = {
        "backbone": "backbone",
        "objective": "loss",
        "projector": "projector",
        "postprocess": "scoring",
    }
    described: dict[str, Any] = {
        part: {
            "class": settings[group]["_target_"],
            "arguments": {
                key: value
                for key, value in settings[group].items()
                if key not in NOT_ARGUMENTS.get(group, ("_target_",))
            },
        }
        for part, group in groups.items()
    }
    described["projector"]["partial"] = True  # its channels are those of the backbone
    dataset = settings["dataset"]
    described["preprocessing"] = {"resize": dataset["resize"], "crop": dataset["crop"]}
    return described


def for_task(described: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The arguments of `Detector`, with the file of a backbone that each task has of its own.

    Raises:
        InputError: a part is described by anything but a mapping.
    """
    arguments = {str(name): value for name, value in described.items()}
    for name, value in arguments.items():
        if not isinstance(value, Mapping | None):
            raise InputError(f"{name} is described by {value!r}")
    backbone = arguments.get("backbone") or {}
    path = (backbone.get("arguments") or {}).get("path")
    if path is not None and Path(path).is_dir():
        own = {**backbone["arguments"], "path": str(Path(path) / f"{task}.safetensors")}
        arguments["backbone"] = {**backbone, "arguments": own}
    return arguments
