"""The cost of a memory limit for the local form: ``… local_cost.study --help``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.whole_runs import (
    CLOSED_FORM,
    LOCAL,
    caches,
    job_of,
    least_seconds,
    one_pass,
    timed_run,
)
from benchmarks.whole_runs import fitted as fit_one
from experiments.trial import SECONDS, cached_data, command_line, record, sets, spread, table
from occ_lab.features.cells import Cells
from occ_lab.features.levels import join, pieces
from occ_lab.features.pasting import cut_and_paste
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.objectives.norm.closed_form import initial_moment
from occ_lab.objectives.norm.local_form import (
    INTEGRATED,
    cell_sizes,
    covariances,
    flow_factors,
    shrunk_means,
    shrunk_to_mean,
    spectra,
)
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess
from occ_lab.projectors import LocalProjector
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole
from occ_lab.utils.memory import MB, peak_mb, reset_peak

HERE = Path(__file__).parent
CELL = 4
FRACTIONS = (4, 16)  # the limit is the whole state, divided by these
SEEDS = (0, 1, 2)
BATCH = 32
BACKBONES = {"ResNet-18": (64, 128, 256), "WideResNet-50-2": (256, 512, 1024)}
SIDES = (56, 28, 14)  # of the levels for images of 224 px
NOISE = 16  # images of noise
REPEATS = 3
WAYS = (
    "random orthonormal projection",
    "random channels",
    "larger cells",
    "low rank plus diagonal",
)

HEAD = [
    "# Memory limit of the local form",
    "",
    "The sums of `LocalMoments` take 8·G·C² bytes for G cells and C channels: 49 MB for the",
    "default backbone, 5 GB for WideResNet-50-2. `loss.memory_mb` (512) limits them.",
    "",
]
CHOICE = [
    "## The choice of a method",
    "",
    "Default backbone, cells of 4×4, the limit set to 1/4 and 1/16 of the sums. The form is fitted",
    "to four fifths of the training images; no label enters this table. The error is the standard",
    "deviation of log(score / score of the whole form) over the positions of the held-out fifth",
    "and of features that are cut and pasted from it; the AUROC (per cent) separates these two.",
    "Random methods show the mean of three draws. Low rank plus diagonal approximates the exact",
    "covariances, which is the best it could do: no sum leads to it, so images could not be",
    "forgotten, nor processes merged, exactly. Float32 instead of float64 only halves the memory.",
    "",
    "**Larger cells** have the smallest error among the methods that keep sums, on every set and",
    "at both limits, and the highest AUROC of pasted features. They keep the mean of every",
    "position and all channels. `loss.memory_mb` uses this method.",
]
LABELS = [
    "## The cost on the test images",
    "",
    "Per cent; these figures did not enter the choice.",
]
LARGE = [
    "## Large backbones",
    "",
    "Levels of noise in the shapes of the backbone at 224 px, within the default limit. Peaks are",
    "the memory of the process in addition to the levels, in MB. Larger cells save memory and most",
    "of the decompositions, but not the products with features: at 1792 channels, observing and",
    "scoring take C² multiplications at every position, 10 G an image, as many as the backbone",
    "itself.",
]
SPEED = [
    "## Time",
    "",
    "Transistor, one process, the minimum of several turns. A whole run is `occ_lab.train` with an",
    "empty cache; T₀ is decoding and backbone alone (target: at most 1.3 times T₀). Throughput is",
    "that of the detector from images in memory to maps and scores (target: at least 0.9 of the",
    "backbone's). A whole run of the closed form with one projector is shown for comparison.",
    "",
    "Other work kept both cores busy. Two threads then wait for each other most of the time, so",
    "that row is not informative.",
    "",
    "Both targets are missed. A score takes C² multiplications at each position of the finest",
    "level, and we know no exact form of it that avoids them. Tried without a record: triangular",
    "factors were no faster, and factors of lower rank plus one residual variance changed the",
    "scores.",
]

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Levels ``[N, C_l, H_l, W_l]`` of images: for the fit, held out, pasted, and for the test."""

    fit: list[Tensor]
    held_out: list[Tensor]
    pasted: list[Tensor]
    test: list[Tensor]
    labels: Tensor
    masks: Tensor


