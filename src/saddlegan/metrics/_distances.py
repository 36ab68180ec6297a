"""Distances between two samples: of their Gaussians, of their kernel means, of their projections."""

from __future__ import annotations

from typing import Any

import numpy as np

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.metrics._measurement import SPLITS, Features, Measurement, blocks, found, measured, read_pair, splits

PROJECTIONS = 128
MIND_PROJECTIONS = 1000
PROTOCOLS = ("sliced", "mind")


def frechet(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
) -> Measurement:
    """Frechet distance: the squared W2 distance of the two Gaussians with the samples' moments.

        ||mu_1 - mu_2||^2 + tr C_1 + tr C_2 - 2 tr (C_1 C_2)^(1/2)

    With centred rows A and B, C = A^T A, the last trace is the nuclear norm of A B^T: exact for any n and d, without
    a matrix root. The estimate is biased upwards by about (tr C) (1/n + 1/m) and more where n < d: read the floor.

    Args:
        real: rows (n, ...).
        generated: rows (m, ...).
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.

    Returns:
        `Measurement`, in squared feature units.

    Raises:
        InputError: fewer than 2 rows, different lengths, or NaN.

    Warns:
        SampleSizeWarning: fewer samples than features.

    Reference:
        Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017 (there on Inception features).

    Example:
        >>> x = np.random.default_rng(0).standard_normal((500, 3))
        >>> round(frechet(real=x, generated=x + 2.0, random_state=0).value, 6)
        12.0
    """
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    return measured(gaussian_distance, X, Y, H, random_state)


def gaussian_distance(X: np.ndarray, Y: np.ndarray) -> float:
    """The Frechet distance of features (n, d) and (m, d)."""
    shift = X.mean(0) - Y.mean(0)
    A, B = ((Z - Z.mean(0)) / np.sqrt(max(1, len(Z) - 1)) for Z in (X, Y))
    total = (A**2).sum() + (B**2).sum()
    # a triangular factor has the Gram matrix of the rows, and is smaller where there are more rows than columns
    A, B = (np.asarray(np.linalg.qr(Z, mode="r")) if len(Z) > Z.shape[1] else Z for Z in (A, B))
    cross = np.linalg.svd(A @ B.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + total - 2.0 * cross))


def kernel(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
) -> Measurement:
    """Kernel distance: the squared maximum mean discrepancy under k(x, y) = (x^T y / d + 1)^3, unbiased.

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    The first choice with few samples: its mean is 0 for equal distributions at every n, so it may fall below 0 by
    chance, and does for a sample against itself, whose equal pairs the cross term counts and the others leave out.

    Args:
        real: rows (n, ...).
        generated: rows (m, ...).
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.

    Returns:
        `Measurement`, in the kernel's units.

    Raises:
        InputError: fewer than 2 rows, different lengths, or NaN.

    Warns:
        SampleSizeWarning: fewer samples than features.

    Reference:
        Binkowski et al., Demystifying MMD GANs, ICLR 2018.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((400, 2))
        >>> found = kernel(real=x[:200], generated=x[200:] + 1.0, random_state=0)
        >>> found.value > 1.0, found.above_floor > 3.0
        (True, True)
    """
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    drawn = list(splits(len(X), len(Y), np.random.default_rng(checks.seed(random_state))))
    fewest = min(map(len, drawn[0]))
    if fewest < 2:
        raise InputError(f"the kernel distance needs at least 4 rows of each sample, got {len(X)} and {len(Y)}")
    # every kernel value is computed once: which half it counts in is a product with indicators of the halves
    halves_x, halves_y, others = (
        _indicators(indices, n) for indices, n in zip(zip(*drawn, strict=True), (len(X), len(Y), len(X)), strict=True)
    )
    every_x, every_y = np.ones((1, len(X))), np.ones((1, len(Y)))
    left = np.concatenate([every_x, halves_x, others, halves_x])
    within_x, within_a, within_other, a_other = np.split(
        _kernel_means(X, X, left, np.concatenate([every_x, halves_x, others, others]), apart=1 + 2 * SPLITS),
        (1, 1 + SPLITS, 1 + 2 * SPLITS),
    )
    in_y = np.concatenate([every_y, halves_y])
    within_y, within_b = np.split(_kernel_means(Y, Y, in_y, in_y, apart=1 + SPLITS), (1,))
    cross, a_b = np.split(_kernel_means(X, Y, left[: 1 + SPLITS], in_y), (1,))
    at_rows = None
    if H is not None:
        H = H[: len(Y)]
        at_rows = float(
            (within_x + _kernel_means(H, H, every_y, every_y, apart=1) - 2.0 * _kernel_means(X, H, every_x, every_y))[0]
        )
    return found(
        X,
        Y,
        float((within_x + within_y - 2.0 * cross)[0]),
        within_a + within_b - 2.0 * a_b,
        within_a + within_other - 2.0 * a_other,
        at_rows,
    )


