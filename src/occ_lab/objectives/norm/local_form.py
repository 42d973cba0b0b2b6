"""The local closed form: a projector for every cell of a grid, and a score integrated over time.

The projector of the closed form (see `closed_form`) now depends on the position: φ_x(f) = W_c f +
b_x for a position x in cell c. Each cell then has its own second moments Σ_c and its own flow.

**Bias.** If the bias follows the flow, Σ_c is the second moment of f̃ = [f; 1], and the squared
score is ``f̃ᵀ F A F f̃``, as with a single projector. If the bias is solved for at every position,
φ_x(f) − c = W_c (f − μ_x), where μ_x is the mean feature of the position. The target then has no
effect, Σ_c is the covariance about these means, and A is a multiple of the identity.

**Time.** All cells follow the flow of one loss for the same time. With either bias, its unit s is
the mean diagonal of the second moments of f̃ over all cells. In the eigenbasis of Σ_c, a direction
of variance λ has weight ``exp(−2tλ/s)``, so time t selects a band of variances around s/2t. Instead
of a single t, the squared scores of several times are added, each divided by its mean over all
training positions:
``score² = Σ_t w_t f̃ᵀ F_t A F_t f̃``. Since ``∫ λ exp(−2tλ/s) dt = s/2`` for every λ, the integral
over all times is the Mahalanobis distance, and PaDiM (Defard et al. 2020) is the limit of cells of
one position. The result is a single factor L, which costs no more than a single t.

**Few images.** A cell in which m positions were seen is shrunk towards the mean Σ̄ of all cells:
``a Σ_c + (1 − a) Σ̄``, a = m/(m + C). `shrunk_means` shrinks the means of positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from occ_lab.objectives.norm.closed_form import FAINT, RANK, SMALL, spectrum
from occ_lab.objectives.norm.local_moments import LocalMoments, at_least_one
from occ_lab.utils.errors import InputError

INTEGRATED = (1.0, 3.0, 10.0, 30.0)  # a logarithmic grid; variances from s/2 to s/60
SHORTEST = 1e-4  # of the longest row of a factor; shorter rows change no score in float32


@dataclass(frozen=True)
class LocalForm:
    """A projector for every cell: ``z = W (f − μ) + b``; the length of z is the score.

    Attributes:
        weight: W, float64 ``[G, R, C]``.
        bias: b, float64 ``[G, R]``.
        mean: μ, float64 ``[G, P, C]`` for the P positions of a cell, or ``[1, P, 1]`` if nothing is
            subtracted.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Spectra:
    """The moments of every cell in their eigenbasis, which no norm and no time enters.

    Attributes:
        variances: λ, float64 ``[G, D]``.
        vectors: V, the eigenvectors as columns, float64 ``[G, D, D]``.
        sizes: the number of positions of each cell, ``[G]``.
        unit: s, the unit of time.
        mean: μ of a `LocalForm`.
    """

    variances: Tensor
    vectors: Tensor
    sizes: Tensor
    unit: Tensor
    mean: Tensor


def decomposed(
    sigma: Tensor, sizes: Tensor, unit: Tensor | None = None, mean: Tensor | None = None
) -> Spectra:
    """The spectra of the Σ of every cell.

    Args:
        sigma: Σ of each cell, float64 ``[G, D, D]``.
        sizes: the number of positions of each cell, ``[G]``.
        unit: s; None takes the mean diagonal of ``sigma``.
        mean: μ of a `LocalForm`; None subtracts nothing, with one position in a cell.
    """
    unit = unit_of_time(sigma, sizes) if unit is None else unit
    mean = sigma.new_zeros(1, 1, 1) if mean is None else mean
    return Spectra(*spectra(sigma), sizes, unit, mean)


def solved_spectra(moments: LocalMoments) -> Spectra:
    """The spectra of the covariances about the mean of every position.

    Args:
        moments: the moments of at least one image.
    """
    mean = shrunk_means(moments)
    sizes = cell_sizes(moments)
    sigma = shrunk_to_mean(covariances(moments, mean), moments.seen_in_cells, sizes)
    return decomposed(sigma, sizes, mean_square(moments), mean)


def flow_spectra(moments: LocalMoments) -> Spectra:
    """The spectra of the second moments of f̃.

    Args:
        moments: the moments of at least one image.
    """
    sigma = shrunk_moments(moments)
    mean = sigma.new_zeros(1, moments.sums.shape[1], 1)
    return decomposed(sigma, cell_sizes(moments), mean_square(moments), mean)


