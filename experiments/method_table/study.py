"""Every method on the structured sets: ``python -m experiments.method_table.study --help``."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.whole_runs import CLOSED_FORM
from experiments.trial import command_line, sets, spread, table, trial
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
CFA_EPOCHS = 1  # of the published 30, which take hours on two cores


METHODS = {
    "norm (gradient)": ["loss=norm", "loss.solver=gradient"],
    "norm (closed form)": CLOSED_FORM,
    f"CFA ({CFA_EPOCHS} epoch)": ["loss=cfa", f"loss.fit.epochs={CFA_EPOCHS}"],
    "CFA, no adaptation": ["loss=cfa", "loss.attract=false", "loss.repel=false"],
    "Deep SVDD": ["loss=svdd"],
}
SHARES = ("image_auroc", "pixel_auroc", "pixel_aupro")
COSTS = ("fit_seconds", "images_per_second", "peak_memory_mb", "trainable_parameters")


def main() -> None:
    """Run what is not recorded yet; write results.json after every trial, README.md at the end."""
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    keep_freed_memory()
    path = HERE / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for name, dataset in sets(arguments.data).items():
        for method, overrides in METHODS.items():
            for seed in arguments.seeds:
                key = f"{name} | {method} | {seed}"
                if key in results:
                    continue
                found = trial([*dataset, *overrides, f"seed={seed}"])
                results[key] = {figure: found[figure] for figure in (*SHARES, *COSTS)}
                print(key, {k: round(v, 3) for k, v in results[key].items()}, flush=True)
                write_whole(path, json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def report(results: dict[str, Any]) -> str:
    """The page that shows the table."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    for key, figures in results.items():
        name, method, _ = key.split(" | ")
        for figure, value in figures.items():
            cells.setdefault((method, name), {}).setdefault(figure, []).append(value)
    titles = ["method", "set", "image AUROC", "pixel AUROC", "AUPRO", "fit s", "images/s"]
    rows = [
        [
            method,
            name,
            *(spread(figures[share], 100) for share in SHARES),
            f"{fmean(figures['fit_seconds']):.1f}",
            f"{fmean(figures['images_per_second']):.0f}",
            f"{max(figures['peak_memory_mb']):.0f}",
            f"{figures['trainable_parameters'][0]:.0f}",
        ]
        for (method, name), figures in sorted(cells.items(), key=order)
    ]
    return "\n".join(
        [
            "# The methods side by side",
            "",
            "Default backbone and settings, mean ± standard deviation over seeds (0, 1, 2), in per",
            "cent; features from the cache, so that fit s is the fit alone. images/s: backbone,",
            "projector, objective and maps, from images in memory. Peak MB is the whole process's.",
            "The seed draws weights, target and batches, not the data.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.method_table.study --data DIR`, "
            "one thread of a CPU whose other core was busy.",
            "",
            *table([*titles, "peak MB", "trained numbers"], rows),
            "",
        ]
    )


def order(cell: tuple[tuple[str, str], Any]) -> tuple[int, str]:
    """Methods as they stand in `METHODS`."""
    (method, name), _ = cell
    return list(METHODS).index(method), name


if __name__ == "__main__":
    main()
