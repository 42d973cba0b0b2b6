"""Table 6 of CFA: the cost of compression; ``python -m experiments.cfa_compression.study``."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from experiments.trial import LEVELS_AS_THEY_ARE, command_line, sets, table, trial
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
FACTORS = (1, 2, 4, 8)


def main() -> None:
    """Run the variants that are not recorded yet, and write results.json and README.md."""
    parser = command_line(__doc__)
    parser.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    arguments = parser.parse_args()
    keep_freed_memory()
    path = HERE / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    dataset = sets(arguments.data)["transistor"]
    for bank in FACTORS:
        for projector in FACTORS:
            key = f"{bank} {projector}"
            if key in results:
                continue
            found = trial(
                [
                    *dataset,
                    "loss=cfa",
                    LEVELS_AS_THEY_ARE,
                    f"loss.fit.epochs={arguments.epochs}",
                    f"loss.bank_compression={bank}",
                    f"projector.compression={projector}",
                ]
            )
            results[key] = {name: value for name, value in found.items() if name != "curves"}
            results[key]["epochs"] = arguments.epochs
            print(key, results[key], flush=True)
            write_whole(path, json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def report(results: dict[str, Any]) -> str:
    """The page with one table for each figure."""
    grids = {
        "Scoring, images a second": ("images_per_second", 1, 0),
        "Pixel AUROC, per cent": ("pixel_auroc", 100, 1),
        "Image AUROC, per cent": ("image_auroc", 100, 1),
        "Fit, seconds (including the memory bank and its k-means)": ("fit_seconds", 1, 1),
    }
    epochs = results["1 1"]["epochs"]
    lines = [
        "# The cost of compression",
        "",
        "Table 6 of Lee et al. 2022 on the transistor category (256 px data), default backbone,",
        f"{epochs} epoch(s), seed 0: γ_c compresses the memory bank, γ_d the features.",
        "",
        f"Recorded {date.today()} by `python -m experiments.cfa_compression.study --data DIR "
        f"--epochs {epochs}`,",
        "2 CPU cores.",
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
        lines += ["", f"## {title}", "", *table(["", *heads], rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