def solved_form(found: Spectra, times: Sequence[float], moment: float) -> LocalForm:
    """The form in which the bias of every position is solved for.

    Args:
        found: a result of `solved_spectra`, whose vectors are overwritten.
        times: t, each at least 0; the squared scores of several are integrated.
        moment: the second moment of the initial weights in every direction, see `initial_moment`.

    Raises:
        InputError: nothing of any direction is left within the range of float32.

    Example:
        >>> moments = LocalMoments(cell=2)
        >>> moments.update([torch.rand(5, 3, 4, 4)])
        >>> len(solved_form(solved_spectra(moments), INTEGRATED, moment=1 / 3).weight)
        4
    """
    weight = factors(found, times, moment, norm=0.0)
    return LocalForm(weight, weight.new_zeros(weight.shape[:2]), found.mean)


def flow_form(found: Spectra, times: Sequence[float], moment: float, norm: float) -> LocalForm:
    """The form in which the bias of every cell follows the flow, like the weights.

    Args:
        found: a result of `flow_spectra`, whose vectors are overwritten.
        times: t, each at least 0; the squared scores of several are integrated.
        moment: the second moment of the initial weights in every direction, see `initial_moment`.
        norm: ‖c‖₂ of the target.

    Raises:
        InputError: nothing of any direction is left within the range of float32.

    Example:
        >>> moments = LocalMoments(cell=2)
        >>> moments.update([torch.rand(5, 3, 4, 4)])
        >>> form = flow_form(flow_spectra(moments), [3.0], moment=1 / 3, norm=1.0)
        >>> len(form.weight), form.bias.shape == form.weight.shape[:2]
        (4, True)
    """
    factor = factors(found, times, moment, norm)
    return LocalForm(factor[..., :-1], factor[..., -1], found.mean)


def cell_sizes(moments: LocalMoments) -> Tensor:
    """The number of positions of each cell that count in an image, float64 ``[G]`` on the CPU.

    It is a mean over images if these do not fill their frame in the same way.
    """
    return moments.seen_in_cells / moments.n


def shrunk_means(moments: LocalMoments) -> Tensor:
    """The mean feature of every position, shrunk towards those of its cell and of the map.

    The mean of a position deviates from that of its cell by a real difference, of variance τ² over
    positions, and by the noise of n images, of variance v/n. Here v is the variance over images of
    d, the deviation of f from the mean of its cell in the same image. The best linear estimate
    keeps the fraction ``1 − (v/n) / (τ² + v/n)`` of the deviation (empirical Bayes; Efron & Morris
    1973); the denominator is estimated by the observed deviations. The means of cells are shrunk
    towards that of the map in the same way. Every channel of every cell has its own fraction, which
    tends to 1 with the number of images. With a single image, v is unknown and nothing is kept.

    Returns:
        float64 ``[G, P, C]`` on the CPU, zero at positions outside of the map.
    """
    assert moments.cells is not None
    mask = moments.cells.mask.double()
    area = moments.cells.sizes.double()[:, None]  # the number of positions of each cell
    counts, n = moments.counts.cpu(), moments.seen_in_cells[:, None] / area  # of images
    seen = (counts > 0).double()
    of_cells = moments.sums.cpu().sum(dim=1) / at_least_one(n * area)
    of_map = (of_cells * n * area).sum(dim=0) / (n * area).sum()

    apart = seen * (moments.means - of_cells[:, None])
    squares = moments.squares.cpu().diagonal(dim1=1, dim2=2)
    # Sums over images and positions: the squares of d, those of their means, and the noise.
    noise = squares - moments.cell_squares.cpu() / area - (counts * apart.square()).sum(dim=1)
    within = kept_fraction(apart.square().sum(dim=1), noise, n)
    within = of_fewer(within[:, None], counts, n[:, None])

    far = (n > 0) * (of_cells - of_map)
    total = (moments.cell_squares.cpu() / area).sum(dim=0)
    images = torch.tensor(moments.n, dtype=torch.float64)
    observed = (n * area * far.square()).sum(dim=0)
    noise = total - moments.map_squares.cpu() / area.sum() - observed
    across = of_fewer(kept_fraction(observed / images, noise, images), n, images)
    return mask * (of_map + across * far)[:, None] + within * apart


