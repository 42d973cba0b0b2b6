"""The length of a training: ``python -m experiments.training_steps.study --help``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.profilers import SimpleProfiler

from benchmarks.whole_runs import job_of
from experiments.trial import at, command_line, record, spread, table, whole_run
from occ_lab.engine.single_fit import fit_without
from occ_lab.engine.steps import ChosenSteps
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
SETS = {
    "transistor": ["dataset=mvtec", "dataset.root=DIR/mvtec_256"],
    "magnetic_tile": ["dataset=magnetic_tile", "dataset.root=DIR/magnetic_tile"],
}
LOSSES = {
    "norm": ["loss=norm", "loss.solver=gradient"],
    "Deep SVDD": ["loss=svdd", "loss.projector_bias=true"],
    "CFA": ["loss=cfa"],
}
LENGTHS = {"auto": [], "10 epochs": ["loss.fit.epochs=10"]}
RUNS = {  # the number of seeds; a training of CFA takes minutes
    ("norm", "auto"): 3,
    ("Deep SVDD", "auto"): 3,
    ("norm", "10 epochs"): 1,
    ("Deep SVDD", "10 epochs"): 1,
    ("CFA", "auto"): 1,
}
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}
RATIO = "time"


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials(data))))


def trials(data: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The trials, by key."""
    for (loss, length), seeds in RUNS.items():
        for name, dataset in SETS.items():
            for seed in range(seeds):
                overrides = [*dataset, *LOSSES[loss], *LENGTHS[length], f"seed={seed}"]
                yield f"{name} | {loss} | {length} | {seed}", partial(tested, overrides, data)
    for loss, chosen in LOSSES.items():
        yield f"{RATIO} | {loss}", partial(timed, [*SETS["transistor"], *chosen], data)


def tested(overrides: list[str], data: Path) -> dict[str, float]:
    """The figures of the only task, and the number of training steps of the detector."""
    (figures,) = whole_run(overrides, data).values()
    return {name: figures[name] for name in (*FIGURES, "steps")}


def timed(overrides: list[str], data: Path) -> dict[str, float]:
    """The seconds of a fit that chooses its steps, and the part spent on the choice."""
    job = job_of(at([*overrides, "+trainer.profiler=simple"], data))
    member = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    profiler = member.trainer.profiler  # type: ignore[attr-defined]
    assert isinstance(profiler, SimpleProfiler)
    durations = profiler.recorded_durations.items()
    spent = sum(sum(each) for name, each in durations if ChosenSteps.__name__ in name)
    return {
        "steps": member.trainer.global_step,
        "seconds": member.seconds["fit"],
        "choosing": spent,
    }


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    rows, times = [], []
    for name in SETS:
        for (loss, length), seeds in RUNS.items():
            keys = [f"{name} | {loss} | {length} | {seed}" for seed in range(seeds)]
            found = [results[key] for key in keys if key in results]
            if found:
                aurocs = [spread([each[f] for each in found], 100) for f in FIGURES]
                steps = ", ".join(str(each["steps"]) for each in found)
                rows.append([name, loss, length, steps, *aurocs])
    for loss in LOSSES:
        if each := results.get(f"{RATIO} | {loss}"):
            ratio = each["seconds"] / (each["seconds"] - each["choosing"])
            seconds = [f"{each[part]:.1f}" for part in ("seconds", "choosing")]
            times.append([loss, str(each["steps"]), *seconds, f"{ratio:.2f}"])
    return "\n".join(
        [
            "# Training steps",
            "",
            "`loss.fit.steps=auto` (the default for frozen features) compared with ten epochs, the",
            "earlier default; default backbone, mean ± sample standard deviation over seeds, per",
            "cent. The steps are chosen with held-out normal images",
            "([how](../../docs/guides/training.md)); no label is used.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.training_steps.study --data DIR`.",
            "",
            *table(["set", "loss", "length", "steps by seed", *FIGURES.values()], rows),
            "",
            "Seconds of a fit on transistor with `auto`, on one thread, and the part spent on the",
            "choice; the ratio is that of the fit to the training alone.",
            "",
            *table(["loss", "total steps", "fit", "choosing", "ratio"], times),
            "",
        ]
    )


if __name__ == "__main__":
    main()
