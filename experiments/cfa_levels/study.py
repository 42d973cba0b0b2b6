"""CFA on unscaled levels and on unit RMS: ``python -m experiments.cfa_levels.study --help``."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.trial import TEXTURES, command_line, record, spread, table, whole_run
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
SETS = {
    "transistor": ["dataset=mvtec", "dataset.root=DIR/mvtec_256"],
    **{name: ["dataset=textures", f"dataset.category={name}"] for name in TEXTURES},
    "magnetic_tile": ["dataset=magnetic_tile", "dataset.root=DIR/magnetic_tile"],
}
SEEDS = {**dict.fromkeys(SETS, range(5)), "magnetic_tile": range(3)}  # tiles take minutes per run
VARIANTS = {"as they are": "loss.unit_rms=false", "unit RMS": "loss.unit_rms=true"}
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_aupro": "AUPRO"}


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    trials = (
        (
            key(name, variant, seed),
            partial(
                measured,
                [*dataset, "loss=cfa", "loss.fit.epochs=1", override, f"seed={seed}"],
                data,
            ),
        )
        for name, dataset in SETS.items()
        for seed in SEEDS[name]
        for variant, override in VARIANTS.items()
    )
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def key(name: str, variant: str, seed: int) -> str:
    """The key of a trial in results.json."""
    return f"{name} | {variant} | {seed}"


def measured(overrides: list[str], data: Path) -> dict[str, float]:
    """The figures of the only task."""
    (figures,) = whole_run(overrides, data).values()
    return {figure: figures[figure] for figure in FIGURES}


def report(results: dict[str, Any]) -> str:
    """The page that shows the table."""
    rows = []
    gains: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for name in SETS:
        means = []
        for variant in VARIANTS:
            found = [results[key(name, variant, seed)] for seed in SEEDS[name]]
            columns = {figure: [each[figure] for each in found] for figure in FIGURES}
            means.append({figure: 100 * fmean(values) for figure, values in columns.items()})
            cells = [spread(values, 100) for values in columns.values()]
            rows.append([name, variant, str(len(found)), *cells])
        before, after = means
        for figure in FIGURES:
            gains[figure].append(after[figure] - before[figure])
    return "\n".join(
        [
            "# The scale of the levels in CFA",
            "",
            "`loss=cfa` on the unscaled levels of the default backbone (*as they are*,",
            "`loss.unit_rms=false`), and with each level scaled to a root mean square of 1 over",
            "the training set (`loss.unit_rms=true`); one epoch. Mean ± sample standard deviation",
            "over seeds, in per cent. A seed determines weights, batches and memory bank, but not",
            "the data.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.cfa_levels.study --data DIR`.",
            "",
            *table(["set", "levels", "seeds", *FIGURES.values()], rows),
            "",
            "The gain from unit RMS over the sets, in percentage points:",
            "",
            *table(
                ["", "mean", "minimum", "maximum"],
                [
                    [title, *(f"{pick(gains[figure]):+.1f}" for pick in (fmean, min, max))]
                    for figure, title in FIGURES.items()
                ],
            ),
            "",
            "These are figures of labelled test images. They confirm a choice that was made for",
            "all sets on the transistor alone.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
