"""Defects among the training images, and forgetting them: ``... study --help`` has the options.

Good transistors with a few anomalous ones among them, as happens to whoever photographs a lot.
Whoever looks at the training images marks the defects as missed; `occ_lab.correct` forgets them.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.trial import command_line, record, table
from occ_lab.config.composition import composed
from occ_lab.config.correct import perform_correct
from occ_lab.config.train import perform_run
from occ_lab.inference.predictor import load
from occ_lab.metrics import ImageAUROC
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
GOOD = 80
COUNTS = (1, 3, 6)  # defects among them
TITLES = ("image AUROC", "missed", "false alarms")
RATE = 0.05  # the false-positive rate to decide at


def main() -> None:
    """Run what is not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    trials = (
        (f"{count} defect{'s' if count > 1 else ''}", partial(measured, count, data))
        for count in COUNTS
    )
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def measured(count: int, data: Path) -> dict[str, Any]:
    """Figures of the run, of the corrected run, and of one that has never seen the defects."""
    source = data / "mvtec_256" / "transistor"
    good = sorted((source / "train" / "good").iterdir())[:GOOD]
    bad = sorted((source / "test").glob("[!g]*/*.png"))
    mixed = bad[:: len(bad) // count][:count]
    tested = [(path, 0) for path in sorted((source / "test" / "good").iterdir())]
    tested += [(path, 1) for path in bad if path not in mixed]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, images in (("mixed", [*good, *mixed]), ("clean", good)):
            (folder / kind).mkdir()
            for path in images:
                shutil.copy(path, folder / kind / f"{path.parent.name}_{path.name}")
            run(folder / kind, folder / f"run_{kind}")
        verdicts = folder / "verdicts.csv"
        with verdicts.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "verdict"])
            for path in mixed:
                marked = folder / "mixed" / f"{path.parent.name}_{path.name}"
                writer.writerow([marked, "missed"])
        given = [f"run='{folder}/run_mixed'", f"verdicts='{verdicts}'", f"out='{folder}/out'"]
        perform_correct(composed("correct", given))
        runs = {"before": "run_mixed", "corrected": "out", "never seen": "run_clean"}
        return {name: judged(folder / run, tested) for name, run in runs.items()}


def run(normal: Path, directory: Path) -> None:
    """Train on all images of a folder but one, which the test needs."""
    given = ["dataset=folder", f"dataset.normal='{normal}'", "dataset.train_share=0.99"]
    more = [f"calibration.overkill={RATE}", "maps=0", "gallery=false", "logger=none"]
    perform_run(composed("train", [*given, *more]), directory)


def judged(directory: Path, tested: list[tuple[Path, int]]) -> dict[str, float]:
    """AUROC, misses and false alarms of a run on test images."""
    found = load(directory).score([path for path, _ in tested], maps=False)
    labels = [label for _, label in tested]
    metric = ImageAUROC()
    truth = torch.tensor(labels)
    metric.update(found.image, truth)
    assert found.anomalous is not None
    return {
        "image_auroc": float(metric.compute()),
        "missed": int((~found.anomalous & (truth == 1)).sum()),
        "anomalous": int((truth == 1).sum()),
        "false_alarms": int((found.anomalous & (truth == 0)).sum()),
        "normal": int((truth == 0).sum()),
    }


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows = [
        [
            key,
            name,
            f"{100 * found['image_auroc']:.1f}",
            f"{found['missed']} of {found['anomalous']}",
            f"{found['false_alarms']} of {found['normal']}",
        ]
        for key, runs in results.items()
        for name, found in runs.items()
    ]
    return "\n".join(
        [
            "# Defects that were learned, and forgotten",
            "",
            f"The default detector was trained on {GOOD} photographs of good transistors with a",
            "few anomalous ones among them. It was calibrated on them by five folds at a",
            f"false-positive rate of {100 * RATE:g} %. Then these were marked as missed,",
            "and `occ-lab correct` forgot them: it subtracted their moments and calibrated again.",
            "The last row of each block is a detector that was trained without them. It is",
            "calibrated on other folds, so that its threshold differs a little. All are tested on",
            "the same images, which hold none of the training.",
            "",
            f"Recorded on {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.corrections.study --data DIR`.",
            "",
            *table(["among the training images", "run", *TITLES], rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
