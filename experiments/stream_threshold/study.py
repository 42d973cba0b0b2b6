"""The threshold of a stream: ``python -m experiments.stream_threshold.study --help``.

The orders of the tiles were not examined before the rules were fixed. The rules were chosen with
simulations like those here and with one stream of tiles in another order, whose anomalous tiles
showed the cost of a threshold that is not scaled.
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
from occ_lab.engine.live import Stream
from occ_lab.engine.reference import Reference
from occ_lab.engine.stream_plan import StreamPlan
from occ_lab.metrics.calibration import Calibration, fewest
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
RATES = (0.01, 0.05)
ORDERS = 2
STARTS = (0, 400)  # normal tiles before the first anomalous one
FALLS = (0.0, 2.0)
DEFECTS = 50  # anomalous tiles among the normal ones
DRAWS = 10  # of simulated scores
SCORES = 5000  # per draw
WINDOW = 200
PARTS = 5
INTRODUCTION = f"""# The threshold of a stream

`occ_lab.stream` does not learn from an image that it rejects. Which scores should its p-values
refer to?

- **first**: the scores of the first images of the stream, whether or not they are accepted; they
  are not changed afterwards.
- **first, scaled**: the same scores, scaled down with the median of accepted scores as the detector
  learns. This is the rule of `occ_lab.stream` (`occ_lab.engine.reference`).
- **latest accepted**: the latest {WINDOW} scores of accepted images. Until 2026-11-26, this was the
  rule with `refuse` above 0.

## Simulation

{DRAWS} streams of {SCORES:,} scores of normal images, log-normal with a standard deviation of 0.2.
They are stationary, or fall like those of a detector that learns: the i-th is multiplied by
1 + 2/√i. The fraction rejected in each fifth of the stream, per cent, mean of all streams:
"""
WHY = """
An accepted score is never above the threshold. If accepted scores replace earlier ones, the
threshold can only fall, and more and more normal images are rejected. Scaling keeps the rate when
scores fall. When they do not, it occasionally lowers the threshold by chance and never raises it,
which costs some false positives.

## Magnetic tiles

"""
TILES = f"""All normal magnetic tiles in {ORDERS} random orders, with {DEFECTS} anomalous ones among
them, anywhere or only after the first {STARTS[-1]} images, which determine the threshold. A new
default detector learns from the accepted images. For the images with a decision:
"""
END = """
Without a run, the first images of a stream have to be normal. If one in twenty is anomalous, a
threshold at a lower rate lies among the anomalous ones, as with any rule that does not know the
labels. At 1 %, an image is rejected if at most one of the 200 scores is as high, so the threshold
depends on the two most unusual of 200 normal tiles. A run that was calibrated on images known to be
normal avoids both problems: start from one (`run=DIR`), or set the threshold again
(`occ_lab.calibrate`).
"""


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    simulated = (
        (f"simulated | {rule} | {rate} | {fall}", partial(simulate, rule, rate, fall))
        for fall in FALLS
        for rule in RULES
        for rate in RATES
    )
    tiles = (
        (
            f"tiles | {start} | {order} | {rate}",
            partial(streamed, data / "magnetic_tile", start, order, rate),
        )
        for start in STARTS
        for order in range(ORDERS)
        for rate in RATES
    )
    results = record(HERE / "results.json", [*simulated, *tiles])
    write_whole(HERE / "README.md", report(results))


def first(scores: Sequence[float], rate: float, scaled: bool = False) -> list[bool]:
    """Which scores are rejected, judged by the scores of the first images."""
    reference = Reference(WINDOW, rate, scaled=scaled)
    rejected = []
    for score in scores:
        rejected.append(reference.decided and reference.p_value(score) <= rate)
        reference.add(score, score, accepted=not rejected[-1])
    return rejected


def latest_accepted(scores: Sequence[float], rate: float) -> list[bool]:
    """Which scores are rejected, judged by the scores of the latest accepted images."""
    kept: list[float] = []
    rejected = []
    for score in scores:
        known = torch.tensor(kept, dtype=torch.float64)
        p_value = float(Calibration.of(known, known).p_values(torch.tensor([score]).double()))
        rejected.append(len(kept) >= fewest(rate) and p_value <= rate)
        if not rejected[-1]:
            kept = [*kept, score][-WINDOW:]
    return rejected


RULES = {
    "first": first,
    "first, scaled": partial(first, scaled=True),
    "latest accepted": latest_accepted,
}


def simulate(rule: str, rate: float, fall: float) -> list[float]:
    """The fraction rejected in each part of a stream."""
    found = []
    for draw in range(DRAWS):
        scores = np.random.default_rng(draw).lognormal(0, 0.2, SCORES)
        scores *= 1 + fall / np.sqrt(np.arange(1, SCORES + 1))
        parts = np.array_split(np.array(RULES[rule](scores.tolist(), rate)), PARTS)
        found.append([float(part.mean()) for part in parts])
    return [fmean(values) for values in zip(*found, strict=True)]


def streamed(folder: Path, start: int, order: int, rate: float) -> dict[str, float]:
    """The fractions rejected in a stream of tiles."""
    random = np.random.default_rng(order)
    normal = sorted((folder / "MT_Free").glob("*.jpg"))
    anomalous = sorted(path for path in folder.glob("MT_*/*.jpg") if path.parent.name != "MT_Free")
    chosen = random.choice(len(anomalous), DEFECTS, replace=False).tolist()
    paths = [*normal, *(anomalous[index] for index in chosen)]
    stream = Stream(Detector(create("efficientnet_lite0")), StreamPlan(overkill=rate))
    decisions: dict[bool, list[bool]] = {True: [], False: []}
    ordered = random.permutation(len(paths)).tolist()
    early = [index for index in ordered if index < len(normal)][:start]
    for index in [*early, *(index for index in ordered if index not in early)]:
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
        [
            "fall" if fall else "alike",
            f"{100 * rate:g}",
            rule,
            *(f"{100 * each:.1f}" for each in results[f"simulated | {rule} | {rate} | {fall}"]),
        ]
        for fall in FALLS
        for rate in RATES
        for rule in RULES
    ]
    tiles = [
        [
            str(start),
            f"{100 * rate:g}",
            str(order),
            *(
                text
                for kind in ("normal", "anomalous")
                for text in (f"{found[kind]}", f"{100 * found[f'{kind}_rejected']:.1f}")
            ),
        ]
        for start in STARTS
        for rate in RATES
        for order in range(ORDERS)
        if (found := results[f"tiles | {start} | {order} | {rate}"])
    ]
    titles = [
        "normal first",
        "requested (%)",
        "order",
        "normal",
        "rejected (%)",
        "anomalous",
        "rejected (%)",
    ]
    command = "OMP_NUM_THREADS=1 python -m experiments.stream_threshold.study --data DIR"
    return "\n".join(
        [
            INTRODUCTION,
            *table(["scores", "requested (%)", "reference", *fifths], simulated),
            WHY + TILES,
            *table(titles, tiles),
            END,
            f"Recorded by `{command}`.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
