"""Label-free numbers of features (N, D): formulas alone, in float64. Undefined is NaN, as the slope of five dimensions.

Those of eigenvalues take the covariance's, (D,), in any order.
"""

import math
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special
import torch
from numpy.typing import NDArray

from ssbench.results.metrics import Array
from ssbench.training.diagnostics import rankme as of_features

RANKS = 10, 100  # of the eigenvalues that alpha-ReQ's line is fitted to, both ends in; the last at most D
BLANK = 1e-12  # of the largest eigenvalue, under which one is of rounding
DELTA, EPS = 1e-4, 1e-8  # LiDAR's
SHARE = 0.9  # of the ratios that TwoNN reads; the largest are the least reliable (Facco et al. 2017)


def compact(x: Array) -> Array:
    """The same points in at most N dimensions: (N, D) -> (N, min(N, D)), turned, so that inner products stay."""
    return np.asarray(np.linalg.qr(x.T).R.T) if x.shape[1] > len(x) else x


def unit(x: Array) -> Array:
    """Rows of length 1; zeros stay."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True).clip(1e-12))


def eigenvalues(products: Array) -> Array:
    """Of a matrix of sums of products, (D,), the largest first, none below 0."""
    return np.asarray(np.linalg.eigvalsh(products)[::-1].clip(0))


def rankme(values: Array) -> float:
    """From the eigenvalues of X'X, not centred: singular values are their roots (Garrido et al. 2023)."""
    return of_features(torch.from_numpy(np.diag(np.sqrt(values))))


def effective_rank(values: Array, eps: float = 0.0) -> float:
    """exp of the entropy of eigenvalues' shares (Roy and Vetterli 2007): 1 to D; 0 where nothing varies."""
    p = values / max(values.sum(), 1e-300) + eps
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum())) if values.any() else 0.0


def alpha(values: Array) -> float:
    """alpha-ReQ (Agrawal et al. 2022, where near 1 is good): -slope of log eigenvalue against log rank.

    By least squares over ranks 10 to min(100, D); eigenvalues of rounding are left out.
    """
    ordered = np.sort(values)[::-1][: RANKS[1]]
    kept = np.arange(len(ordered)) >= RANKS[0] - 1
    kept &= ordered > BLANK * ordered[0]
    if kept.sum() < 2:
        return math.nan
    return -float(np.polyfit(np.log(np.flatnonzero(kept) + 1), np.log(ordered[kept]), 1)[0])


def nesum(values: Array) -> float:
    """Sum of eigenvalues over the largest (He and Ozay 2022): 1 to D; 0 where nothing varies."""
    return float(values.sum() / values.max()) if values.any() else 0.0


def participation(values: Array) -> float:
    """(sum of eigenvalues)^2 over the sum of squares: 1 to D; 0 where nothing varies."""
    return float(values.sum() ** 2 / (values**2).sum()) if values.any() else 0.0


def lidar(views: Array) -> float:
    """Effective rank of Sw^-1/2 Sb Sw^-1/2 of q views (n, q, D) of n images each (Thilak et al. 2024).

    Sb is of the n means, over n - 1; Sw of views about their mean, over n (q - 1), with 1e-4 added to its diagonal.
    """
    n, q, d = views.shape
    if n < 2:
        return math.nan
    means = views.mean(1)
    apart, around = means - means.mean(0), (views - means[:, None]).reshape(-1, d)
    within = around.T @ around / (n * (q - 1)) + DELTA * np.eye(d)
    found = scipy.linalg.eigh(apart.T @ apart / (n - 1), within, eigvals_only=True)
    return effective_rank(found.clip(0), EPS)


def ratios(distances: Array) -> Array:
    """log(r2 / r1) of each sample's two nearest others at a distance above 0, (N,); NaN where there are not two.

    `distances` is (N, N), squared; those of rounding, under 1e-12 of the mean, are duplicates.
    """
    if len(distances) < 3:
        return np.full(len(distances), np.nan)
    far = np.where(distances > BLANK * distances.mean(), distances, np.inf)
    near = np.partition(far, 1, axis=1)[:, :2]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isfinite(near).all(1), np.log(near[:, 1] / near[:, 0]) / 2, np.nan))


def two_nn(logs: Array) -> float:
    """Intrinsic dimension from `ratios` by maximum likelihood (Facco et al. 2017), the largest tenth as censored."""
    known = np.sort(logs[~np.isnan(logs)])
    kept = int(SHARE * len(known))
    total = known[:kept].sum() + (len(known) - kept) * known[kept - 1] if kept else 0
    return float(kept / total) if total > 0 else math.nan


def squared(x: Array) -> Array:
    """Squared distances of rows, (N, N)."""
    norms = (x**2).sum(1)
    return np.asarray((norms[:, None] + norms - 2 * x @ x.T).clip(0))


def uniformity(potential: Array) -> float:
    """log of the mean of exp(-2 ||z_i - z_j||^2), (N, N), over pairs of different samples (Wang and Isola 2020)."""
    n = len(potential)
    return float(np.log((potential.sum() - np.trace(potential)) / (n * (n - 1)))) if n > 1 else math.nan


def alignment(one: Array, other: Array) -> Array:
    """||z_i - z'_i||^2 of two views of each image, unit vectors (N, D), (N,) (Wang and Isola 2020, alpha 2)."""
    return np.asarray(((one - other) ** 2).sum(1))


def infonce(one: Array, other: Array, temperature: float) -> Array:
    """What each pair adds to the bound log N - loss on mutual information, in nats, (N,), at most log N.

    van den Oord et al. 2018, arXiv:1807.03748, with cosine over temperature as critic, both directions averaged.
    """
    scores = one @ other.T / temperature
    loss = (scipy.special.logsumexp(scores, axis=0) + scipy.special.logsumexp(scores, axis=1)) / 2 - np.diag(scores)
    return np.asarray(np.log(len(one)) - loss)


def collapse(x: Array) -> float:
    """sqrt(D) times the mean over dimensions of the deviation of unit vectors: 0 collapsed, 1 at most (SimSiam)."""
    return float(x.std(0).mean() * math.sqrt(x.shape[1]))


def told_by_nearest(clusters: NDArray[np.integer[Any]], half: NDArray[np.bool_], distances: Array) -> Array:
    """In %, whether the nearest sample of the other half is in a sample's cluster, (N,)."""
    nearest = np.where(half[:, None] != half, distances, np.inf).argmin(1)
    return np.asarray(100.0 * (clusters == clusters[nearest]))


def principal(x: Array, most: int) -> Array:
    """Leading principal coordinates (N, at most `most`), at a mean square of 1."""
    u, s, _ = np.linalg.svd(compact(x - x.mean(0)), full_matrices=False)
    coordinates = (u * s)[:, :most]
    return np.asarray(coordinates / max(float(np.sqrt((coordinates**2).mean())), 1e-12))
