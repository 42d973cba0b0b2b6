"""Weight of a direction over its variance: ``python -m experiments.local_closed_form.weights``."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.whole_runs import job_of
from experiments.trial import cached_data
from occ_lab.objectives.norm.local_form import (
    INTEGRATED,
    cell_sizes,
    covariances,
    shrunk_means,
    shrunk_to_mean,
    spectra,
)
from occ_lab.objectives.norm.local_moments import LocalMoments
from occ_lab.reporting.norm_plots import STYLE

HERE = Path(__file__).parent
CELL = 4
TEXTURE = "brick"


def main() -> None:
    """Draw the plot from the embedded data."""
    rates, portions = rates_of_cells()
    draw(HERE / "weights.png", rates, portions)


def rates_of_cells() -> tuple[np.ndarray, np.ndarray]:
    """λ/s of every cell and direction ``[G, C]``, and the fraction of positions of each cell."""
    job = job_of(["dataset=textures", f"dataset.category={TEXTURE}"])
    moments = LocalMoments(CELL)
    for batch in cached_data(job, job.eval_batch_size).setup_dataloader():
        moments.update([level.float() for level in batch["levels"]])
    sizes = cell_sizes(moments)
    sigma = covariances(moments, shrunk_means(moments))
    variances, _ = spectra(shrunk_to_mean(sigma, moments.n * sizes, sizes))
    portions = sizes / sizes.sum()
    scale = (variances.mean(dim=1) * portions).sum()
    return (variances / scale).numpy(), portions.numpy()


def draw(path: Path, rates: np.ndarray, portions: np.ndarray) -> None:
    """Draw the weights, and below them the distribution of the training features' variances."""
    grid = np.geomspace(1e-4, 30, 400)
    terms = [np.exp(-2 * t * rates) * rates for t in INTEGRATED]
    means = [float(portions @ term.sum(axis=1)) for term in terms]
    weights = np.mean(means) / np.array(means)
    total = weights.sum()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.75, len(INTEGRATED)))
        curves = np.zeros_like(grid)
        for t, weight, colour in zip(INTEGRATED, weights, colours, strict=True):
            curve = weight / total * np.exp(-2 * t * grid)
            curves += curve
            above.plot(grid, curve, color=colour, label=f"t = {t:g}")
        above.plot(grid, curves, color="k", lw=2.2, label="integrated")
        # On a logarithmic grid of times the sum is the integral over the step of ln t, see (11).
        step = float(np.mean(np.diff(np.log(INTEGRATED))))
        scale = weights[0] / INTEGRATED[0] / step / total
        above.plot(grid, scale / (2 * grid), "k--", lw=1.2, label="Mahalanobis, s/2λ")
        above.set(yscale="log", ylim=(3e-4, 30), ylabel="weight of a direction")
        above.legend(loc="lower left")
        above.grid(axis="y")
        counts = np.broadcast_to(portions[:, None], rates.shape)
        below.hist(
            rates.flatten(), bins=grid[::8], weights=counts.flatten(), color="#8a8a8a", alpha=0.5
        )
        below.set(xscale="log", xlabel="variance λ/s", ylabel="directions", xlim=(1e-4, 30))
        for t, colour in zip(INTEGRATED, colours, strict=True):
            below.axvline(1 / (2 * t), color=colour, ls=":")
            above.axvline(1 / (2 * t), color=colour, ls=":", lw=1)
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
