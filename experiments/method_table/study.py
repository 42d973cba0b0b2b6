"""Every method on the structured sets: ``python -m experiments.method_table.study --help``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.whole_runs import CLOSED_FORM
from experiments.trial import command_line, record, sets, spread, table, trial
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
SEEDS = range(5)
METHODS = {
    "norm": ["loss=norm"],
    "norm, one projector": CLOSED_FORM,
    "norm, by gradient": ["loss=norm", "loss.solver=gradient"],
    "CFA": ["loss=cfa"],
    "CFA, no adaptation": ["loss=cfa", "loss.attract=false", "loss.repel=false"],
    "Deep SVDD": ["loss=svdd", "loss.projector_bias=true"],
    "nearest neighbours": ["loss=knn"],
    "PaDiM": ["loss=padim"],
    "one Gaussian": ["loss=gaussian"],
}
DRAWS_NOTHING = ("norm", "one Gaussian")  # the seed does not change them
FRACTIONS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_aupro": "AUPRO"}
COSTS = ("fit_seconds", "images_per_second", "peak_memory_mb", "trainable_parameters")


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials = (
        (key(name, method, seed), partial(measured, [*dataset, *METHODS[method], f"seed={seed}"]))
        for name, dataset in sets(data).items()
        for method, seed in runs()
    )
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def runs() -> Iterator[tuple[str, int]]:
    """Every method with its seeds."""
    for method in METHODS:
        for seed in SEEDS[:1] if method in DRAWS_NOTHING else SEEDS:
            yield method, seed


def key(name: str, method: str, seed: int) -> str:
    """The key of a trial in results.json."""
    return f"{name} | {method} | {seed}"


def measured(overrides: Sequence[str]) -> dict[str, float]:
    """The figures of a run."""
    found = trial([*overrides])
    return {figure: found[figure] for figure in (*FRACTIONS, *COSTS)}


def of_all_seeds(results: dict[str, Any], name: str, method: str) -> dict[str, list[float]]:
    """Every figure over the recorded seeds of a method on a set."""
    keys = (key(name, each, seed) for each, seed in runs() if each == method)
    found = [results[one] for one in keys if one in results]
    return {figure: [run[figure] for run in found] for figure in found[0]}


def overview(results: dict[str, Any]) -> list[str]:
    """The lines of a table with one row for each method: image and pixel AUROC, and costs."""
    names = list(sets(Path("DIR")))
    rows = []
    for method in METHODS:
        cells = {name: of_all_seeds(results, name, method) for name in names}
        aurocs = [
            " / ".join(spread(cells[name][figure], 100) for figure in list(FRACTIONS)[:2])
            for name in names
        ]
        mean = fmean(fmean(cell["image_auroc"]) for cell in cells.values())
        fit = fmean(fmean(cell["fit_seconds"]) for cell in cells.values())
        speed = fmean(fmean(cell["images_per_second"]) for cell in cells.values())
        rows.append([method, *aurocs, f"{100 * mean:.1f}", f"{fit:.1f}", f"{speed:.0f}"])
    return table(["method", *names, "mean image AUROC", "fit s", "images/s"], rows)


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows = [
        [
            method,
            name,
            str(len(cell["image_auroc"])),
            *(spread(cell[figure], 100) for figure in FRACTIONS),
            f"{fmean(cell['fit_seconds']):.1f}",
            f"{fmean(cell['images_per_second']):.0f}",
            f"{max(cell['peak_memory_mb']):.0f}",
            f"{cell['trainable_parameters'][0]:.0f}",
        ]
        for method in METHODS
        for name in sets(Path("DIR"))
        for cell in [of_all_seeds(results, name, method)]
    ]
    titles = ["method", "set", "seeds", *FRACTIONS.values(), "fit s", "images/s", "peak MB"]
    commands = [f"- {method}: `{' '.join(loss)}`" for method, loss in METHODS.items()]
    return "\n".join(
        [
            "# The methods side by side",
            "",
            "Default backbone and settings, in per cent: mean ± sample standard deviation over",
            "seeds (their number is in the second table). A seed determines weights, target,",
            "batches, channels and memory banks, but not the data. The seed does not change",
            f"{' and '.join(DRAWS_NOTHING)}. Features come from the cache, so fit s is the time of",
            "the fit alone, including the choice of the number of steps if any. images/s:",
            "backbone, projector, objective and maps, from images in memory. Peak MB is the peak",
            "of the whole process.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.method_table.study --data DIR`, "
            "one thread of a CPU whose other core was busy.",
            "",
            *overview(results),
            "",
            "Image AUROC / pixel AUROC; costs are means over the sets.",
            "",
            *table([*titles, "trained numbers"], rows),
            "",
            "The options of `python -m occ_lab.train` for each row:",
            "",
            *commands,
            "",
        ]
    )


if __name__ == "__main__":
    main()
