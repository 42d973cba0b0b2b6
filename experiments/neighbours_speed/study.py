"""The speed of nearest neighbours: ``python -m experiments.neighbours_speed.study --help``.

The plain form computes the distances of a few features to all vectors of the bank, and takes the
smallest. Ours finds candidates by products, in float32 or in bfloat16, and computes the distances
to these alone.
"""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.__main__ import machine
from benchmarks.whole_runs import fitted, least_seconds
from experiments.trial import command_line, sets, table
from occ_lab.objectives.knn import KNN
from occ_lab.objectives.neighbours import nearest_distances, rows
from occ_lab.objectives.selection import Bounds, Order
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
NAMES = ("transistor", "brick", "magnetic_tile")
COUNTS = (1, 9)
IMAGES = 4
ROWS = 1024  # features at a time of the plain form, the fastest of 256, 1024 and 4096 here
FORMS = {"in float32": False, "in bfloat16 first": True}


def main() -> None:
    """Time every form in turn, and write results.json and README.md."""
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="per form; default: %(default)s")
    asked = parser.parse_args()
    keep_freed_memory()
    every = sets(asked.data)
    results: dict[str, Any] = {"machine": machine(), "sets": {}}
    for name in NAMES:
        results["sets"][name] = measured([*every[name], "loss=knn"], asked.seconds)
    write_whole(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(HERE / "README.md", report(results))


def measured(overrides: list[str], seconds: float) -> dict[str, Any]:
    """Milliseconds an image of every form, and how they differ, by the number of neighbours."""
    detector, images = fitted(overrides, IMAGES)
    knn: Any = detector.objective
    assert isinstance(knn, KNN)
    found: dict[str, Any] = {"vectors": len(knn.bank), "channels": knn.bank.shape[1]}
    with torch.inference_mode():
        features = rows(detector.projector(detector.backbone(images))).contiguous()
        for count in COUNTS:
            forms = {
                "plain": partial(plain, features, knn.bank, count),
                **{
                    name: partial(nearest_distances, features, knn.bank, count, half=half)
                    for name, half in FORMS.items()
                },
            }
            times = least_seconds(list(forms.values()), seconds)
            exact = forms["plain"]()
            found[str(count)] = {
                "ms": {name: 1000 * t / IMAGES for name, t in zip(forms, times, strict=True)},
                "differences": {name: apart(forms[name](), exact) for name in FORMS},
                "certain": certain(features, knn.bank, count),
            }
    return found


def plain(features: Tensor, bank: Tensor, count: int) -> Tensor:
    """Squared distances ``[N, count]`` by all distances to the bank."""
    parts = [
        torch.cdist(part, bank, compute_mode="use_mm_for_euclid_dist").topk(
            count, dim=1, largest=False
        )
        for part in torch.split(features, ROWS)
    ]
    return torch.cat([values for values, _ in parts]).square()


def apart(found: Tensor, other: Tensor) -> float:
    """The largest difference of lengths, as a fraction of their mean."""
    lengths, others = found.sqrt(), other.sqrt()
    return float((lengths - others).abs().max() / others.mean())


def certain(features: Tensor, bank: Tensor, count: int) -> float:
    """The fraction of features whose neighbours bfloat16 is certain of."""
    bounds = Bounds(Order(bank))
    parts = [bounds.nearest(part, count)[2] for part in torch.split(features, ROWS)]
    return float(torch.cat(parts).float().mean())


def report(results: dict[str, Any]) -> str:
    """The page."""
    lines = []
    for name, found in results["sets"].items():
        for count in map(str, COUNTS):
            times, apart = found[count]["ms"], found[count]["differences"]
            lines.append(
                [
                    name,
                    count,
                    *(f"{ms:.0f}" for ms in times.values()),
                    *(f"{times['plain'] / times[form]:.1f}" for form in FORMS),
                    f"{100 * found[count]['certain']:.1f} %",
                    f"{max(apart.values()):.0e}",
                ]
            )
    any_set = next(iter(results["sets"].values()))
    titles = [
        *("set", "neighbours", "plain, ms an image", *(f"{form}, ms" for form in FORMS)),
        *(f"{form}, times as fast" for form in FORMS),
        *("certain in bfloat16", "largest difference to plain"),
    ]
    return "\n".join(
        [
            "# The speed of nearest neighbours",
            "",
            f"`loss=knn`: the distances of every position of {IMAGES} test images to their nearest",
            f"vectors of a bank of {any_set['vectors']} vectors of {any_set['channels']} channels.",
            "Plain: `torch.cdist` by a matrix product, then `topk`, for a part of the positions at",
            "a time. Ours finds candidates by products and computes the distances to these alone.",
            "In bfloat16, the products give lower bounds of distances, which show for which",
            "positions the neighbours are certain; those of the others are found in float32. All",
            "forms in turn, the minimum of each. Differences are fractions of the mean distance,",
            "and come from rounding in the plain form.",
            "",
            f"Recorded on {date.today()} by "
            "`python -m experiments.neighbours_speed.study --data DIR`,",
            f"{results['machine']['threads']} thread(s) of {results['machine']['processor']}.",
            "",
            *table(titles, lines),
            "",
            "By default, bfloat16 is used on x86 processors that have instructions for it",
            "(`occ_lab.objectives.selection.half_pays`).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
