"""The page with the results of the benchmark."""

from __future__ import annotations

from typing import Any

from occ_lab.reporting.markdown import table

# The largest cost of whole runs, in passes of decoding and backbone.
LIMITS = {
    "closed form, cold": 1.3,
    "closed form, warm": 0.25,
    "local form, cold": 1.3,
    "local form, warm": 0.25,
    "12 closed forms, cold": 2.0,
    "12 local forms, cold": 2.0,
    "norm study, 4 norms, cold": 1.6,
}


def report(results: dict[str, Any]) -> str:
    """The results as a Markdown page."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items() if value)
    pages = [
        "# Benchmark\n\n"
        f"`{results['command']}`, {results['date']}\n\n{facts}\n\n"
        "One process, default backbone. Other work on the machine affects all figures alike, so "
        "only the ratios are reliable."
    ]
    if "jobs" in results:
        pages.append(jobs_page(results["jobs"]))
    if "scoring" in results:
        pages.append(scoring_page(results["scoring"]))
    if "export" in results:
        pages.append(export_page(results["export"]))
    if "own" in results:
        pages.append(own_images_page(results["own"]))
    if "pass" in results:
        pages.append(pass_page(results["pass"]))
    return "\n\n".join(pages) + "\n"


def jobs_page(jobs: dict[str, Any]) -> str:
    """Whole runs."""
    rows = [
        [
            dataset,
            name,
            f"{cost['seconds']:.2f}",
            f"{cost['over_t0']:.2f}",
            f"{LIMITS[name]:g}" if name in LIMITS else "",
            whole(cost["peak_memory_mb"]),
        ]
        for dataset, costs in jobs.items()
        for name, cost in costs.items()
    ]
    return (
        "## Whole runs\n\n"
        "T₀ is one pass of decoding and backbone over all training and test images, and nothing "
        "else. T₀ and the closed forms are measured in turn, and the minimum of two (T₀: of four) "
        "counts; gradient training is measured once. Cold: an empty cache. The closed form "
        "averages over the initial weights, so its 12 jobs (4 norms, 3 seeds) differ between seeds "
        "only in the features that `time=auto` pastes, and those of the local form in nothing. "
        "They share what jobs of a multirun share. The norm study has the 4 norms at t = 10. "
        "Memory is the peak of the process, including memory that earlier jobs of the process "
        "have freed.\n\n" + table(["dataset", "job", "s", "over T₀", "at most", "peak MB"], rows)
    )


def scoring_page(scoring: dict[str, Any]) -> str:
    """Throughput of scoring."""
    rows = [
        [
            dataset,
            name,
            f"{speed['backbone_images_per_second']:.0f}",
            f"{speed['images_per_second']:.0f}",
            f"{speed['share_of_backbone']:.3f}",
            whole(speed["peak_memory_mb"]),
        ]
        for dataset, speeds in scoring.items()
        for name, speed in speeds.items()
    ]
    titles = ["dataset", "detector", "backbone alone", "scoring", "ratio (at least 0.9)", "peak MB"]
    return "## Scoring, images a second\n\n" + table(titles, rows)


def export_page(exported: dict[str, Any]) -> str:
    """Throughput of exported detectors."""
    rows = [
        [
            dataset,
            taken,
            *(whole(speed) for speed in speeds.values()),
            "–" if speeds["onnx"] is None else f"{speeds['onnx'] / speeds['PyTorch']:.2f}",
        ]
        for dataset, cases in exported.items()
        for taken, speeds in cases.items()
    ]
    titles = ["dataset", "input of a call", "PyTorch", "ONNX Runtime", "torch.export", "OpenVINO"]
    return (
        "## Exported detectors, images a second\n\n"
        "The closed form on the CPU, with as many threads as PyTorch, timed in turn. Raw images "
        "are decoded in memory; Pillow resizes them for PyTorch, and the graph for the others.\n\n"
        + table([*titles, "ONNX over PyTorch"], rows)
    )


def own_images_page(runs: dict[str, Any]) -> str:
    """The cost of padding, tiling and calibration."""
    rows = [
        [
            name,
            f"{cost['megapixels']:.1f}",
            f"{cost['pass_seconds']:.2f}",
            f"{cost['seconds']:.2f}",
            f"{cost['seconds'] / cost['megapixels']:.2f}",
            f"{cost['over_pass']:.2f}",
            whole(cost["peak_memory_mb"]),
        ]
        for name, cost in runs.items()
    ]
    titles = ["preprocessing", "megapixels", "pass, s", "run, s", "s per megapixel"]
    return (
        "## Own images: padding, tiling, calibration\n\n"
        "A folder of generated photographs of 640 × 480 pixels. The pass decodes them and passes "
        "the preprocessed pixels (the megapixels of the second column, including padding and "
        "overlap) through the backbone, and nothing else. The run trains and tests the default "
        "detector from an empty cache; five folds also calibrate it. Each pass and its run are "
        "measured in turn, and the minimum counts.\n\n"
        + table([*titles, "run over pass", "peak MB"], rows)
    )


def pass_page(parts: dict[str, Any]) -> str:
    """The parts of the pass."""
    titles = ["images", *next(iter(parts.values()))]
    rows = [[name, *(f"{ms:.2f}" for ms in each.values())] for name, each in parts.items()]
    return "## Parts of the pass, ms an image\n\n" + table(titles, rows)


def whole(number: float | None) -> str:
    """A rounded number, or a dash if it is None."""
    return "–" if number is None else f"{number:.0f}"
