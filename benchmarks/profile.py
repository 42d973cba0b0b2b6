"""Where the time of a command goes: ``python -m benchmarks.profile train dataset=textures``.

Prints a table of spans, each with its own time, and writes a trace for ``chrome://tracing`` or
https://ui.perfetto.dev. The command runs in this process; its imports are a span too. With
``--cpu`` the seconds are those of the processor, of all threads, which other work on the machine
changes little.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SPANS = {  # what is timed, by the name that the table gives it
    "configuration": "occ_lab.config.composition.build",
    "job": "occ_lab.config.sweeps.perform",
    "task": "occ_lab.engine.run.run_task",
    "check of the files": "occ_lab.data.datamodule.AnomalyDataModule.prepare_data",
    "features": "occ_lab.engine.samples.use_fast_samples",
    "trainer": "occ_lab.config.trainer.make_trainer",
    "check of the trainer": "occ_lab.config.job.check_trainer_once",
    "parts of the job": "occ_lab.config.job.make_job",
    "summary": "occ_lab.reporting.record.RunRecord._write_summary",
    "scores": "occ_lab.engine.run.write_scores",
    "figures": "occ_lab.engine.run.task_figures",
    "reading of features and masks": "occ_lab.features.dataset.TaskFeatures.__getitems__",
    "backbone": "occ_lab.backbones.base.FrozenBackbone.forward",
    "fit": "lightning.Trainer.fit",
    "test": "lightning.Trainer.test",
    "predict": "lightning.Trainer.predict",
    "solve": "occ_lab.objectives.norm.objective.Norm.solve",
    "score": "occ_lab.detector.Detector.batch_scores",
    "metrics of a batch": "occ_lab.metrics.evaluation.Evaluation.update_batch",
    "metrics": "occ_lab.metrics.evaluation.Evaluation.compute",
    "checkpoint": "lightning.Trainer.save_checkpoint",
    "moments": "occ_lab.engine.live.write_moments",
    "heatmaps": "occ_lab.engine.run.write_pictures",
    "gallery": "occ_lab.engine.task_gallery.write_gallery",
    "plots": "occ_lab.reporting.learning_curve.save_learning_curve",
    "fsync": "os.fsync",
}


@dataclass
class Spans:
    """Nested spans of time.

    Attributes:
        events: name, thread, start and duration in seconds of each finished span.
        own: by name, seconds without those of the spans inside.
        total: by name, seconds with them; a span inside of one of its name counts once.
        counts: by name.

    Example:
        >>> spans = Spans(clock=iter([0.0, 1.0, 3.0, 7.0]).__next__)
        >>> with spans.of("fit"), spans.of("solve"):
        ...     pass
        >>> spans.own, spans.total["fit"]
        ({'solve': 2.0, 'fit': 5.0}, 7.0)
    """

    clock: Callable[[], float] = time.perf_counter
    events: list[tuple[str, int, float, float]] = field(default_factory=list)
    own: dict[str, float] = field(default_factory=dict)
    total: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _open: threading.local = field(default_factory=threading.local)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """The block as a span."""
        stack: list[list[Any]] = self._open.__dict__.setdefault("stack", [])
        stack.append([name, 0.0])  # with the seconds of the spans inside
        started = self.clock()
        try:
            yield
        finally:
            spent = self.clock() - started
            _, inside = stack.pop()
            self.events.append((name, threading.get_ident(), started, spent))
            self.own[name] = self.own.get(name, 0.0) + spent - inside
            if name not in [each for each, _ in stack]:
                self.total[name] = self.total.get(name, 0.0) + spent
            self.counts[name] = self.counts.get(name, 0) + 1
            if stack:
                stack[-1][1] += spent

    def time(self, name: str, target: str) -> None:
        """Make every call of a function or method a span.

        Args:
            name: of the span.
            target: module and attribute, such as ``os.fsync``; every module that has imported the
                function by now is served as well.
        """
        owner, attribute = located(target)
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.of(name):
                return function(*arguments, **named)

        setattr(owner, attribute, timed)
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(attribute) is function:
                setattr(module, attribute, timed)

    def trace(self) -> dict[str, Any]:
        """The spans in Chrome's trace format."""
        first = min(started for _, _, started, _ in self.events)
        return {
            "traceEvents": [
                {
                    "name": name,
                    "ph": "X",
                    "pid": 0,
                    "tid": thread,
                    "ts": 1e6 * (started - first),
                    "dur": 1e6 * spent,
                }
                for name, thread, started, spent in self.events
            ]
        }

    def table(self) -> Table:
        """All spans, by their own time."""
        whole = sum(self.own.values())
        table = Table("span", "calls", "own s", "own %", "with inner spans s", box=None)
        for name, own in sorted(self.own.items(), key=lambda each: -each[1]):
            cells = f"{own:.3f}", f"{100 * own / whole:.1f}", f"{self.total[name]:.3f}"
            table.add_row(name, str(self.counts[name]), *cells)
        return table


def located(target: str) -> tuple[Any, str]:
    """The object that has an attribute, and the name of the attribute.

    Example:
        >>> located("os.fsync")[1]
        'fsync'
    """
    *path, attribute = target.split(".")
    for length in range(len(path), 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(path[:length]))
        except ModuleNotFoundError:
            continue
        for name in path[length:]:
            owner = getattr(owner, name)
        return owner, attribute
    raise ModuleNotFoundError(target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command with its spans timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=Path("trace.json"), help="the file to write")
    parser.add_argument(
        "--cpu", action="store_true", help="seconds of the processor, not of a clock"
    )
    parser.add_argument("command", help="such as train")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="its arguments")
    asked = parser.parse_args(arguments)
    spans = Spans(time.process_time if asked.cpu else time.perf_counter)
    with spans.of("the rest of the command"):
        with spans.of("imports"):
            from occ_lab.__main__ import main as command

            for name, target in SPANS.items():
                spans.time(name, target)
        sys.argv = ["occ-lab", asked.command, *asked.rest]
        try:
            command()
        except SystemExit as end:
            if end.code:
                raise
    asked.trace.write_text(json.dumps(spans.trace()), encoding="utf-8")
    Console().print(spans.table())
    Console().print(f"trace: {asked.trace}", soft_wrap=True)


if __name__ == "__main__":
    main()
