"""The threshold of a stream: ``python -m experiments.stream_threshold.study --help``.

Settled before any of its results was seen: tiles, orders, rates, simulated scores. The rule itself
was chosen before, by simulations like these and by one stream of normal tiles and one of normal
transistors, without a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from experiments.trial import command_line, record, table
from occ_lab.backbones import create
from occ_lab.detector import Detector
from occ_lab.engine.live import Stream, StreamPlan
from occ_lab.engine.reference import Reference
from occ_lab.metrics.calibration import Calibration, fewest
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
RATES = (0.01, 0.05)
ORDERS = 2
DEFECTS = 50  # anomalous tiles among the normal ones
DRAWS = 10  # of simulated scores
SCORES = 5000  # in a draw
WINDOW = 200
PARTS = 5
INTRODUCTION = f"""# The threshold of a stream

`occ_lab.stream` does not learn from an image that it rejects. Which scores should its p-values
refer to?

- **first**: those of the first images of the stream, whether or not they are accepted, which then
  stay (`occ_lab.engine.reference`).
- **latest accepted**: the latest {WINDOW} scores of images that were accepted. Until 2026-11-26,
  this was done with `refuse` above 0.

## Simulated

{DRAWS} streams of {SCORES:,} scores of normal images, log-normal with a standard deviation of 0.2.
The fraction that is rejected in each fifth of the stream, per cent, mean of all streams:
"""
WHY = """
An accepted score is never above the threshold. Where such scores take the place of earlier ones,
the threshold only falls, and more and more normal images are rejected.

## Magnetic tiles

"""
TILES = f"""All normal magnetic tiles in {ORDERS} random orders, with {DEFECTS} anomalous ones among
them; a new default detector learns from what it accepts. Of the images with a decision:
"""
END = """
Scores of normal images fall while the detector learns, so that fewer are rejected than asked for,
and defects are missed that a threshold of the present detector would find. `occ_lab.calibrate` sets
one on the run directory of a stream.
"""


def main() -> None:
    """Run what is not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    simulated = (
        (f"simulated | {rule} | {rate}", partial(simulate, rule, rate))
        for rule in RULES
        for rate in RATES
    )
    tiles = (
        (f"tiles | {order} | {rate}", partial(streamed, data / "magnetic_tile", order, rate))
        for order in range(ORDERS)
        for rate in RATES
    )
    results = record(HERE / "results.json", [*simulated, *tiles])
    write_whole(HERE / "README.md", report(results))


def first(scores: Sequence[float], rate: float) -> list[bool]:
    """Which scores are rejected by those of the first images."""
    reference = Reference(WINDOW, rate)
    rejected = []
    for score in scores:
        rejected.append(reference.decided and reference.p_value(score) <= rate)
        reference.add(score, score)
    return rejected


def latest_accepted(scores: Sequence[float], rate: float) -> list[bool]:
    """Which scores are rejected by those of the latest images that were accepted."""
    kept: list[float] = []
    rejected = []
    for score in scores:
        known = torch.tensor(kept, dtype=torch.float64)
        p_value = float(Calibration.of(known, known).p_values(torch.tensor([score]).double()))
        rejected.append(len(kept) >= fewest(rate) and p_value <= rate)
        if not rejected[-1]:
            kept = [*kept, score][-WINDOW:]
    return rejected


RULES = {"first": first, "latest accepted": latest_accepted}


def simulate(rule: str, rate: float) -> list[float]:
    """The fraction that is rejected in each part of a stream."""
    found = []
    for draw in range(DRAWS):
        scores = np.random.default_rng(draw).lognormal(0, 0.2, SCORES).tolist()
        parts = np.array_split(np.array(RULES[rule](scores, rate)), PARTS)
        found.append([float(part.mean()) for part in parts])
    return [fmean(values) for values in zip(*found, strict=True)]


def streamed(folder: Path, order: int, rate: float) -> dict[str, float]:
    """What is rejected of a stream of tiles."""
    random = np.random.default_rng(order)
    normal = sorted((folder / "MT_Free").glob("*.jpg"))
    anomalous = sorted(path for path in folder.glob("MT_*/*.jpg") if path.parent.name != "MT_Free")
    chosen = random.choice(len(anomalous), DEFECTS, replace=False).tolist()
    paths = [*normal, *(anomalous[index] for index in chosen)]
    stream = Stream(Detector(create("efficientnet_lite0")), StreamPlan(overkill=rate))
    decisions: dict[bool, list[bool]] = {True: [], False: []}
    for index in random.permutation(len(paths)).tolist():
        verdict = stream.push(paths[index], maps=False)
        if verdict.decision is not None:
            decisions[index < len(normal)].append(verdict.decision == "reject")
    return {
        "normal": len(decisions[True]),
        "normal_rejected": fmean(decisions[True]),
        "anomalous": len(decisions[False]),
        "anomalous_rejected": fmean(decisions[False]),
    }


def report(results: dict[str, Any]) -> str:
    """The page, as Markdown."""
    fifths = ["first fifth", "second", "third", "fourth", "last"]
    simulated = [
        [f"{100 * rate:g}", rule, *(f"{100 * each:.1f}" for each in found)]
        for rate in RATES
        for rule in RULES
        if (found := results[f"simulated | {rule} | {rate}"])
    ]
    tiles = [
        [
            f"{100 * rate:g}",
            str(order),
            *(
                text
                for kind in ("normal", "anomalous")
                for text in (f"{found[kind]}", f"{100 * found[f'{kind}_rejected']:.1f}")
            ),
        ]
        for rate in RATES
        for order in range(ORDERS)
        if (found := results[f"tiles | {order} | {rate}"])
    ]
    titles = ["asked (%)", "order", "normal", "rejected (%)", "anomalous", "rejected (%)"]
    command = "OMP_NUM_THREADS=1 python -m experiments.stream_threshold.study --data DIR"
    return "\n".join(
        [
            INTRODUCTION,
            *table(["asked (%)", "reference", *fifths], simulated),
            WHY + TILES,
            *table(titles, tiles),
            END,
            f"Recorded by `{command}`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
