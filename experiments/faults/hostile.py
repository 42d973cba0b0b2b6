"""Hostile run directories: loading them must run no code and end with a clear message."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import occ_lab
from experiments.faults.bounded import counted, tried
from experiments.faults.crashes import Counted
from occ_lab.reporting.record import RunRecord
from occ_lab.reporting.report.gather import gather
from occ_lab.utils.errors import InputError
from occ_lab.utils.plain import read_yaml

MARKER = "code_was_run"
IMAGE = "image.png"
REFUSED, HARMLESS = "refused", "read as data, without harm"
SOUND = "sound"  # the folder of the unchanged run directory
KEYS = (("tasks", "seed", "n_test"), ("scores", "peaks"))
TASK = Path("tasks", "brick")
PARTS = ("backbone", "objective", "projector", "postprocess", "preprocessing")
CALLS = ("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "shutil.rmtree")
NUMBERS = ("1e999", "NaN", "-1", "9" * 5000, "null", '"x"', "[]", "{}")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch '{marker}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def changes() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """The changes to a sound run directory, by name."""
    for name, text in texts():
        file, _, kind = name.partition(" ")
        yield f"{file} {kind}", lambda run, file=file, text=text: (run / file).write_text(text)
    for part in PARTS:
        for call in CALLS:
            yield (
                f"checkpoint {part} {call}",
                lambda run, part=part, call=call: describe(
                    run, part, {"class": call, "arguments": {"command": f"touch {run / MARKER}"}}
                ),
            )
        for kind, described in (("text", "x"), ("empty", {}), ("list", [1])):
            yield (
                f"checkpoint {part} {kind}",
                lambda run, part=part, described=described: describe(run, part, described),
            )
    for key, value in (("resize", 10**6), ("crop", 10**6), ("resize", -1), ("crop", 1e300)):
        yield f"checkpoint {key} {value}", lambda run, key=key, value=value: size(run, key, value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield (
            f"pickle {protocol}",
            lambda run, protocol=protocol: checkpoint(run).write_bytes(
                pickle.dumps(Payload(run / MARKER), protocol)
            ),
        )
        yield f"pickle in zip {protocol}", lambda run, protocol=protocol: zipped(run, protocol)
    for part in range(10):
        yield f"checkpoint cut {part}", lambda run, part=part: cut(checkpoint(run), part / 10)


def texts() -> Iterator[tuple[str, str]]:
    """Contents for the text files of a run: the name of the file, and a word for each content."""
    bomb = "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    )
    yield "config.yaml bomb", bomb
    yield "config.yaml call", "loss: !!python/object/apply:os.system ['touch code_was_run']\n"
    yield "config.yaml new", "loss: !!python/object/new:os.system ['touch code_was_run']\n"
    yield "config.yaml deep", "[" * 20000
    yield "config.yaml huge", "a: " + "x" * 2**22
    yield "config.yaml interpolation", "a: ${oc.env:HOME}\nb: ${a}\nc: ${c}\n"
    for call in CALLS:
        parts = "\n".join(
            f"{part}:\n  _target_: {call}\n  _args_: ['touch code_was_run']"
            for part in ("loss", "backbone", "projector", "scoring", "dataset", "trainer")
        )
        yield f"config.yaml {call}", parts
    for file in ("metrics.json", f"{TASK}/metrics.json", f"{TASK}/calibration.json"):
        yield f"{file} deep", "[" * 100000
        yield f"{file} cut", '{"tasks": {"brick": {"image_auroc": 0.'
        yield f"{file} empty", ""
        for number, value in enumerate(NUMBERS):
            for keys in KEYS:
                said = ", ".join(f'"{key}": {value}' for key in keys)
                yield f"{file} {keys[0]}{number}", f"{{{said}}}"
            rate = f'{{"scores": [1, 2], "peaks": [1, 2], "overkill": {value}}}'
            yield f"{file} overkill{number}", rate
    for file in ("scores.csv", f"{TASK}/scores.csv"):
        yield f"{file} empty", ""
        yield f"{file} cut", "path,label,score,task\na.png,1"
        yield f"{file} quote", 'path,label,score,task\n"a.png,1,1,brick'
        yield f"{file} huge", "path,label,score,task\n" + "x" * 2**20 + ",1,1,brick\n"
        yield f"{file} nul", "path,label,score,task\n\0,1,1,brick\n"


def checkpoint(run: Path) -> Path:
    """The checkpoint of the task."""
    return run / TASK / "checkpoints" / "last.ckpt"


def describe(run: Path, part: str, described: object) -> None:
    """Change the description of a part of the detector in a checkpoint."""
    content = torch.load(checkpoint(run), weights_only=True)
    content["hyper_parameters"][part] = described
    torch.save(content, checkpoint(run))


def size(run: Path, key: str, value: float) -> None:
    """Change the size of images in a checkpoint."""
    content = torch.load(checkpoint(run), weights_only=True)
    content["hyper_parameters"]["preprocessing"][key] = value
    torch.save(content, checkpoint(run))


def zipped(run: Path, protocol: int) -> None:
    """Insert a pickle that runs a command in place of that of ``torch.save``."""
    torch.save({}, checkpoint(run))
    with zipfile.ZipFile(checkpoint(run)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(checkpoint(run), "w") as archive:
        for name, content in files.items():
            payload = pickle.dumps(Payload(run / MARKER), protocol)
            archive.writestr(name, payload if name.endswith("data.pkl") else content)


def cut(path: Path, fraction: float) -> None:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


def outcome(run: Path) -> str:
    """The outcome of loading, scoring, reporting and resuming a run directory."""
    os.chdir(run)
    refused = False
    try:
        predictor = occ_lab.load(run)
        predictor.score([run / IMAGE])
    except InputError:
        refused = True
    refused |= bool(gather([run]).left_out)
    try:
        settings = read_yaml(run.parent / SOUND / "config.yaml")
        RunRecord(run, {"loss": "norm"}, settings, resume=True)
    except InputError:
        refused = True
    if list(run.rglob(MARKER)):
        return "it has run code"
    return REFUSED if refused else HARMLESS


def hostile(given: Path, base: Path, stride: int = 1) -> tuple[Counted, dict[str, int]]:
    """Try hostile run directories.

    Args:
        given: the input of `experiments.faults.cases.train_by_gradient`, which has a sound run.
        base: a folder for them.
        stride: 1 tries all of them, 2 every second one.

    Returns:
        The counts, and the number of directories with each outcome.
    """
    paths = [base / SOUND]
    shutil.copytree(given / "once" / "run", paths[0])
    shutil.copy(next((given / "textures").rglob("*.png")), paths[0] / IMAGE)
    for name, change in list(changes())[::stride]:
        paths.append(base / name.replace("/", "_").replace(" ", "-"))
        shutil.copytree(paths[0], paths[-1])
        change(paths[-1])
    return counted(tried(outcome, paths, base / "results"), (REFUSED, HARMLESS))