def kept_fraction(observed: Tensor, noise: Tensor, n: Tensor) -> Tensor:
    """The fraction of deviations to keep, in 0..1.

    Args:
        observed: the sum of squares of the deviations of the means.
        noise: the sum over n images of the squares of deviations about these means.
        n: the number of images.

    Example:
        >>> kept_fraction(torch.tensor([4.0, 0.1]), torch.tensor([6.0, 6.0]), torch.tensor(3.0))
        tensor([0.7500, 0.0000])
    """
    of_means = noise.clamp_min(0) / (n * (n - 1))
    kept = (1 - of_means / observed).nan_to_num(0, neginf=0).clamp(0, 1)
    return torch.where(n > 1, kept, 0.0)


def of_fewer(kept: Tensor, count: Tensor, n: Tensor) -> Tensor:
    """The fraction to keep of a mean over ``count`` images, where ``kept`` is that for n images.

    Example:
        >>> of_fewer(torch.tensor(0.8), torch.tensor([0.0, 5.0, 20.0]), torch.tensor(20.0))
        tensor([0.0000, 0.5000, 0.8000])
    """
    return (kept * count / (kept * count + (1 - kept) * n)).nan_to_num(0)


def covariances(moments: LocalMoments, mean: Tensor) -> Tensor:
    """The second moments of each cell about given means of its positions.

    Args:
        moments: the moments of at least one image.
        mean: μ, float64 ``[G, P, C]``.

    Returns:
        float64 ``[G, C, C]`` on the CPU.
    """
    roots = moments.counts.cpu().sqrt()
    mine = roots * moments.means
    off = mine - roots * mean
    about = torch.baddbmm(moments.squares.cpu(), mine.mT, mine, alpha=-1)
    about.baddbmm_(off.mT, off)
    return about.div_(at_least_one(moments.seen_in_cells)[:, None, None])


def second_moments(moments: LocalMoments) -> Tensor:
    """The second moments of f̃ = [f; 1] of each cell, float64 ``[G, C + 1, C + 1]`` on the CPU."""
    count = at_least_one(moments.seen_in_cells)[:, None]
    mean = moments.sums.cpu().sum(dim=1) / count
    squares = moments.squares.cpu() / count[..., None]
    top = torch.cat([squares, mean[..., None]], dim=2)
    bottom = torch.cat([mean, torch.ones_like(count)], dim=1)
    return torch.cat([top, bottom[:, None]], dim=1)


def shrunk_moments(moments: LocalMoments) -> Tensor:
    """`second_moments`, shrunk to their mean over all cells."""
    sizes = cell_sizes(moments)
    return shrunk_to_mean(second_moments(moments), moments.seen_in_cells, sizes)


def shrunk_to_mean(sigma: Tensor, seen: Tensor, sizes: Tensor) -> Tensor:
    """``a Σ_c + (1 − a) Σ̄`` with a = m/(m + C).

    Args:
        sigma: Σ of each cell, ``[G, D, D]``; D takes the place of C.
        seen: m, the number of positions seen in each cell, ``[G]``.
        sizes: the weight of each cell in the mean Σ̄, ``[G]``.
    """
    mean = torch.einsum("g,gij->ij", sizes / sizes.sum(), sigma)
    a = (seen / (seen + sigma.shape[-1]))[:, None, None]
    return torch.lerp(mean.expand_as(sigma), sigma, a)


