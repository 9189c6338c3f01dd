"""Distances between sets of features, and scores of sets; float64 throughout. They know no model and no files."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation.errors import CurationError

Features = NDArray[np.floating]
SEED = 2020
"""torch-fidelity's: the same features give the same subsets, splits and numbers as there."""


def _checked(*sets: Features) -> list[NDArray[np.float64]]:
    out = [np.asarray(features, np.float64) for features in sets]
    for features in out:
        if features.ndim != 2 or len(features) < 2:
            raise CurationError(f"features are [N, D] with N of at least 2, these have the shape {features.shape}")
        if not np.isfinite(features).all():
            raise CurationError("features hold NaN or infinity: the model that made them failed")
    if len({features.shape[1] for features in out}) > 1:
        raise CurationError(f"features of {' and '.join(str(f.shape[1]) for f in out)} dimensions cannot be compared")
    return out


def frechet_distance(a: Features, b: Features) -> float:
    """Between Gaussians fitted to features [N, D] and [M, D] (FID's formula, Heusel 2017, arXiv 1706.08500).

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr((A B)^1/2), the last from the eigenvalues of A^1/2 B A^1/2: real and
    not negative where scipy's sqrtm of a singular product is not. With N <= D the covariance is singular, and the
    distance biased upwards. Raises CurationError for NaNs, fewer than 2 rows or different D.
    """
    a, b = _checked(a, b)
    cov_a, cov_b = np.cov(a, rowvar=False).reshape(a.shape[1], -1), np.cov(b, rowvar=False).reshape(a.shape[1], -1)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * product)


def _mmd(kernel_aa: NDArray[np.float64], kernel_bb: NDArray[np.float64], kernel_ab: NDArray[np.float64]) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton 2012)."""
    n, m = len(kernel_aa), len(kernel_bb)
    within_a = (kernel_aa.sum() - np.trace(kernel_aa)) / (n * (n - 1))
    within_b = (kernel_bb.sum() - np.trace(kernel_bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel_ab.mean())


def kernel_distance(
    a: Features, b: Features, subsets: int = 100, size: int = 1000, seed: int = SEED
) -> tuple[float, float | None]:
    """KID (Binkowski 2018, arXiv 1801.01401): mean and standard deviation over random subsets of `size`.

    Kernel (x y / D + 1)^3, subsets as torch-fidelity draws them. Where a set has fewer rows than `size`, subsets
    are as large as that set. The deviation is None where each subset is both sets whole: all are the same, and their
    spread of 0 says nothing of the estimate's.
    """
    a, b = _checked(a, b)
    size, dims, rng = min(size, len(a), len(b)), a.shape[1], np.random.RandomState(seed)

    def poly(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x @ y.T / dims + 1) ** 3

    values = []
    for _ in range(subsets):
        x, y = (features[rng.choice(len(features), size, replace=False)] for features in (a, b))
        values.append(_mmd(poly(x, x), poly(y, y), poly(x, y)))
    whole = size == len(a) == len(b)
    return float(np.mean(values)), None if whole else float(np.std(values))


def cmmd(a: Features, b: Features, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """CMMD (Jayasumana 2024, arXiv 2401.09603): squared MMD of unit-length CLIP embeddings, RBF kernel, times 1000.

    The minimum-variance biased estimator, as in the paper's code. Rows are brought to unit length.
    """
    x, y = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in _checked(a, b))

    def rbf(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
        return float(np.exp(-squares / (2 * sigma**2)).mean())

    return scale * (rbf(x, x) + rbf(y, y) - 2 * rbf(x, y))


def inception_score(logits: Features, splits: int = 10, seed: int = SEED) -> tuple[float, float]:
    """Mean and standard deviation over splits of exp(E KL(p(y|x) || p(y))) (Salimans 2016, arXiv 1606.03498).

    logits  [N, classes], in an order of no meaning: shuffled by `seed` first, and split, as torch-fidelity does

    Raises CurationError for N < splits.
    """
    (logits,) = _checked(logits)
    if len(logits) < splits:
        raise CurationError(f"{len(logits)} samples do not make {splits} splits")
    logits = logits[np.random.RandomState(seed).permutation(len(logits))]
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    scores = []
    bounds = [i * len(log_p) // splits for i in range(splits + 1)]
    for part in (log_p[start:end] for start, end in pairwise(bounds)):
        p = np.exp(part)
        scores.append(np.exp((p * (part - np.log(p.mean(0)))).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def clip_score(cosines: Features) -> float:
    """100 times the mean cosine of a picture and its caption, not below 0, as torchmetrics counts it.

    The paper (arXiv 2104.08718) cuts off each pair at 0: the same wherever no pair is opposed, as with trained CLIPs.
    """
    return max(0.0, 100 * float(np.asarray(cosines, np.float64).mean()))
