"""Separate cells compared with blended cells: ``python -m …seams --data DIR``.

Each position belongs to one cell, so the score may jump where two cells meet. The alternatives are:
the squared scores of the four nearest cells, weighted bilinearly by the distance from their
centres; their factors with the same weights (symmetric factors, because the rows of others have no
order); and covariances that were averaged with those of neighbouring cells before, which costs
nothing when scoring.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.whole_runs import job_of
from experiments.trial import cached_data, command_line, record, sets, table
from occ_lab.features.cells import Cells
from occ_lab.features.levels import join
from occ_lab.metrics import ImageAUROC, PixelAUROC
from occ_lab.objectives.norm import local_form
from occ_lab.objectives.norm.closed_form import initial_moment
from occ_lab.objectives.norm.objective import Norm
from occ_lab.postprocessing.postprocess import PostProcess

HERE = Path(__file__).parent
CELL = 4
SHOWN = "transistor"
KINDS = ("cells as they are", "scores blended", "factors blended", "covariances averaged")
POST = PostProcess()

Scores = Callable[[Tensor], Tensor]  # of centred features [B, C, H, W], scores² [B, H, W]


def main() -> None:
    """Run the trials that are not recorded yet, and print the table."""
    data = command_line(__doc__).parse_args().data
    found = sets(data)
    results = record(
        HERE / "seams.json",
        ((name, partial(compared, name, overrides)) for name, overrides in found.items()),
    )
    print("\n".join(section(results)))


def section(results: dict[str, Any]) -> list[str]:
    """The lines of the section on the page."""
    times = [
        each[kind]["milliseconds"] / each[KINDS[0]]["milliseconds"]
        for each in results.values()
        for kind in KINDS[1:3]
    ]
    return [
        "## Seams between cells",
        "",
        "A position belongs to one cell, so the score may jump where two cells meet. The",
        "alternatives are: the squared scores of the four nearest cells, weighted bilinearly by",
        "the distance from their centres (scores blended); their symmetric factors with the same",
        "weights (factors blended); and covariances averaged with those of the neighbouring cells",
        "(1:2:1 along each axis) before they are decomposed. Here t = 1, 3, 10, in units of the",
        "covariance. Image / pixel AUROC, per cent:",
        "",
        *table(["set", *KINDS], [aurocs(results, name) for name in results]),
        "",
        "The mean step between neighbouring positions across a border of cells, divided by the",
        "mean step elsewhere, on normal test images: for scores / for full-size maps, which are",
        "upsampled and smoothed.",
        "",
        *table(["set", *KINDS], [steps(results, name) for name in results]),
        "",
        f"Blending makes scoring {min(times):.0f} to {max(times):.0f} times slower here (four",
        "products instead of one, of smaller matrices) and changes image AUROC by",
        f"{change(results, min):+.1f} to {change(results, max):+.1f} points: gains and losses.",
        "Averaged covariances lose on every set. Scores do step at the borders. In the maps, which",
        "are shown and used for image scores, the step across a border is at most",
        f"{largest(results, KINDS[0]):.2f} times the step elsewhere, and with blended scores",
        f"{largest(results, KINDS[1]):.2f} times: blending removes little. Cells stay separate.",
        "",
        "![Scores and maps of transistor, with cells as they are and blended](seams.png)",
        "",
        "Recorded by `OMP_NUM_THREADS=1 python -m experiments.local_closed_form.seams --data DIR`.",
        "",
    ]


def aurocs(results: dict[str, Any], name: str) -> list[str]:
    """Image and pixel AUROC of each kind."""
    found = [results[name][kind] for kind in KINDS]
    return [name, *(f"{100 * x['image_auroc']:.1f} / {100 * x['pixel_auroc']:.1f}" for x in found)]


def steps(results: dict[str, Any], name: str) -> list[str]:
    """The steps across borders for each kind."""
    found = [results[name][kind] for kind in KINDS]
    return [name, *(f"{x['step']:.2f} / {x['step_of_maps']:.2f}" for x in found)]


def change(results: dict[str, Any], extreme: Callable[[list[float]], float]) -> float:
    """The smallest or largest change of image AUROC by blending, in points."""
    return 100 * extreme(
        [
            each[kind]["image_auroc"] - each[KINDS[0]]["image_auroc"]
            for each in results.values()
            for kind in KINDS[1:3]
        ]
    )


def largest(results: dict[str, Any], kind: str) -> float:
    """The largest step of maps over all sets."""
    return max(each[kind]["step_of_maps"] for each in results.values())


def compared(name: str, overrides: list[str]) -> dict[str, Any]:
    """The figures of each kind on a set."""
    job = job_of([*overrides, "loss=norm", "loss.solver=closed_form"])
    data = cached_data(job, 32)
    objective = Norm(solver="closed_form", cell=CELL, bias="solved", time="integrated")
    for batch in data.setup_dataloader():
        levels = [level.float() for level in batch["levels"]]
        objective.observe(levels)
    projector = objective.default_projector([level.shape[1] for level in levels])
    objective.finish(projector)
    assert objective.local is not None
    assert objective.local.cells is not None
    cells = objective.local.cells
    mean = cells.merge(projector.mean[:, None])[0]  # type: ignore[index]
    ways = dict(zip(KINDS, kinds(objective, projector.weight, cells), strict=True))  # type: ignore[arg-type]

    scores: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    seconds = dict.fromkeys(KINDS, 0.0)
    labels, masks = [], []
    for batch in data.test_dataloader():
        features = join([level.float() for level in batch["levels"]]) - mean
        for piece in features.split(8):
            for kind, way in ways.items():
                started = time.perf_counter()
                scores[kind].append(way(piece).sqrt())
                seconds[kind] += time.perf_counter() - started
        labels.append(batch["label"])
        masks.append(batch["mask"])
    label, mask = torch.cat(labels), torch.cat(masks)
    size = (job.benchmark.crop, job.benchmark.crop)
    maps = {kind: torch.cat(parts) for kind, parts in scores.items()}
    if name == SHOWN:
        draw(HERE / "seams.png", maps, label, size)
    return {
        kind: {
            **figures(maps[kind], label, mask, size),
            "milliseconds": 1000 * seconds[kind] / len(label),
        }
        for kind in KINDS
    }


def kinds(objective: Norm, weight: Tensor, cells: Cells) -> list[Scores]:
    """A function that scores, for each of `KINDS`."""
    assert not any(cells._padding), "the quarters of cells are not cells"
    half = (cells.side[0] // 2, cells.side[1] // 2)
    quarters = Cells(cells.height, cells.width, half)
    values, vectors = torch.linalg.eigh(weight.mT.double() @ weight.double())
    roots = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT
    corners = [(index, fraction) for index, fraction in nearest_cells(cells)]

    def plain(factor: Tensor, f: Tensor) -> Tensor:
        return projected(factor, f, cells).square().sum(dim=1)

    def blended(f: Tensor) -> Tensor:
        parts = (
            part * projected(weight[quarter(index, quarters)], f, quarters).square().sum(dim=1)
            for index, part in corners
        )
        return torch.stack(list(parts)).sum(dim=0)

    def mixed(f: Tensor) -> Tensor:
        parts = (
            part * projected(roots.float()[quarter(index, quarters)], f, quarters)
            for index, part in corners
        )
        return torch.stack(list(parts)).sum(dim=0).square().sum(dim=1)

    return [partial(plain, weight), blended, mixed, partial(plain, averaged(objective, cells))]


def projected(factor: Tensor, f: Tensor, cells: Cells) -> Tensor:
    """Project features ``[B, C, H, W]`` by a factor ``[R, C]`` for each cell: ``[B, R, H, W]``."""
    z = cells.split(f).flatten(1, 2) @ factor.mT
    return cells.merge(z.view(cells.count, len(f), cells.area, -1))


def quarter(index: Tensor, quarters: Cells) -> Tensor:
    """The cell of each quarter of a cell, from a map ``[H, W]`` that is constant on quarters."""
    return quarters.split(index[None, None].float())[:, 0, 0, 0].long()


def nearest_cells(cells: Cells) -> list[tuple[Tensor, Tensor]]:
    """For each of four neighbours its index and its bilinear weight, both ``[H, W]``."""
    axes = []
    for count, length, side in zip(
        cells.grid, (cells.height, cells.width), cells.side, strict=True
    ):
        centre = (torch.arange(length) + 0.5) / side - 0.5
        low = centre.floor()
        near = [(low + step).clamp(0, count - 1).long() for step in (0, 1)]
        axes.append(list(zip(near, (1 - centre + low, centre - low), strict=True)))
    return [
        (y[:, None] * cells.grid[1] + x, part_y[:, None] * part_x)
        for y, part_y in axes[0]
        for x, part_x in axes[1]
    ]


def averaged(objective: Norm, cells: Cells) -> Tensor:
    """The factors if covariances are averaged with those of neighbours, 1:2:1 along each axis."""
    moments = objective.local
    assert moments is not None
    sizes = local_form.cell_sizes(moments)
    sigma = local_form.covariances(moments, local_form.shrunk_means(moments))
    kernel = torch.tensor([0.5, 1.0, 0.5], dtype=sigma.dtype)
    kernel = (kernel[:, None] * kernel)[None, None]

    def spread(x: Tensor) -> Tensor:
        grid = (x.flatten(1) * sizes[:, None]).T.reshape(-1, 1, *cells.grid)
        parts = [conv2d(part, kernel, padding=1) for part in grid.split(4096)]
        return torch.cat(parts)[:, 0].flatten(1).T.reshape(x.shape)

    counts = spread(torch.ones(len(sigma), 1, 1, dtype=sigma.dtype))
    sigma = local_form.shrunk_to_mean(spread(sigma) / counts, moments.n * counts.flatten(), sizes)
    moment = initial_moment(sigma.shape[-1], sigma.shape[-1])
    return local_form.flow_factors(sigma, sizes, local_form.INTEGRATED, moment, 0.0).float()


def figures(maps: Tensor, labels: Tensor, masks: Tensor, size: tuple[int, int]) -> dict[str, float]:
    """AUROCs, and the ratio of steps in normal maps across borders of cells to those within."""
    image, pixel = ImageAUROC(), PixelAUROC()
    smooth = []
    for indices in torch.arange(len(labels)).split(32):
        full = POST.maps(maps[indices], size)
        assert full is not None
        image.update(POST.image_scores(maps[indices], full), labels[indices])
        pixel.update(full, masks[indices])
        smooth.append(full[labels[indices] == 0])
    normal, full = maps[labels == 0], torch.cat(smooth)
    return {
        "image_auroc": float(image.compute()),
        "pixel_auroc": float(pixel.compute()),
        "step": over_borders(normal, CELL),
        "step_of_maps": over_borders(full, CELL * full.shape[-1] // normal.shape[-1]),
    }


def over_borders(maps: Tensor, side: int) -> float:
    """The mean step between neighbours across a border of cells, divided by the mean other step."""
    across, within = 0.0, 0.0
    for each in (maps, maps.mT):
        steps = each.diff(dim=-1).abs().mean(dim=(0, 1))
        border = torch.arange(1, each.shape[-1]) % side == 0
        across, within = across + float(steps[border].mean()), within + float(steps[~border].mean())
    return across / within


def draw(path: Path, maps: dict[str, Tensor], labels: Tensor, size: tuple[int, int]) -> None:
    """Draw scores and full-size maps of a normal and an anomalous image, for two kinds."""
    shown = [int(torch.nonzero(labels == label)[0]) for label in (0, 1)]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 4.8), layout="constrained")
        for line, (axes, index) in enumerate(zip(figure.subplots(2, 4), shown, strict=True)):
            for place, kind in enumerate(KINDS[:2]):
                scores = maps[kind][index]
                full = POST.maps(scores[None], size)
                assert full is not None
                top = float(maps[KINDS[0]][index].max())
                axes[place].imshow(scores, vmin=0, vmax=top)
                axes[place + 2].imshow(full[0], vmin=0, vmax=top)
                if not line:
                    axes[place].set_title(f"{kind}: scores")
                    axes[place + 2].set_title(f"{kind}: map")
            for each in axes:
                each.set_axis_off()
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
