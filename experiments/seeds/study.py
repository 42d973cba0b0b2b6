"""How much results differ between seeds: ``python -m experiments.seeds.study``.

It does not run anything itself but uses the runs of the table of methods.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from statistics import stdev
from typing import Any

from experiments.method_table.study import (
    DRAWS_NOTHING,
    FRACTIONS,
    METHODS,
    of_all_seeds,
)
from experiments.method_table.study import HERE as METHOD_TABLE
from experiments.trial import sets, table
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent


def main() -> None:
    """Compute the deviations of the table's runs, and write the page."""
    runs = json.loads((METHOD_TABLE / "results.json").read_text(encoding="utf-8"))
    results = {
        f"{name} | {method}": {
            "seeds": len(found["image_auroc"]),
            **{figure: 100 * stdev(found[figure]) for figure in FRACTIONS},
        }
        for name in sets(Path("DIR"))
        for method in METHODS
        if method not in DRAWS_NOTHING
        for found in [of_all_seeds(runs, name, method)]
        if len(found["image_auroc"]) > 1
    }
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def report(results: dict[str, Any]) -> str:
    """The page that shows the deviations."""
    rows = [
        [
            *name.split(" | "),
            str(deviations["seeds"]),
            *(f"{deviations[figure]:.2f}" for figure in FRACTIONS),
        ]
        for name, deviations in results.items()
    ]
    widest = {f: max(deviations[f] for deviations in results.values()) for f in FRACTIONS}
    from_on = ", ".join(f"{title} {2.8 * widest[f]:.1f}" for f, title in FRACTIONS.items())
    return "\n".join(
        [
            "# Seeds",
            "",
            "Sample standard deviations over seeds, in percentage points, of the runs in the",
            "[table of methods](../method_table/README.md). A seed determines weights, target,",
            "batches, channels and memory bank, but not the data. The seed does not change",
            f"{' and '.join(DRAWS_NOTHING)}.",
            "",
            f"Recorded until {date.today()} by `python -m experiments.seeds.study`.",
            "",
            *table(["set", "method", "seeds", *FRACTIONS.values()], rows),
            "",
            "Two single runs differ by chance by less than 1.96 · √2 = 2.8 standard deviations in",
            "95 of 100 cases, if the figures are normally distributed. By the largest deviation",
            "above, a difference between single runs is significant if it exceeds this number of",
            f"percentage points: {from_on}. For other pairs of methods a smaller difference",
            "suffices, and the mean of n seeds needs a difference smaller by a factor √n. This",
            "does not account for the choice of the test images; see the bootstrap intervals of",
            "`python -m occ_lab.report` for that.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
