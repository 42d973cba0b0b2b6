"""Kill a command before each change that it makes to the file system, then run it again.

The process ends by ``os._exit``, like with ``kill -9``: nothing is cleaned up and no file is
closed. The result of the second attempt must equal that of an undisturbed run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import safe_open

KILLED = 137
PATIENCE = 300  # seconds
CHANGES = {  # events of `sys.addaudithook`, and which of their arguments are paths and folders
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
}
# Values that differ from run to run.
VARYING = {"seconds", "peak_memory_mb", "milliseconds", "images_per_second", "written", "date"}
OF_A_CLOCK = (".png", ".html", ".md", ".onnx", ".pt2", ".xml", ".bin", ".lock")


Work: TypeAlias = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Case:
    """A command whose results must survive a kill.

    Attributes:
        work: the command; called with a folder for its input and a folder for its output.
        prepare: a function of a module that fills the input folder, once.
        begin: fills the output folder before each first attempt.
        code: the expected exit code of the command.
    """

    work: Work
    prepare: Callable[[Path], object]
    begin: Callable[[Path, Path], object] = lambda given, out: None
    code: int = 0


@dataclass
class Counted:
    """The result of injected faults.

    Attributes:
        injected: the number of faults.
        lost: a description of each fault that did harm.
    """

    injected: int = 0
    lost: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        """The number of faults that did no harm."""
        return self.injected - len(self.lost)

    def as_dict(self) -> dict[str, Any]:
        """The figures for a file of results."""
        return {"injected": self.injected, "survived": self.survived, "lost": self.lost}


def changed_paths(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    """The paths that an event changes in the file system; empty for other events."""
    if event == "open":
        path, mode, flags = arguments
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if flags else False
        if isinstance(path, str | bytes | os.PathLike) and (writes or (mode and mode[0] in "wax")):
            yield str(Path(os.fsdecode(path)).absolute())
    for place, of_folder in CHANGES.get(event, ()):
        path, folder = os.fsdecode(arguments[place]), arguments[of_folder]
        if folder not in (None, -1):
            path = f"{Path(f'/proc/self/fd/{folder}').readlink()}/{path}"
        yield str(Path(path).absolute())


def watch(folder: Path, kill_at: int | None, log: list[str]) -> None:
    """Log each change below a folder from now on; the process ends before the ``kill_at``-th."""
    top = f"{folder.resolve()}{os.sep}"
    busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or (event != "open" and event not in CHANGES):
            return
        busy = True
        below = [path for path in changed_paths(event, arguments) if path.startswith(top)]
        if event == "os.mkdir" and below and Path(below[0]).is_dir():  # nothing will change
            below = []
        busy = False
        if below:
            log.append(f"{event} {below[-1].removeprefix(top)}")
            if len(log) == kill_at:
                os._exit(KILLED)

    sys.addaudithook(hook)


def attempt(work: Work, given: Path, out: Path, kill_at: int | None, said: Path) -> None:
    """Do the work of a case in this process, which then ends; the changes are written to a file.

    Args:
        work: the command.
        given: its input folder.
        out: its output folder.
        kill_at: the change before which the process ends; None never ends it.
        said: a folder for ``output`` and ``changes``.
    """
    output = os.open(said / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", encoding="utf-8", errors="replace", closefd=False)
        for number in (1, 2)
    )
    code: Any = 0
    log: list[str] = []
    watch(out, kill_at, log)
    try:
        work(given, out)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    (said / "changes").write_text("\n".join(log), encoding="utf-8")
    os._exit(code)


def in_own_process(work: Work, given: Path, out: Path, kill_at: int | None, said: Path) -> int:
    """The exit code of an attempt."""
    process = started(attempt, work, given, out, kill_at, said)
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"no end after {PATIENCE} s: {said}")
    return int(process.exitcode)


def started(work: Callable[..., Any], *arguments: Any) -> Any:
    """Start a process that calls a function of a module, with the slow libraries imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.faults.cases"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def prepare(case: Case, given: Path) -> None:
    """Make the input of a case in a separate process, because threads do not survive a fork.

    Raises:
        RuntimeError: it cannot be made.
    """
    given.mkdir(parents=True)
    process = started(quietly, case.prepare, given)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the input cannot be made, exit code {process.exitcode}")


