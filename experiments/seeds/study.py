"""How much of a difference is the seed's: ``python -m experiments.seeds.study --help``."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any

from benchmarks.whole_runs import CLOSED_FORM
from experiments.trial import command_line, record, spread, table, whole_run
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
SEEDS = range(5)
SETS = {
    "transistor": ["dataset=mvtec", "dataset.root=DIR/mvtec_256"],
    "grass": ["dataset=textures", "dataset.category=grass"],
}
METHODS = {
    "norm (gradient)": ["loss=norm", "loss.solver=gradient"],
    "norm (closed form)": CLOSED_FORM,
    "CFA (1 epoch)": ["loss=cfa", "loss.fit.epochs=1"],
    "Deep SVDD": ["loss=svdd"],
    "nearest neighbour": ["loss=knn"],
    "PaDiM": ["loss=padim"],
    "one Gaussian": ["loss=gaussian"],
}
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_aupro": "AUPRO"}


def main() -> None:
    """Run what is not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    # The drawn textures themselves stay: the seed of the method is in question.
    trials = (
        (f"{name} | {method} | {seed}", partial(measured, [*dataset, *loss, f"seed={seed}"], data))
        for name, dataset in SETS.items()
        for method, loss in METHODS.items()
        for seed in SEEDS
    )
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def measured(overrides: list[str], data: Path) -> dict[str, float]:
    """The figures of the one task."""
    (figures,) = whole_run(overrides, data).values()
    return {figure: figures[figure] for figure in FIGURES}


def report(results: dict[str, Any]) -> str:
    """The page that shows the table."""
    rows, widest = [], dict.fromkeys(FIGURES, 0.0)
    for name in SETS:
        for method in METHODS:
            found = [results[key] for s in SEEDS if (key := f"{name} | {method} | {s}") in results]
            if found:
                columns = {figure: [each[figure] for each in found] for figure in FIGURES}
                rows.append([name, method, *(spread(columns[f], 100, 2) for f in FIGURES)])
                widest = {f: max(widest[f], 100 * stdev(columns[f])) for f in FIGURES}
    told = ", ".join(f"{title} {2.8 * widest[f]:.1f}" for f, title in FIGURES.items())
    return "\n".join(
        [
            "# Seeds",
            "",
            "Five seeds of every objective, default backbone, mean ± deviation, per cent. A seed",
            "draws weights, target, batches, channels and memory bank, not the data.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.seeds.study --data DIR`.",
            "",
            *table(["set", "method", *FIGURES.values()], rows),
            "",
            "Two single runs differ by chance by less than 1.96 · √2 = 2.8 standard deviations in",
            "95 of 100 cases, if these are normal. By the largest deviation above, a difference of",
            f"single runs means something from so many points on: {told}.",
            "Between other pairs of methods less is enough, and the mean of n seeds needs √n times",
            "less. What this does not count is the choice of the test images: for that see the",
            "bootstrap intervals of `python -m occ_lab.report`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
