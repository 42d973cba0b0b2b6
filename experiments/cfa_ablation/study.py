"""Table 5 of CFA: the effect of its parts; ``python -m experiments.cfa_ablation.study --help``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.whole_runs import job_of
from experiments.trial import (
    LEVELS_AS_THEY_ARE,
    aurocs,
    command_line,
    record,
    sets,
    spread,
    table,
    trial,
)
from occ_lab.engine.single_fit import fit_without
from occ_lab.objectives.cfa import CFA
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
VARIANTS = {
    "no adaptation": ["loss.attract=false", "loss.repel=false"],
    "attract only": ["loss.repel=false"],
    "attract and repel": [],
}
LONG = ("no adaptation", "attract and repel")  # the second term was zero: the third is identical
NAMES = ("transistor", "brick", "grass", "gravel", "magnetic_tile")
LIMITED = {"magnetic_tile": ["dataset.train_limit=50"]}
# Neighbours are selected in bfloat16, and their distances computed in full precision.
FAST = ["loss.fit.epochs=1", "loss.half_selection=true"]
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC"}


def main() -> None:
    """Run the variants that are not recorded yet, then write the page."""
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()
    keep_freed_memory()
    trials = cases(arguments.data, arguments.seeds)
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def cases(data: Path, seeds: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The trials by key: 30 epochs on transistor, then one epoch on every set, seed by seed."""
    published = ["loss=cfa", LEVELS_AS_THEY_ARE]
    every = sets(data)
    for variant in LONG:
        chosen = [*every["transistor"], *published, "loss.fit.epochs=30", *VARIANTS[variant]]
        yield variant, partial(trial, chosen)
    for seed in range(seeds):
        for name in NAMES:
            for variant, overrides in VARIANTS.items():
                chosen = [*every[name], *LIMITED.get(name, []), *published, *overrides]
                yield (
                    key(name, variant, seed),
                    partial(after_one_epoch, [*chosen, *FAST, f"seed={seed}"]),
                )


def key(name: str, variant: str, seed: int) -> str:
    """The key of a trial of one epoch in results.json."""
    return f"{name} | {variant} | {seed}"


def after_one_epoch(overrides: list[str]) -> dict[str, float]:
    """The figures after one epoch, and the largest fraction of distances that repelled."""
    job = job_of(overrides)
    member = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
    objective = member.detector.objective
    assert isinstance(objective, CFA)
    repelled = float(objective.most_repelled)
    return {**aurocs(member.detector, member.data), "repelled": repelled}


def report(results: dict[str, Any]) -> str:
    """The page that shows the ablation and when the second term becomes active."""
    rows = [
        [
            name,
            *(f"{100 * r[m]:.1f}" for m in ("image_auroc", "pixel_auroc", "pixel_aupro")),
            f"{r['fit_seconds']:.0f}",
            f"{r['peak_memory_mb']:.0f}",
        ]
        for name, r in ((variant, results[variant]) for variant in LONG)
    ]
    curves = results["attract and repel"]["curves"]
    epochs = len(curves["loss"])
    first = next((i for i, fraction in enumerate(curves["repelled"], 1) if fraction > 0), None)
    above = next((i for i, r in enumerate(curves["radius"], 1) if r**2 > 0.1), None)
    epochs_shown = sorted({1, 2, 5, 10, 20, epochs} & set(range(1, len(curves["radius"]) + 1)))
    return "\n".join(
        [
            "# The effect of attraction and repulsion",
            "",
            "Table 5 of Lee et al. 2022, default backbone, levels as published",
            "(`loss.unit_rms=false`), in per cent.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.cfa_ablation.study --data DIR`.",
            "",
            *seeds_text(results),
            f"## Transistor, {epochs} epochs",
            "",
            "Seed 0, with other work on the machine, so seconds are approximate.",
            "",
            *table(["variant", "image AUROC", "pixel AUROC", "AUPRO", "fit s", "peak MB"], rows),
            "",
            "Nothing repelled in any step, so that attract only is the same training: the second",
            "term and its gradient are zero. It was not run at this length.",
            "",
            "## When the second term becomes active",
            "",
            "It is zero until one of the centres after the k nearest lies within r² − α of a",
            "feature",
            "(squared distances, α = 0.1). The learned r starts at 1e-5; r² exceeds α "
            f"{in_epoch(above)},",
            f"and a distance repels for the first time {in_epoch(first)}.",
            "",
            *table(
                ["epoch", "loss", "r", "fraction of distances that repel"],
                [
                    [
                        str(epoch),
                        f"{curves['loss'][epoch - 1]:.4g}",
                        f"{curves['radius'][epoch - 1]:.4f}",
                        f"{curves['repelled'][epoch - 1]:.4f}",
                    ]
                    for epoch in epochs_shown
                ],
            ),
            "",
        ]
    )


def seeds_text(results: dict[str, Any]) -> list[str]:
    """The three variants on every set after one epoch."""
    rows, most = [], 0.0
    for name in NAMES:
        for variant in VARIANTS:
            found = [r for k, r in results.items() if k.startswith(f"{name} | {variant} | ")]
            if found:
                most = max(most, *(each["repelled"] for each in found))
                cells = [spread([each[figure] for each in found], 100) for figure in FIGURES]
                rows.append([name, variant, str(len(found)), *cells])
    return [
        "## All sets, one epoch",
        "",
        "Mean ± sample standard deviation where there are several seeds; neighbours are selected",
        "in bfloat16 (`loss.half_selection=true`). Of magnetic tiles, 50 images are trained on",
        "(`dataset.train_limit=50`).",
        "",
        *table(["set", "variant", "seeds", *FIGURES.values()], rows),
        "",
        f"The largest fraction of distances that repelled in any step of any run: {most:.4f}.",
        "",
    ]


def in_epoch(number: int | None) -> str:
    """The first epoch of an event, in words."""
    return "in none of these epochs" if number is None else f"in epoch {number}"


if __name__ == "__main__":
    main()
