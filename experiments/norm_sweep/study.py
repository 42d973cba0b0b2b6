"""AUROC over the norm, both solvers: ``python -m experiments.norm_sweep.study --help``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.whole_runs import CLOSED_FORM
from experiments.trial import TEN_EPOCHS, command_line, record, spread, table, whole_run
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
NORMS = [2.0**power for power in range(-2, 7)]
FEWER = [0.25, 1.0, 4.0, 16.0, 64.0]
SEEDS = (0, 1, 2)
SETS = {
    "transistor": ["dataset=mvtec", "dataset.root=DIR/mvtec_256"],
    "magnetic_tile": ["dataset=magnetic_tile", "dataset.root=DIR/magnetic_tile"],
    **{
        f"cifar10 {name}": [
            "dataset=cifar10",
            "dataset.root=DIR/cifar10_subset",
            f"dataset.category={name}",
        ]
        for name in ("airplane", "cat", "horse")
    },
    **{
        f"mnist {digit}": ["dataset=mnist", "dataset.root=DIR", f"dataset.category={digit}"]
        for digit in (3, 4, 7)
    },
}
GRADIENT = "gradient"
CLOSED = "closed form"
PUBLISHED = {  # image AUROC by norm, Gao et al. 2023
    "published: CIFAR-10": {1: 0.939, 4: 0.940, 8: 0.941, 16: 0.938, 32: 0.913},
    "published: MVTec AD": {1: 0.990, 2: 0.990, 4: 0.972, 8: 0.892},
}


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    wanted = (
        (
            f"{name} | {solver} | {norm:g} | {seed}",
            partial(measured, name, solver, norm, seed, data),
        )
        for name, solver, norm in trials()
        for seed in SEEDS
    )
    results = record(HERE / "results.json", wanted)
    draw(HERE / "norm_sweep.png", results)
    write_whole(HERE / "README.md", report(results))


def measured(name: str, solver: str, norm: float, seed: int, data: Path) -> dict[str, float]:
    """The figures of a set at a norm."""
    solving = CLOSED_FORM if solver == CLOSED else ["loss=norm", "loss.solver=gradient", TEN_EPOCHS]
    asked = [*SETS[name], *solving, f"loss.norm={norm:g}", f"seed={seed}"]
    (figures,) = whole_run(asked, data).values()
    return {m: figures[m] for m in ("image_auroc", "pixel_auroc") if m in figures}


def trials() -> list[tuple[str, str, float]]:
    """Set, solver and norm of each trial: fewer norms by gradient on transistor, and no tiles."""
    semantic = [name for name in SETS if " " in name]
    others = [norm for norm in NORMS if norm not in FEWER]
    wanted = [
        *((name, CLOSED, norm) for name in SETS for norm in NORMS),
        *((name, GRADIENT, norm) for name in ("transistor", *semantic) for norm in FEWER),
        *((name, GRADIENT, norm) for name in semantic for norm in others),
    ]
    return sorted(wanted, key=lambda trial: trial[0].startswith("mnist"))  # the slowest last


def values(
    results: dict[str, Any], name: str, solver: str, norm: float, metric: str
) -> list[float]:
    """A figure over the seeds."""
    keys = (f"{name} | {solver} | {norm:g} | {seed}" for seed in SEEDS)
    return [results[key][metric] for key in keys if key in results and metric in results[key]]


def draw(path: Path, results: dict[str, Any]) -> None:
    """Plot image AUROC over log2(norm), one panel per solver, with the published curves."""
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False}):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, solver in zip(panels, (CLOSED, GRADIENT), strict=True):
            for place, name in enumerate(SETS):
                found = {norm: values(results, name, solver, norm, "image_auroc") for norm in NORMS}
                shown = [norm for norm in NORMS if found[norm]]
                if shown:
                    means = np.array([100 * fmean(found[norm]) for norm in shown])
                    axes.plot(shown, means, "o-", ms=3.5, color=f"C{place}", label=name)
                    low, high = (
                        [100 * extreme(found[norm]) for norm in shown] for extreme in (min, max)
                    )
                    axes.fill_between(shown, low, high, color=f"C{place}", alpha=0.15, lw=0)
            for (name, curve), style in zip(PUBLISHED.items(), ("--", ":"), strict=True):
                axes.plot(
                    list(curve), [100 * v for v in curve.values()], style, color="k", label=name
                )
            axes.set_xscale("log", base=2)
            axes.set(title=solver, xlabel="norm of the target", xticks=NORMS)
            axes.set_xticklabels([f"{norm:g}" for norm in NORMS])
            axes.grid(axis="y", color="#dddddd")
        panels[0].set_ylabel("image AUROC (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        figure.savefig(path, dpi=110)


def report(results: dict[str, Any]) -> str:
    """The page that shows the tables."""
    lines = [
        "# AUROC over the norm",
        "",
        "Default backbone, mean ± sample standard deviation over three seeds, per cent. The",
        "closed form does not depend on the initial weights, so its seeds differ only in the",
        "features that `time=auto` pastes.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.norm_sweep.study --data DIR`.",
        "",
        "![Image AUROC over the norm, both solvers and the published curves](norm_sweep.png)",
        "",
    ]
    for solver in (CLOSED, GRADIENT):
        lines += [f"## Image AUROC, {solver}", ""]
        lines += [*table(["set", *(f"{norm:g}" for norm in NORMS)], rows(results, solver)), ""]
    return "\n".join([*lines, *reading(results)])


def rows(results: dict[str, Any], solver: str) -> list[list[str]]:
    """One row for each set, with its figure at every norm."""
    found = {
        name: [values(results, name, solver, norm, "image_auroc") for norm in NORMS]
        for name in SETS
    }
    return [
        [name, *(spread(each, 100) if each else "" for each in columns)]
        for name, columns in found.items()
        if any(columns)
    ]


def reading(results: dict[str, Any]) -> list[str]:
    """What the figures say about the paper's claim, derived from the figures alone."""
    lines = ["## Comparison with the paper", ""]
    for solver in (CLOSED, GRADIENT):
        known = []
        for name in SETS:
            at_norm = {n: values(results, name, solver, n, "image_auroc") for n in NORMS}
            means = {n: 100 * fmean(found) for n, found in at_norm.items() if found}
            if means:
                known.append((name, *fall(means)))
        if known:
            lines.append(f"- {solver}: " + "; ".join(map(sentence, known)) + ".")
    return [
        *lines,
        "",
        "The paper's curve is flat from norm 1 on and falls at the upper end: on CIFAR-10 between",
        "16 and 32, on MVTec AD from 4 on. By gradient, the CIFAR-10 classes behave in the same",
        "way: a slight rise towards 8 or 16, then the fall. Transistor keeps its AUROC longer than",
        "the published mean over MVTec AD, which has another backbone. The closed form falls",
        "later, and hardly at all on the classes, whose feature vectors it scales to one length.",
        "Below norm 1, neither of them changes. How much of the fall by gradient is an unfinished",
        "training, and what the rest is: [norm_length](../norm_length/README.md).",
        "",
    ]


def fall(means: dict[float, float]) -> tuple[float, float, str]:
    """The best norm, its figure, and the behaviour at larger norms, in words."""
    best = max(means, key=means.__getitem__)
    lost = [norm for norm in means if norm > best and means[norm] < means[best] - 1]
    if lost:
        return best, means[best], f"a point lost at {min(lost):g}"
    return best, means[best], f"no point lost up to {max(means):g}"


def sentence(known: Sequence[Any]) -> str:
    """The result of one set in words."""
    name, best, figure, end = known
    return f"{name} is best at norm {best:g} ({figure:.1f}), {end}"


if __name__ == "__main__":
    main()
