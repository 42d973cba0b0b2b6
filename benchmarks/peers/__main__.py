"""Ours beside anomalib's: ``python -m benchmarks.peers --help``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.prepared import BATCH, EPOCHS, SIDE, WEIGHTS, prepare
from experiments.trial import table
from occ_lab.metrics.evaluation import Evaluation
from occ_lab.utils.files import write_whole

ROOT = Path(__file__).parents[2]
PACKAGES = ["torch==2.14.1", "torchvision==0.29.1", "anomalib==2.7.0"]
OUT = ROOT / "experiments" / "peers"
THEIRS = {"PaDiM": "padim", "PatchCore": "patchcore", "CFA": "cfa"}
OURS = {
    "PaDiM": ["loss=padim", "loss.dims=100"],
    "PatchCore": ["loss=knn", "loss.coreset=greedy"],
    "CFA": ["loss=cfa", f"loss.fit.epochs={EPOCHS}", f"loss.fit.batch_size={BATCH}"],
    "norm (default)": ["loss=norm"],
}
KEYS = ("scores", "labels", "maps", "masks")  # of anomalib_run's file
FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_aupro": "AUPRO"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the images, run every method in turn, write the page."""
    asked = command_line().parse_args(arguments)
    # Not resolved, because a link in an environment tells Python where its packages are.
    python = str(asked.python.absolute()) if asked.python else environment(ROOT / ".venv-peers")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        prepare(asked.data, asked.category, asked.train, images)
        rounds: list[dict[str, Any]] = []
        for number in range(asked.rounds):
            work = Path(folder) / str(number)
            work.mkdir()
            found = {}
            for name, method in THEIRS.items():
                found[f"anomalib | {name}"] = theirs(python, method, images, asked.threads, work)
                if name in OURS:
                    found[f"OCC Lab | {name}"] = ours(OURS[name], images, asked, work / name)
            name = "norm (default)"
            found[f"OCC Lab | {name}"] = ours(OURS[name], images, asked, work / "norm")
            rounds.append(found)
    results = {
        "category": asked.category,
        "train": asked.train,
        "threads": asked.threads,
        "packages": PACKAGES,
        "rounds": rounds,
    }
    write_whole(asked.out / "results.json", json.dumps(results, indent=1) + "\n")
    write_whole(asked.out / "README.md", report(results))


def command_line() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of MVTec AD")
    parser.add_argument("--category", default="transistor", help="default: transistor")
    parser.add_argument("--train", type=int, default=60, help="training images, default 60")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: cores")
    parser.add_argument("--rounds", type=int, default=1, help="times that all run, default 1")
    parser.add_argument(
        "--python", type=Path, help="of an environment with anomalib; default: made here"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the page")
    return parser


def environment(folder: Path) -> str:
    """An environment of its own with anomalib from PyPI; returns its Python."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return str(python)


def theirs(python: str, method: str, images: Path, threads: int, work: Path) -> dict[str, Any]:
    """A method of anomalib: its times, its figures, and ours of its raw scores and maps."""
    script, out = Path(__file__).with_name("anomalib_run.py"), work / f"{method}.npz"
    command = [python, script, method, images, images / WEIGHTS, threads, out]
    run([str(each) for each in command], work, threads)
    found: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    raw = np.load(out)
    scores, labels, maps, masks = (torch.from_numpy(raw[key]) for key in KEYS)
    evaluation = Evaluation()
    evaluation.update(scores, labels, maps, masks)
    found["metrics"] = evaluation.compute()
    return found


def ours(method: list[str], images: Path, asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """A method of ours, from an empty cache, with everything that a run writes but heatmaps."""
    command = [
        *(sys.executable, "-m", "occ_lab.train", "dataset=mvtec", f"dataset.root='{images}'"),
        *(f"dataset.category={asked.category}", f"dataset.resize={SIDE}", f"dataset.crop={SIDE}"),
        *("maps=0", "logger=none", "trainer.accelerator=cpu", f"hydra.run.dir='{work}'", *method),
    ]
    run(command, ROOT, asked.threads, OCC_LAB_CACHE=str(work.with_name(f"{work.name} cache")))
    figures = json.loads((work / "metrics.json").read_text())["tasks"][asked.category]
    seconds = figures["seconds"]
    return {
        "fit_seconds": seconds["features"] + seconds["fit"],
        "test_seconds": seconds["test"],
        "peak_mb": figures["peak_memory_mb"],
        "metrics": {name: figures[name] for name in FIGURES},
    }


def run(command: Sequence[str], cwd: Path, threads: int, **more: str) -> None:
    """Run a command with a number of threads; what it prints is shown if it fails."""
    numbers = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **numbers, **more}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def report(results: dict[str, Any]) -> str:
    """The page."""
    rounds = results["rounds"]
    rows = []
    for name in rounds[0]:
        best = min((each[name] for each in rounds), key=total)
        reported = best.get("reported", {}).get("image_AUROC")
        whole = total(best)
        library, method = name.split(" | ")
        rival = f"anomalib | {method if method in THEIRS else 'PaDiM'}"
        ratio = min(total(each[rival]) for each in rounds) / whole
        rows.append(
            [
                *(method, library, f"{best['fit_seconds']:.1f}", f"{best['test_seconds']:.1f}"),
                f"{ratio:.1f}" if library == "OCC Lab" else "",
                f"{best['peak_mb']:.0f}",
                *(f"{100 * best['metrics'][figure]:.1f}" for figure in FIGURES),
                "" if reported is None else f"{100 * reported:.1f}",
            ]
        )
    titles = ["method", "library", "fit s", "test s", "times as fast", "peak MB"]
    titles += [*FIGURES.values(), "image AUROC, as reported"]
    return "\n".join(
        [
            "# Beside anomalib",
            "",
            f"{results['train']} training images and all test images of `{results['category']}`",
            f"(256 px data), prepared once at {SIDE} px, so that both read the same pixels; the",
            "same EfficientNet-Lite0 weights and levels; no cache; one after the other in",
            f"processes of their own with {results['threads']} threads. Fit and test in seconds,",
            f"the fastest of {len(rounds)}; ours include everything from reading the images on.",
            f"Theirs: {', '.join(results['packages'])}, defaults but for the backbone and, of",
            "PaDiM, 100 channels as in ours. AUROC and AUPRO in per cent, of raw scores and maps",
            "by our metrics; as reported: by anomalib's own, of its normalised scores. *Times as",
            "fast*: fit and test together against the same method of anomalib; norm against its",
            "PaDiM. Ours average levels over 3 × 3 positions. PatchCore of ours is `loss=knn",
            "loss.coreset=greedy`, which selects 10,000 vectors from a sample of 100,000; theirs",
            "keeps 10 % of all positions. Both CFA train for "
            f"{EPOCHS} epochs in batches of {BATCH};",
            "anomalib's knows four networks, so this one was put in place of its ResNet-18.",
            "",
            f"Recorded on {date.today()} by `python -m benchmarks.peers --data DIR "
            f"--category {results['category']} --train {results['train']}`.",
            "",
            *table(titles, rows),
            "",
        ]
    )


def total(found: dict[str, Any]) -> float:
    """Seconds of fit and test."""
    return float(found["fit_seconds"] + found["test_seconds"])


if __name__ == "__main__":
    main()