def spectra(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[G, D]``, none below 0, and eigenvectors ``[G, D, D]`` of several Σ."""
    if sigma.shape[-1] > SMALL:
        scales = sigma.diagonal(dim1=1, dim2=2).mean(dim=1)
        found = [spectrum(each) for each in sigma]
        values = torch.stack([rates * s for (rates, _), s in zip(found, scales, strict=True)])
        return values.nan_to_num(0).clamp_min(0), torch.stack([each for _, each in found])
    # LAPACK decomposes the matrices of a batch one after another in a single thread.
    threads = min(torch.get_num_threads(), len(sigma))
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(torch.linalg.eigh, torch.chunk(sigma, threads)))
    values = torch.cat([values for values, _ in parts])
    vectors = torch.cat([vectors for _, vectors in parts])
    return values.clamp_min(0), vectors


def unit_of_time(sigma: Tensor, sizes: Tensor) -> Tensor:
    """s, the mean diagonal over all cells, from Σ ``[G, D, D]`` and the cells' sizes ``[G]``."""
    diagonals = sigma.diagonal(dim1=1, dim2=2).mean(dim=1)
    return (sizes / sizes.sum() * diagonals).sum()


def mean_terms(squares: Tensor, variances: Tensor, sizes: Tensor, unit: Tensor) -> Tensor:
    """The mean over all training positions of ``Σₖ squaresₖ yₖ²``, y the components along V.

    Args:
        squares: weights of the directions of each cell, ``[..., G, D]``.
        variances: λ, ``[G, D]``.
        sizes: the number of positions of each cell, ``[G]``.
        unit: s. The variance of a direction counts as at least 1e-7 s.

    Returns:
        ``[...]``.
    """
    # The rounding of features varies too. With few images in many dimensions and a long time,
    # nothing else would be left of the training positions, and the weight would be unbounded.
    least = variances.clamp_min(RANK * float(unit))
    return (squares * least).sum(dim=-1) @ (sizes / sizes.sum())


def mean_square(moments: LocalMoments) -> Tensor:
    """S of all positions: the mean diagonal of the second moments of f̃ = [f; 1], float64 ``[]``."""
    count = moments.seen_in_cells.sum()
    squares = moments.squares.cpu().diagonal(dim1=1, dim2=2)
    return (squares.sum() + count) / (count * (squares.shape[1] + 1))


def time_weights(terms: Tensor) -> Tensor:
    """``w_t = m̄ / m_t`` for means m_t of terms ``[T]``, so that all terms count equally."""
    return torch.where(terms > 0, terms.mean() / terms, torch.ones_like(terms))


def flow_factors(
    sigma: Tensor,
    sizes: Tensor,
    times: Sequence[float],
    moment: float,
    norm: float,
    unit: Tensor | None = None,
) -> Tensor:
    """A factor L of the score of every cell, ``score² = ‖L f̃‖²``, integrated over times.

    Let m_t be the mean of the term of time t over all training positions, and m̄ the mean of all
    m_t. The weights are ``w_t = m̄ / m_t``, so that all terms count equally. In m_t the variance of
    a direction counts as at least 1e-7 s. A single time has weight 1; with a single cell, its score
    is that of `expected_factor`.

    Args:
        sigma: Σ of each cell, float64 ``[G, D, D]``.
        sizes: the number of positions of each cell, ``[G]``.
        times: t, each at least 0.
        moment: the second moment of the initial weights in every direction.
        norm: ‖c‖₂ of the target, whose direction is the last one of Σ; 0 if there is no target.
        unit: s; None takes the mean diagonal of ``sigma``.

    Returns:
        float64 ``[G, R, D]``. Rows shorter than 1e-4 of the longest row in every cell are left out.

    Raises:
        InputError: nothing of any direction is left within the range of float32.

    Example:
        >>> sigma = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
        >>> flow_factors(sigma, torch.ones(2).double(), [3.0], moment=1.0, norm=0.0).shape
        torch.Size([2, 3, 3])
    """
    return factors(decomposed(sigma, sizes, unit), times, moment, norm)


def factors(found: Spectra, times: Sequence[float], moment: float, norm: float) -> Tensor:
    """As `flow_factors`, of moments that are decomposed already; their vectors are overwritten."""
    variances, vectors, unit = found.variances, found.vectors, found.unit
    rates = (variances / unit).nan_to_num(0)  # a single position of one image has no variance
    t = torch.tensor(times, dtype=vectors.dtype)[:, None, None]
    left = torch.exp(-t * rates)  # [T, G, D]
    squares = moment * left.square()
    pull = norm * left * vectors[:, -1]  # of eᵀF, in the eigenbasis
    terms = mean_terms(squares + pull.square(), variances, found.sizes, unit)
    weights = time_weights(terms)[:, None, None]
    # Another copy of all cells could fill the memory, so this one replaces V.
    rows = [(weights.sqrt() * pull).transpose(0, 1) @ vectors.mT] if norm else []
    factor = vectors.mT.mul_((weights * squares).sum(dim=0).sqrt()[..., None])
    if norm:
        factor = torch.cat([factor, *rows], dim=1)
    lengths = torch.linalg.vector_norm(factor, dim=2)
    longest = lengths.amax(dim=1, keepdim=True)
    if not longest.max() >= FAINT:
        longest_time = max(times)
        raise InputError(
            f"time: a flow of length t = {longest_time:g} leaves nothing of features; set a "
            "shorter one",
            part="objective",
        )
    long = (lengths > SHORTEST * longest).any(dim=0)
    return factor if long.all() else factor[:, long]
