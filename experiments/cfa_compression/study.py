"""Table 6 of CFA: the cost of compression; ``python -m experiments.cfa_compression.study``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from experiments.trial import LEVELS_AS_THEY_ARE, command_line, record, sets, table, trial
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
FACTORS = (1, 2, 4, 8)
LONG = 30  # epochs, as published
LONG_CASES = ((8, 8), (4, 4))  # γ_c and γ_d, the fastest first
SPEED = ("images_per_second", "fit_seconds")
# The same setting without compression, whose speed was not recorded under the same load.
UNCOMPRESSED = HERE.parent / "cfa_ablation" / "results.json"


def main() -> None:
    """Run the variants that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    write_whole(HERE / "README.md", report(record(HERE / "results.json", cases(data))))


def cases(data: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The trials by key: the whole grid at one epoch, then some at the published length."""
    dataset = sets(data)["transistor"]
    for bank in FACTORS:
        for projector in FACTORS:
            yield f"{bank} {projector}", partial(compressed, dataset, bank, projector, 1)
    for bank, projector in LONG_CASES:
        yield long_key(bank, projector), partial(compressed, dataset, bank, projector, LONG)


def long_key(bank: int, projector: int) -> str:
    """The key of a trial at the published length in results.json."""
    return f"{bank} {projector} | {LONG} epochs"


def compressed(dataset: list[str], bank: int, projector: int, epochs: int) -> dict[str, Any]:
    """The figures of one detector."""
    found = trial(
        [
            *dataset,
            "loss=cfa",
            LEVELS_AS_THEY_ARE,
            f"loss.fit.epochs={epochs}",
            f"loss.bank_compression={bank}",
            f"projector.compression={projector}",
        ]
    )
    return {name: value for name, value in found.items() if name != "curves"} | {"epochs": epochs}


def report(results: dict[str, Any]) -> str:
    """The page with one table for each figure."""
    grids = {
        "Scoring, images a second": ("images_per_second", 1, 0),
        "Pixel AUROC, per cent": ("pixel_auroc", 100, 1),
        "Image AUROC, per cent": ("image_auroc", 100, 1),
        "Fit, seconds (including the memory bank and its k-means)": ("fit_seconds", 1, 1),
    }
    lines = [
        "# The cost of compression",
        "",
        "Table 6 of Lee et al. 2022 on the transistor category (256 px data), default backbone,",
        "levels as published, seed 0: γ_c compresses the memory bank, γ_d the features.",
        "",
        f"Recorded until {date.today()} by "
        "`OMP_NUM_THREADS=1 python -m experiments.cfa_compression.study --data DIR`; one epoch",
        "with two threads, 30 epochs with one.",
        "",
        *long_text(results),
        "## One epoch",
    ]
    for title, (figure, scale, digits) in grids.items():
        rows = [
            [
                f"γ_c = 1/{bank}" if bank > 1 else "γ_c = 1",
                *(f"{scale * results[f'{bank} {d}'][figure]:.{digits}f}" for d in FACTORS),
            ]
            for bank in FACTORS
        ]
        heads = [f"γ_d = 1/{d}" if d > 1 else "γ_d = 1" for d in FACTORS]
        lines += ["", f"### {title}", "", *table(["", *heads], rows)]
    return "\n".join(lines) + "\n"


def long_text(results: dict[str, Any]) -> list[str]:
    """The recorded cases at the published length, and the uncompressed one beside them."""
    whole = json.loads(UNCOMPRESSED.read_text(encoding="utf-8"))["attract and repel"]
    cases = {(1, 1): whole, **{case: results.get(long_key(*case)) for case in LONG_CASES}}
    rows = [
        [
            *("1" if factor == 1 else f"1/{factor}" for factor in case),
            *(f"{100 * found[f]:.1f}" for f in ("image_auroc", "pixel_auroc", "pixel_aupro")),
            *(f"{found[f]:.0f}" if case != (1, 1) else "" for f in SPEED),
        ]
        for case, found in sorted(cases.items())
        if found
    ]
    figures = ["image AUROC", "pixel AUROC", "AUPRO", "images a second", "fit s"]
    return [
        f"## {LONG} epochs, as published",
        "",
        "The uncompressed row is that of [cfa_ablation](../cfa_ablation/README.md).",
        "",
        *table(["γ_c", "γ_d", *figures], rows),
        "",
    ]


if __name__ == "__main__":
    main()