def _indicators(indices: tuple[np.ndarray, ...], n: int) -> np.ndarray:
    """Rows that are 1 at the indices and 0 elsewhere, (number of index arrays, n)."""
    rows = np.zeros((len(indices), n))
    for row, chosen in zip(rows, indices, strict=True):
        row[chosen] = 1.0
    return rows


def _kernel_means(X: np.ndarray, Y: np.ndarray, left: np.ndarray, right: np.ndarray, *, apart: int = 0) -> np.ndarray:
    """Means of the cubic kernel over pairs of chosen rows, (number of choices,).

    Args:
        X: features (n, d).
        Y: features (m, d); X itself where pairs within a sample are meant.
        left: which rows of X each mean is over, ones and zeros (choices, n).
        right: of Y (choices, m).
        apart: the first so many means are of one choice with itself, and leave a row paired with itself out: the
            unbiased estimate, which may be negative where the samples agree.
    """
    d, total = X.shape[1], np.zeros(len(left))
    for i in blocks(len(X)):
        for j in blocks(len(Y)):
            k = X[i] @ Y[j].T / d + 1.0
            total += ((left[:, i] @ (k * k * k)) * right[:, j]).sum(1)
    pairs = left.sum(1) * right.sum(1)
    total[:apart] -= left[:apart] @ ((X**2).sum(1) / d + 1.0) ** 3
    pairs[:apart] -= left[:apart].sum(1)
    return total / pairs


def sliced(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
    projections: int | None = None,
    p: int = 2,
    protocol: str = "sliced",
) -> Measurement:
    """Sliced Wasserstein distance: the p-mean over random directions u of W_p between the projections.

        ( mean_u W_p(u^T x, u^T y)^p )^(1/p),    with `protocol` "mind"    3 d mean_u W_2(u^T x, u^T y)^2

    Each one-dimensional distance is exact, by sorting, also for samples of different sizes. The directions are the
    same for the value, its floor and its error. In one dimension the first is W_p itself. MIND is defined for two
    samples of one size, on the 2,048 features of the Inception network, which are not at hand: on other features its
    figures are comparable among themselves, not with published ones.

    Args:
        real: rows (n, ...).
        generated: rows (m, ...).
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of directions and halves.
        batch_size: rows a call of `features`; the value does not depend on it.
        projections: number of directions; if None 128, and 1,000 with "mind".
        p: 1 or 2.
        protocol: "sliced", or "mind", the Monge Inception Distance's scale, number of directions and equal sizes.

    Returns:
        `Measurement`, in feature units; with "mind" in their squares.

    Raises:
        InputError: fewer than 2 rows, different lengths, NaN, another `p` or `protocol`, or with "mind" samples of two
            sizes.

    Warns:
        SampleSizeWarning: fewer samples than features.

    References:
        Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015. Berthet et al., MIND: Monge
        Inception Distance for Generative Models Evaluation, 2026 (arXiv 2605.06797).

    Example:
        >>> x = np.random.default_rng(0).standard_normal((100, 1))
        >>> round(sliced(real=x, generated=x + 2.0, random_state=0).value, 9)
        2.0
        >>> round(sliced(real=x, generated=x + 2.0, protocol="mind", random_state=0).value, 9)
        12.0
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    mind = protocol == "mind"
    if projections is None:
        projections = MIND_PROJECTIONS if mind else PROJECTIONS
    projections = checks.count("projections", projections)
    p = checks.count("p", p)
    if p not in (1, 2) or (mind and p != 2):
        raise InputError(f"`p` must be {'2 for MIND' if mind else '1 or 2'}, got {p!r}")
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    if mind and len(X) != len(Y):
        raise InputError(f"MIND takes `real` and `generated` of one size, got {len(X)} and {len(Y)}; cut the larger")
    seed = checks.seed(random_state)
    U = np.random.default_rng([seed, 1]).standard_normal((X.shape[1], projections))
    U /= np.linalg.norm(U, axis=0)

    def estimate(A: np.ndarray, B: np.ndarray) -> float:
        mean = line_distances(A @ U, B @ U, p).mean()
        # 3 d: of a Gaussian's shift, where mean_u (u^T s)^2 = |s|^2 / d, MIND is 3 |s|^2
        return float(3.0 * A.shape[1] * mean if mind else mean ** (1.0 / p))

    return measured(estimate, X, Y, H, seed, stats={"projections": projections, "p": p, "protocol": protocol})


def line_distances(X: np.ndarray, Y: np.ndarray, p: int) -> np.ndarray:
    """W_p^p of each column of X (n, k) to the same column of Y (m, k), exact: quantile functions are step functions."""
    n, m = len(X), len(Y)
    X, Y = np.sort(X, axis=0), np.sort(Y, axis=0)
    if n == m:
        return (np.abs(X - Y) ** p).mean(0)
    # in units of 1 / (n m) both functions step at whole numbers, so no rounding can misplace a step
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    widths = np.diff(ends, prepend=0) / (n * m)
    return widths @ np.abs(X[(ends - 1) // m] - Y[(ends - 1) // n]) ** p