def quietly(work: Callable[[Path], object], given: Path) -> None:
    """Do the work without printing anything."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work(given)


class Campaign:
    """A case, its undisturbed run, and killed attempts.

    Args:
        case: the case.
        base: a folder for all files.
        given: the input folder, if it exists already.

    Attributes:
        changes: the changes of the undisturbed run, in order.

    Raises:
        RuntimeError: the input cannot be made, or the undisturbed run fails.
    """

    def __init__(self, case: Case, base: Path, given: Path | None = None) -> None:
        self.case = case
        base.mkdir(parents=True, exist_ok=True)
        self.given, self.out, self.said = given or base / "given", base / "out", base / "said"
        if given is None:
            prepare(case, self.given)
        self._afresh()
        code = in_own_process(case.work, self.given, self.out, None, self.said)
        if code != case.code:
            raise RuntimeError(f"undisturbed, exit code {code}; {last_line(self.said)}")
        self.wanted = content(self.out)
        self.changes = (self.said / "changes").read_text(encoding="utf-8").splitlines()

    def _afresh(self) -> None:
        for folder in (self.out, self.said):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.case.begin(self.given, self.out)

    def points(self, stride: int = 1, first: int = 1) -> range:
        """The changes before which processes are killed."""
        return range(first, len(self.changes) + 1, stride)

    def harm(self, point: int) -> str:
        """The harm of a kill before a change to the result of the next attempt; empty if none."""
        self._afresh()
        before = f"killed before change {point} of {len(self.changes)}"
        code = in_own_process(self.case.work, self.given, self.out, point, self.said)
        if code != KILLED:
            return f"{before}: exit code {code}, so it was not killed; {last_line(self.said)}"
        code = in_own_process(self.case.work, self.given, self.out, None, self.said)
        before += f" ({self.changes[point - 1]})"
        if code != self.case.code:
            return f"{before}: then exit code {code}, not {self.case.code}; {last_line(self.said)}"
        found = content(self.out)
        different = [
            name
            for name in sorted({*found, *self.wanted})
            if found.get(name) != self.wanted.get(name)
        ]
        if not different:
            return ""
        name = different[0]
        what = (
            "differs"
            if name in found and name in self.wanted
            else ("is left over" if name in found else "is missing")
        )
        return f"{before}: {name} {what} ({len(different)} differences)"

    def run(
        self, points: Iterable[int], say: Callable[[str], object] = lambda text: None
    ) -> Counted:
        """Kill before each of the points."""
        counted = Counted()
        for point in points:
            counted.injected += 1
            if harm := self.harm(point):
                counted.lost.append(harm)
                say(harm)
        return counted


def last_line(said: Path) -> str:
    """The last line that a process has printed."""
    lines = (said / "output").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "nothing was printed"


def content(folder: Path) -> dict[str, Any]:
    """The content of a folder and its subfolders by path: figures, tables and weights exactly.

    Values that differ between any two runs are left out: times, memory, pictures that show times.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = "folder"
        elif path.name.endswith(OF_A_CLOCK):
            found[name] = "there"
        elif path.suffix == ".json":
            found[name] = steady(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".csv":
            found[name] = steady_rows(path.read_text(encoding="utf-8"))
        elif path.suffix == ".ckpt":
            found[name] = weights(path)
        elif path.suffix == ".safetensors":
            found[name] = tensors(path)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def steady(value: Any) -> Any:
    """A JSON value without the varying parts, as text, in which NaN equals itself."""

    def without(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: without(each) for key, each in node.items() if key not in VARYING}
        return [without(each) for each in node] if isinstance(node, list) else node

    return json.dumps(without(value))


def steady_rows(text: str) -> list[list[str]]:
    """The cells of a table without the columns that vary."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    kept = [place for place, name in enumerate(rows[0]) if "seconds" not in name] if rows else []
    return [[row[place] for place in kept] for row in rows]


def weights(path: Path) -> str:
    """A digest of the weights in a checkpoint."""
    return digest(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])


def tensors(path: Path) -> list[Any]:
    """The metadata of a safetensors file, whose order varies, and a digest of its tensors."""
    with safe_open(path, "pt") as file:
        about = sorted((file.metadata() or {}).items())
        return [about, digest({name: file.get_tensor(name) for name in file.keys()})]  # noqa: SIM118


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """A digest of tensors and their names."""
    value = hashlib.sha256()
    for name in sorted(state):
        value.update(name.encode())
        value.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return value.hexdigest()
