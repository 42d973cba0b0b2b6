"""Two figures of CFA, on transistor: ``python -m experiments.cfa_figures.study --help``.

Features before and after adaptation, as in figure 3 of the paper, and segmentations at the
threshold with the best F1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.whole_runs import job_of
from experiments.trial import command_line, record, sets, table
from occ_lab.detector import Detector
from occ_lab.engine.fitted import Fitted
from occ_lab.engine.single_fit import fit_without
from occ_lab.metrics.curves import auroc
from occ_lab.metrics.image import best_f1
from occ_lab.utils.allocator import keep_freed_memory
from occ_lab.utils.files import write_whole

HERE = Path(__file__).parent
FORMS = {
    "before adaptation": ["loss.attract=false", "loss.repel=false"],
    "after one epoch": ["loss.fit.epochs=1"],
}
NORMAL, ANOMALOUS, CENTRES = 900, 300, 300  # points of each kind
SHOWN = 6  # segmented images
KEY = "figures"


@dataclass
class Points:
    """Positions of test images, and centres of the memory bank.

    Attributes:
        features: ``[N, C]``, the positions.
        scores: ``[N]``.
        anomalous: bool ``[N]``, whether most of a position's pixels belong to a defect.
        centres: ``[M, C]``.
    """

    features: Tensor
    scores: np.ndarray
    anomalous: np.ndarray
    centres: Tensor


def main() -> None:
    """Draw the figures if they are not recorded yet, then write the page."""
    data = command_line(__doc__).parse_args().data
    keep_freed_memory()
    results = record(HERE / "results.json", [(KEY, partial(drawn, data))])
    write_whole(HERE / "README.md", report(results))


def drawn(data: Path) -> dict[str, Any]:
    """Draw both figures; the numbers behind them."""
    found, separated = {}, {}
    for form, overrides in FORMS.items():
        job = job_of([*sets(data)["transistor"], "loss=cfa", *overrides])
        member = fit_without([], job, job.benchmark, job.benchmark.tasks()[0])
        found[form] = points(member)
        separated[form] = auroc(found[form].scores, found[form].anomalous.astype(int))
    draw_features(HERE / "features.png", found)
    return {"separated": separated, **segmented(member, HERE / "segmentation.png")}


def points(member: Fitted) -> Points:
    """Random positions of the test images, the same for every detector."""
    detector = member.detector.eval()
    features, scores, marked = [], [], []
    with torch.no_grad():
        for batch in member.data.test_dataloader():
            z = detector.projector(detector.levels(batch))
            features.append(z.flatten(2).transpose(1, 2).flatten(0, 1).half())
            scores.append(detector.objective(z).flatten())
            covered = adaptive_avg_pool2d(batch["mask"][:, None].float(), z.shape[-2:])
            marked.append((covered > 0.5).flatten())
    anomalous = torch.cat(marked).numpy()
    drawing = np.random.default_rng(0)
    kept = np.concatenate(
        [
            drawing.choice(np.flatnonzero(anomalous == kind), count, replace=False)
            for kind, count in ((False, NORMAL), (True, ANOMALOUS))
        ]
    )
    bank: Tensor = detector.objective.bank
    centres = bank[drawing.choice(len(bank), CENTRES, replace=False)]
    chosen = torch.cat(features)[kept].float()
    return Points(chosen, torch.cat(scores).numpy()[kept], anomalous[kept], centres)


def draw_features(path: Path, found: dict[str, Points]) -> None:
    """Plot the positions in two dimensions (t-SNE), coloured by the rank of their score."""
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        for axes, (form, each) in zip(figure.subplots(1, 2), found.items(), strict=True):
            both = torch.cat([each.features, each.centres]).numpy()
            flat = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(both)
            place, centres = flat[: len(each.scores)], flat[len(each.scores) :]
            rank = each.scores.argsort().argsort() / (len(each.scores) - 1)
            axes.scatter(*centres.T, s=9, marker="x", color="#999999", lw=0.6, label="centre")
            for kind, marker, label in ((False, "o", "normal"), (True, "^", "anomalous")):
                chosen = each.anomalous == kind
                drawn_points = axes.scatter(
                    *place[chosen].T,
                    c=rank[chosen],
                    vmin=0,
                    vmax=1,
                    s=22 if kind else 12,
                    marker=marker,
                    cmap="viridis",
                    edgecolor="#c0392b" if kind else "none",
                    lw=0.6,
                    label=label,
                )
            axes.set(title=form, xticks=[], yticks=[])
        figure.colorbar(drawn_points, ax=figure.axes, label="rank of the score", shrink=0.8)
        figure.axes[0].legend(loc="lower left", framealpha=0.9, fontsize=9)
        figure.savefig(path, dpi=90)


def segmented(member: Fitted, path: Path) -> dict[str, float]:
    """Draw contours at the threshold with the best F1 of all test pixels."""
    detector: Detector = member.detector.eval()
    maps, masks = [], []
    with torch.no_grad():
        for batch in member.data.test_dataloader():
            _, found, _ = detector.batch_scores(batch)
            assert found is not None
            maps.append(found.numpy())
            masks.append(batch["mask"].numpy())
    scores, marked = np.concatenate(maps), np.concatenate(masks)
    f1, threshold = best_f1(marked.ravel().astype(int), scores.ravel())
    anomalous = np.flatnonzero(marked.any(axis=(1, 2)))
    shown = anomalous[np.linspace(0, len(anomalous) - 1, SHOWN).round().astype(int)]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(2 * SHOWN, 2.3), layout="constrained")
        for axes, index in zip(figure.subplots(1, SHOWN), shown, strict=True):
            image = member.data.test_images[int(index)]["image"]
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.contour(marked[index], [0.5], colors="#00e676", linewidths=1.3)
            if scores[index].max() > threshold:
                axes.contour(scores[index], [threshold], colors="#ff1744", linewidths=1.3)
            axes.set_axis_off()
            axes.set_title(Path(member.data.split.test[int(index)].path).parent.name)
        figure.savefig(path, dpi=90)
    return {"f1": f1, "threshold": threshold}


def report(results: dict[str, Any]) -> str:
    """The page that shows the figures."""
    found = results[KEY]
    return "\n".join(
        [
            "# Figures of CFA",
            "",
            "Lee et al. 2022 on the transistor category (256 px data), default backbone and",
            "settings, one epoch, seed 0.",
            "",
            f"Recorded until {date.today()} by "
            "`OMP_NUM_THREADS=1 python -m experiments.cfa_figures.study --data DIR`.",
            "",
            "## Features before and after adaptation",
            "",
            f"{NORMAL} normal and {ANOMALOUS} anomalous positions of test images and {CENTRES}",
            "centres of the memory bank, in two dimensions (t-SNE, each panel by itself), in the",
            "manner of figure 3 of the paper. A position is anomalous if most of its pixels are in",
            "the mask.",
            "",
            "![Features before and after adaptation, coloured by score](features.png)",
            "",
            *table(
                ["", "AUROC of these positions, per cent"],
                [[form, f"{100 * value:.1f}"] for form, value in found["separated"].items()],
            ),
            "",
            "## Segmentation at the best F1",
            "",
            f"Red: the contour of the anomaly map at {found['threshold']:.3g}, the threshold with",
            f"the best F1 over all pixels of the test set, {100 * found['f1']:.1f} per cent.",
            "Green: the mask. The threshold is chosen by masks, as in the paper; an application",
            "takes it from normal images ([Thresholds](../../docs/guides/thresholds.md)).",
            "",
            "![Contours on six defects](segmentation.png)",
            "",
        ]
    )


if __name__ == "__main__":
    main()