def main() -> None:
    """Run the trials that are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    trials: list[tuple[str, Callable[[], Any]]] = [
        (f"memory | {name}", partial(memory, channels)) for name, channels in BACKBONES.items()
    ]
    trials += [(name, partial(measured, overrides)) for name, overrides in sets(data).items()]
    trials += [
        (f"speed | {threads}", partial(speed, sets(data)["transistor"], threads))
        for threads in (1, 2)
    ]
    write_whole(HERE / "README.md", report(record(HERE / "results.json", trials)))


def measured(overrides: list[str]) -> dict[str, Any]:
    """Every method on one set: its figures, as a list over seeds if it is random."""
    data = features(overrides)
    channels = sum(level.shape[1] for level in data.fit)
    whole, projector = fitted(data.fit, CELL)
    expected = [scored(projector, part) for part in (data.held_out, data.pasted)]
    judged = partial(judge, data, expected)
    results: dict[str, Any] = {"whole": judged(partial(scored, projector))}
    for fraction in FRACTIONS:
        less = round(channels * fraction**-0.5)
        for way, basis in (
            ("random orthonormal projection", orthonormal),
            ("random channels", some_channels),
        ):
            results[f"{way}, 1/{fraction}"] = [
                judged(projected(data.fit, basis(channels, less, seed))) for seed in SEEDS
            ]
        _, larger = fitted(data.fit, round(CELL * fraction**0.5))
        results[f"larger cells, 1/{fraction}"] = judged(partial(scored, larger))
        rank = channels // fraction - 1  # and a diagonal
        change = partial(low_rank_plus_diagonal, rank=rank)
        results[f"low rank plus diagonal, 1/{fraction}"] = judged(changed(whole, projector, change))
    results["float32"] = judged(changed(whole, projector, lambda sigma: sigma, torch.float32))
    return results


def features(overrides: list[str]) -> Data:
    """The features of a set; every fifth training image is held out."""
    job = job_of([*overrides, "loss=norm", "loss.solver=closed_form"])
    loaders = cached_data(job, BATCH)

    def joined(batches: Any, name: str) -> Any:
        return torch.cat([batch[name] for batch in batches])

    def levels(batches: list[Any]) -> list[Tensor]:
        each = [[level.half() for level in batch["levels"]] for batch in batches]
        return [torch.cat(level) for level in zip(*each, strict=True)]

    train = levels(list(loaders.setup_dataloader()))
    tested = list(loaders.test_dataloader())
    aside = torch.arange(len(train[0])) % 5 == 4
    held_out = [level[aside] for level in train]
    return Data(
        fit=[level[~aside] for level in train],
        held_out=held_out,
        pasted=cut_and_paste(held_out, np.random.default_rng(0)),
        test=levels(tested),
        labels=joined(tested, "label"),
        masks=joined(tested, "mask"),
    )


def batches(levels: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Levels in float32, a few images at a time."""
    for part in zip(*(torch.split(level, BATCH) for level in levels), strict=True):
        yield [level.float() for level in part]


def fitted(
    levels: Sequence[Tensor], cell: int, change: Callable[[list[Tensor]], list[Tensor]] = list
) -> tuple[Norm, LocalProjector]:
    """Fit the local form to levels, each batch of which is changed first."""
    objective = Norm(solver="closed_form", cell=cell, bias="solved", time="integrated")
    for batch in batches(levels):
        last = change(batch)
        objective.observe(last)
    projector = objective.default_projector([level.shape[1] for level in last])
    objective.finish(projector)
    assert isinstance(projector, LocalProjector)
    return objective, projector


@torch.no_grad()
def scored(projector: LocalProjector, levels: Sequence[Tensor]) -> Tensor:
    """Scores ``[N, H, W]``."""
    return torch.cat([torch.linalg.vector_norm(projector(b), dim=1) for b in batches(levels)])


def projected(levels: Sequence[Tensor], basis: Tensor) -> Callable[[Sequence[Tensor]], Tensor]:
    """Score with the form of the concatenated levels times a basis ``[C', C]``."""

    def reduced(batch: list[Tensor]) -> list[Tensor]:
        return [torch.einsum("kc,bchw->bkhw", basis, join(batch))]

    _, projector = fitted(levels, CELL, reduced)

    @torch.no_grad()
    def score(given: Sequence[Tensor]) -> Tensor:
        every = [projector(reduced(batch)) for batch in batches(given)]
        return torch.cat([torch.linalg.vector_norm(z, dim=1) for z in every])

    return score


