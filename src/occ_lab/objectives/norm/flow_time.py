"""The choice of how long to follow the gradient flow, from normal training features only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from occ_lab.features.levels import join, unit_scale
from occ_lab.features.pasting import cut_and_paste
from occ_lab.objectives.norm.closed_form import initial_moment, spectrum
from occ_lab.utils.processes import all_reduced

TIMES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
POSITIONS = 64  # kept per image
SAMPLE = 8192  # kept in total
TOLERANCE = 0.01  # of AUROC below the best


class FlowTime:
    """Chooses t with cut-and-pasted features, without any defect or test image.

    One half of the training images is fitted; positions of the other half are held out and used to
    make artificial outliers. Each level of an outlier is normal by itself but comes from another
    position, so it is out of place like a defect. The chosen t is the smallest one that separates
    the outliers from the held-out positions nearly as well as the best t. A longer flow would fit
    the training set more closely without a measurable gain.

    Args:
        normalize: whether each feature vector is scaled to length √C.
        seed: the seed of the random choices.

    Example:
        >>> from occ_lab.objectives.norm.moments import HalvedMoments
        >>> levels = [torch.rand(6, 3, 4, 4), torch.rand(6, 5, 2, 2)]
        >>> moments, chooser = HalvedMoments(), FlowTime()
        >>> _, held_out = moments.update(levels)
        >>> chooser.observe(held_out)
        >>> time, aurocs = chooser.choose(moments.half_mean(0), [3, 5], outputs=8, norm=1.0)
        >>> time in aurocs
        True
    """

    def __init__(self, normalize: bool = False, seed: int = 0) -> None:
        self.normalize = normalize
        self.random = np.random.default_rng(seed)
        self._rows = np.empty((0, 0))
        self._count = 0

    @property
    def held_out(self) -> np.ndarray:
        """The kept held-out positions, float64 ``[n, C]``."""
        return self._rows[: self._count]

    def observe(self, levels: Sequence[Tensor]) -> None:
        """Sample positions of held-out images with levels ``[B, C_l, H_l, W_l]``; B may be 0."""
        if len(levels[0]) and self._count < SAMPLE:
            f = join(levels) * unit_scale(levels) if self.normalize else join(levels)
            rows = f.permute(0, 2, 3, 1).reshape(-1, f.shape[1])
            count = min(len(rows), POSITIONS * len(f))
            chosen = torch.from_numpy(self.random.choice(len(rows), count, replace=False))
            self.keep(rows[chosen.to(rows.device)].cpu().double().numpy())

    def keep(self, rows: np.ndarray) -> None:
        """Add held-out positions, float64 ``[n, C]``.

        They are stored in one array, which doubles when it is full. One array per image would
        fragment the memory that the moments of the next image are allocated from: if the process
        keeps freed memory, a stream of 6,000 images grew by 18 GB.
        """
        if not len(rows):
            return
        count = self._count + len(rows)
        if count > len(self._rows):
            grown = np.empty((max(count, 2 * len(self._rows)), rows.shape[1]))
            if self._count:
                grown[: self._count] = self.held_out
            self._rows = grown
        self._rows[self._count : count] = rows
        self._count = count

    def forget(self) -> None:
        """Discard the held-out positions."""
        self._count = 0

    def choose(
        self, sigma: Tensor, channels: Sequence[int], outputs: int, norm: float
    ) -> tuple[float, dict[float, float]]:
        """Choose t.

        Args:
            sigma: Σ of the fitted half, float64 ``[C + 1, C + 1]``.
            channels: the channels of each level, C in total.
            outputs: the number of channels of the projected map.
            norm: ‖c‖₂ of the target.

        Returns:
            t, and for each of `TIMES` the AUROC in 0..1 that separates the outliers. Without
            held-out positions, t is 10 and the mapping is empty.
        """
        normal = self.held_out
        if not len(normal):  # there is only one training image
            return 10.0, {}
        pasted = pasted_rows(normal, channels, self.random)
        curve = separations(normal, pasted, sigma, outputs, norm)
        *total, processes = all_reduced(torch.tensor([*curve, 1.0])).tolist()
        aurocs = {t: auroc / processes for t, auroc in zip(TIMES, total, strict=True)}
        best = max(aurocs.values())
        return next(t for t in TIMES if aurocs[t] >= best - TOLERANCE), aurocs


def pasted_rows(f: np.ndarray, channels: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Feature vectors in which each level comes from another row, see `cut_and_paste`.

    Args:
        f: feature vectors ``[N, C]``.
        channels: the channels of each level, C in total.
        random: the generator that chooses the rows.

    Returns:
        ``[N, C]``.

    Example:
        >>> f = np.arange(12.0).reshape(4, 3)
        >>> pasted = pasted_rows(f, [1, 2], np.random.default_rng(0))
        >>> sorted(pasted[:, 0]) == sorted(f[:, 0])
        True
    """
    levels = torch.split(torch.from_numpy(f)[..., None, None], list(channels), dim=1)
    return torch.cat(cut_and_paste(levels, random), dim=1).flatten(1).numpy()


def separations(
    normal: np.ndarray, outliers: np.ndarray, sigma: Tensor, outputs: int, norm: float
) -> list[float]:
    """The AUROC of outliers against normal vectors by their expected scores, at every time.

    All times weight the same components of f̃ along the eigenvectors of Σ, see `norm_maps`.

    Args:
        normal: feature vectors ``[n, C]``.
        outliers: feature vectors ``[m, C]``.
        sigma: Σ, float64 ``[C + 1, C + 1]``.
        outputs: the number of channels of the projected map.
        norm: ‖c‖₂ of the target.

    Returns:
        The AUROC in 0..1 for each of `TIMES`.
    """
    rates, vectors = (part.numpy() for part in spectrum(sigma))
    left = np.exp(-np.outer(rates, TIMES))
    y = np.concatenate([normal, outliers]) @ vectors[:-1] + vectors[-1]
    squares = initial_moment(normal.shape[1], outputs) * (y**2 @ left**2)
    squares += norm**2 * (y @ (vectors[-1][:, None] * left)) ** 2
    labels = np.repeat([0, 1], [len(normal), len(outliers)])
    return [float(roc_auc_score(labels, scores)) for scores in squares.T]