def orthonormal(channels: int, less: int, seed: int) -> Tensor:
    """Orthonormal rows ``[less, channels]``, drawn at random."""
    drawn = torch.randn(channels, less, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(drawn.double())[0].T.float()


def some_channels(channels: int, less: int, seed: int) -> Tensor:
    """Rows of the identity ``[less, channels]``, as PaDiM draws channels."""
    order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
    return torch.eye(channels)[order[:less].sort().values]


def changed(
    objective: Norm,
    projector: LocalProjector,
    change: Change,
    dtype: torch.dtype = torch.float64,
) -> Callable[[Sequence[Tensor]], Tensor]:
    """Score with the form whose covariances are changed, from sums rounded to a dtype."""
    moments = objective.local
    assert moments is not None
    kept = moments.squares
    moments.squares = kept.to(dtype).double()
    sizes, mean = cell_sizes(moments), shrunk_means(moments)
    sigma = change(covariances(moments, mean))
    moments.squares = kept
    sigma = shrunk_to_mean(sigma, moments.n * sizes, sizes)
    channels = sigma.shape[-1]
    weight = flow_factors(sigma, sizes, INTEGRATED, initial_moment(channels, channels), 0.0)
    own = LocalProjector(projector.channels, projector.cell)
    own.assign_cells(weight, weight.new_zeros(weight.shape[:2]), mean)
    return partial(scored, own)


def low_rank_plus_diagonal(sigma: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank, plus the diagonal of the remainder."""
    values, vectors = spectra(sigma)
    top = vectors[..., -rank:]
    low = (top * values[:, None, -rank:]) @ top.mT
    return low + torch.diag_embed((sigma - low).diagonal(dim1=1, dim2=2))


def judge(
    data: Data, expected: list[Tensor], score: Callable[[Sequence[Tensor]], Tensor]
) -> dict[str, float]:
    """The figures of one form.

    ``error`` is the standard deviation, over positions of held-out normal images and of pasted
    features, of the logarithm of the ratio of a score to that of the whole form, so a common factor
    does not count. ``pasted_auroc`` separates the two. Neither uses a label.
    """
    normal, pasted = (score(part) for part in (data.held_out, data.pasted))
    ratios = torch.cat([torch.log(normal / expected[0]), torch.log(pasted / expected[1])])
    apart = ImageAUROC()
    apart.update(normal.flatten(), torch.zeros(normal.numel(), dtype=torch.int64))
    apart.update(pasted.flatten(), torch.ones(pasted.numel(), dtype=torch.int64))
    image, pixel, shown = ImageAUROC(), PixelAUROC(), PostProcess()
    scores = score(data.test)
    parts = zip(*(torch.split(x, BATCH) for x in (scores, data.labels, data.masks)), strict=True)
    for some, labels, masks in parts:
        maps = shown.maps(some, (masks.shape[1], masks.shape[2]))
        assert maps is not None
        image.update(shown.image_scores(some, maps), labels)
        pixel.update(maps, masks)
    return {
        "error": float(ratios.std()),
        "pasted_auroc": float(apart.compute()),
        "image_auroc": float(image.compute()),
        "pixel_auroc": float(pixel.compute()),
    }


def memory(channels: Sequence[int]) -> dict[str, float]:
    """Memory and time of the local form of levels of noise, within the default limit."""
    levels = [
        torch.rand(NOISE, count, side, side) for count, side in zip(channels, SIDES, strict=True)
    ]
    objective = Norm(solver="closed_form", cell=CELL, bias="solved", time="integrated")
    projector = objective.default_projector(channels)
    moments = objective.local
    assert moments is not None
    reset_peak()
    before = peak_mb() or 0.0
    seconds, peaks = {}, {}
    steps: dict[str, Callable[[], object]] = {
        "observe": lambda: objective.observe(levels),
        "solve": lambda: objective.finish(projector),
        "score": lambda: [objective(projector(piece)) for piece in pieces(levels)],
    }
    with torch.no_grad():
        for name, step in steps.items():
            reset_peak()
            started = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - started
            peaks[name] = (peak_mb() or 0.0) - before
    wanted = Cells.of(CELL, SIDES[:1] * 2).count
    total = sum(channels)
    return {
        "channels": total,
        "whole_mb": 8 * wanted * total**2 / MB,
        "cells": len(moments.squares),
        "sums_mb": sum(each.nbytes for each in moments.buffers()) / MB,
        "weights_mb": sum(each.nbytes for each in projector.state_dict().values()) / MB,
        **{f"{name}_peak_mb": peak for name, peak in peaks.items()},
        "solve_seconds": seconds["solve"],
        "observe_ms": 1000 * seconds["observe"] / NOISE,
        "score_ms": 1000 * seconds["score"] / NOISE,
    }


def speed(dataset: list[str], threads: int) -> dict[str, float]:
    """Whole runs relative to T₀, and parts of a detector relative to its backbone, in turn."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    overrides = [*dataset, *LOCAL]
    passes: list[float] = []
    runs: dict[str, list[float]] = {"run": [], "one_projector": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        one_pass(dataset)  # warms up
        for _ in range(REPEATS):
            passes.append(one_pass(dataset).seconds)
            for name, form in (("run", LOCAL), ("one_projector", CLOSED_FORM)):
                with caches(work) as cache:
                    run = timed_run([*dataset, *form, cache, "maps=0"], work)
                    runs[name].append(run.seconds)
        with caches(work) as cache:
            detector, image = fit_one([*overrides, cache], BATCH)
    objective, projector = detector.objective, detector.projector
    assert isinstance(objective, Norm)
    with torch.inference_mode():
        levels = detector.backbone(image)
        steps: dict[str, Callable[[], object]] = {
            "backbone": lambda: detector.backbone(image),
            "detector": lambda: detector(image),
            "score": lambda: detector.score_levels(levels),
            "observe": lambda: objective.observe(levels),
            "solve": lambda: objective.solve(projector),
        }
        least = dict(zip(steps, least_seconds(list(steps.values()), SECONDS), strict=True))
    per_image = {f"{name}_ms": 1000 * least[name] / len(image) for name in list(steps)[:4]}
    return {
        "t0_seconds": min(passes),
        **{f"{name}_seconds": min(each) for name, each in runs.items()},
        **per_image,
        "solve_seconds": least["solve"],
    }


def report(results: dict[str, Any]) -> str:
    """The page."""
    found = {name: each for name, each in results.items() if " | " not in name}
    rows, labelled = [], []
    for way in next(iter(found.values())):
        drawn = [
            each[way] if isinstance(each[way], list) else [each[way]] for each in found.values()
        ]
        rows.append([way, *map(without_labels, drawn)])
        labelled.append([way, *map(with_labels, drawn)])
    lines = [
        *HEAD,
        f"Recorded until {date.today()} by",
        "`OMP_NUM_THREADS=1 python -m experiments.local_cost.study --data DIR`, on a CPU with",
        "other work.",
        "",
        *CHOICE,
        "",
        *table(["error; AUROC of pasted features", *found], rows),
        "",
        *LABELS,
        "",
        *table(["image / pixel AUROC", *found], labelled),
        "",
        *memory_lines(chosen(results, "memory")),
        "",
        *speed_lines(chosen(results, "speed")),
    ]
    return "\n".join([*lines, ""])


def without_labels(drawn: list[dict[str, float]]) -> str:
    """Error and AUROC of pasted features, the means over draws."""
    error, apart = (fmean(each[name] for each in drawn) for name in ("error", "pasted_auroc"))
    return f"{error:.3f}; {100 * apart:.2f}"


def with_labels(drawn: list[dict[str, float]]) -> str:
    """Image and pixel AUROC, the means over draws."""
    names = ("image_auroc", "pixel_auroc")
    return " / ".join(spread([each[name] for each in drawn], 100) for name in names)


def chosen(results: dict[str, Any], kind: str) -> dict[str, Any]:
    """The results of a kind, by name."""
    return {
        name.split(" | ")[1]: each for name, each in results.items() if name.startswith(f"{kind} |")
    }


def memory_lines(found: dict[str, Any]) -> list[str]:
    """The section on large backbones."""
    rows = [
        [
            name,
            *(f"{each[key]:.0f}" for key in ("channels", "whole_mb", "cells", "sums_mb")),
            *(f"{each[key]:.0f}" for key in ("weights_mb", "observe_peak_mb", "solve_peak_mb")),
            *(f"{each[key]:.1f}" for key in ("solve_seconds", "observe_ms", "score_ms")),
        ]
        for name, each in found.items()
    ]
    titles = ["backbone", "channels", "whole MB", "cells", "sums MB", "weights MB"]
    titles += ["peak of observing", "peak of solving", "solving s", "observing ms", "scoring ms"]
    return [*LARGE, "", *table(titles, rows)]


def speed_lines(found: dict[str, Any]) -> list[str]:
    """The section on time."""
    rows = [
        [
            threads,
            f"{each['run_seconds'] / each['t0_seconds']:.2f}",
            f"{each['one_projector_seconds'] / each['t0_seconds']:.2f}",
            f"{each['backbone_ms'] / each['detector_ms']:.2f}",
            f"{each['backbone_ms']:.1f}",
            *(f"{each[f'{name}_ms'] / each['backbone_ms']:.2f}" for name in ("observe", "score")),
            f"{each['solve_seconds']:.2f}",
            f"{each['t0_seconds']:.2f}",
        ]
        for threads, each in found.items()
    ]
    titles = [
        "threads",
        "whole run over T₀",
        "one projector",
        "throughput over the backbone's",
        "backbone ms",
    ]
    titles += ["observing over backbone", "scoring over backbone", "solving s", "T₀ s"]
    return [*SPEED, "", *table(titles, rows)]


if __name__ == "__main__":
    main()
