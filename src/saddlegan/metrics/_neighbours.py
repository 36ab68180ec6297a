"""What nearest neighbours say: samples within the data's support, data within the samples', and copies of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from saddlegan import checks
from saddlegan.checks import RandomState
from saddlegan.errors import InputError
from saddlegan.metrics._measurement import Features, Measurement, blocks, halves, measured, read_pair

ROUNDING = 1e-12  # squared distances below this share of the squared norms are 0: they come from a Gram matrix


def precision_recall(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
    k: int = 3,
) -> Measurement:
    """Precision and recall of supports, each support the union of balls that reach to the k-th neighbour.

        precision = share of y with ||y - x_i|| <= r_k(x_i) for some i;   recall: the same with x and y exchanged

    Args:
        real: rows (n, ...), more than k.
        generated: rows (m, ...), more than k.
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.
        k: the neighbour that a ball reaches to.

    Returns:
        `Measurement` whose value is the harmonic mean of both, in [0, 1], higher better; `precision`, `recall`,
        `precision_floor`, `recall_floor` in `stats`.

    Raises:
        InputError: too few rows, different lengths, or NaN.

    Warns:
        SampleSizeWarning: fewer samples than features.

    Reference:
        Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS 2019.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((200, 2))
        >>> precision_recall(real=x, generated=x, random_state=0).value
        1.0
    """
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    return _supports(PRECISION_RECALL, X, Y, H, checks.count("k", k), random_state)


def density_coverage(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
    k: int = 5,
) -> Measurement:
    """Density and coverage: how many real balls hold a sample, and how many real balls are hit.

        density = (1 / (k m)) sum_j #{i: y_j in B_k(x_i)};   coverage = share of i with some y_j in B_k(x_i)

    Args:
        real: rows (n, ...), more than k.
        generated: rows (m, ...).
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.
        k: the neighbour that a ball reaches to.

    Returns:
        `Measurement` whose value is the coverage, in [0, 1], higher better; `density`, `coverage`, `density_floor`,
        `coverage_floor` in `stats`. Density may exceed 1.

    Raises:
        InputError: too few rows, different lengths, or NaN.

    Warns:
        SampleSizeWarning: fewer samples than features.

    Reference:
        Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((200, 2))
        >>> density_coverage(real=x, generated=x[:20], random_state=0).stats["coverage"] < 0.6
        True
    """
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    return _supports(DENSITY_COVERAGE, X, Y, H, checks.count("k", k), random_state)


def copies(
    *,
    real: Any,
    generated: Any,
    features: Features | None = None,
    held_out: Any = None,
    random_state: RandomState = None,
    batch_size: int = 256,
    ratio: float = 0.5,
) -> Measurement:
    """Memorised samples: the share of y much nearer to a real row x than that row's own nearest neighbour.

        y is called a copy of its nearest real row x   if   ||y - x|| <= ratio * min_{x' != x} ||x' - x||

    Compare with the floor: in few dimensions real rows come that near to each other by chance, in many they do not.

    Args:
        real: rows (n, ...): what the generator was trained on.
        generated: rows (m, ...).
        features: callable on a block of rows, giving (block, k); the rows themselves if None.
        held_out: further real rows, at least m, for a floor at the very sizes; else real rows are halved.
        random_state: seed of the halves.
        batch_size: rows a call of `features`; the value does not depend on it.
        ratio: in (0, 1].

    Returns:
        `Measurement` whose value is the share of copies; `copies` (indices of generated rows), `originals` (their
        real rows), and `distinct` (share of distinct generated rows) in `stats`.

    Raises:
        InputError: too few rows, different lengths, NaN, or a ratio out of range.

    Warns:
        SampleSizeWarning: fewer samples than features.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((300, 20))
        >>> found = copies(real=x[:150], generated=np.r_[x[:5], x[150:245]], random_state=0)
        >>> found.value, found.stats["originals"]
        (0.05, (0, 1, 2, 3, 4))
    """
    ratio = checks.number("ratio", ratio, most=1.0)
    X, Y, H = read_pair(real, generated, held_out, features, batch_size)
    if len(X) < 4:
        raise InputError(f"`real` must hold at least 4 rows, got {len(X)}")
    called, nearest = _copies(X, Y, ratio)
    indices = np.flatnonzero(called)
    stats = {
        "copies": tuple(indices.tolist()),
        "originals": tuple(nearest[indices].tolist()),
        "distinct": len(np.unique(Y, axis=0)) / len(Y),
    }
    return measured(lambda A, B: float(_copies(A, B, ratio)[0].mean()), X, Y, H, random_state, stats=stats)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Two figures that come from one look at the balls, and the one of both that is the value."""

    names: tuple[str, str]
    figures: Callable[[np.ndarray, np.ndarray, int], tuple[float, float]]
    value: Callable[[float, float], float]


def _supports(
    kind: _Kind, X: np.ndarray, Y: np.ndarray, H: np.ndarray | None, k: int, random_state: RandomState
) -> Measurement:
    """The value of both figures; the single ones and their floors go to the stats."""
    if min(len(X), len(Y)) < 2 * (k + 1):
        raise InputError(f"`real` and `generated` must hold at least {2 * (k + 1)} rows for `k` = {k}")
    seed = checks.seed(random_state)
    if H is None:
        floors = [kind.figures(A, other, k) for A, _, other in halves(X, Y, np.random.default_rng(seed))]
    else:
        floors = [kind.figures(X, H[: len(Y)], k)]
    low = np.mean(floors, axis=0)
    stats: dict[str, float] = {"k": k}
    for i, (name, found) in enumerate(zip(kind.names, kind.figures(X, Y, k), strict=True)):
        stats |= {name: found, f"{name}_floor": float(low[i])}
    return measured(lambda A, B: kind.value(*kind.figures(A, B, k)), X, Y, H, seed, better="higher", stats=stats)


def _harmonic(precision: float, recall: float) -> float:
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def _precision_recall(X: np.ndarray, Y: np.ndarray, k: int) -> tuple[float, float]:
    rx, ry = radii(X, k), radii(Y, k)
    held_y, held_x = np.zeros(len(Y), bool), np.zeros(len(X), bool)
    for i in blocks(len(X)):
        for j in blocks(len(Y)):
            squares = squared_distances(X[i], Y[j])
            held_y[j] |= (squares <= rx[i][:, None]).any(0)
            held_x[i] |= (squares <= ry[j][None]).any(1)
    return float(held_y.mean()), float(held_x.mean())


def _density_coverage(X: np.ndarray, Y: np.ndarray, k: int) -> tuple[float, float]:
    rx, hits, covered = radii(X, k), 0, np.zeros(len(X), bool)
    for i in blocks(len(X)):
        for j in blocks(len(Y)):
            inside = squared_distances(X[i], Y[j]) <= rx[i][:, None]
            hits += int(inside.sum())
            covered[i] |= inside.any(1)
    return hits / (k * len(Y)), float(covered.mean())


PRECISION_RECALL = _Kind(("precision", "recall"), _precision_recall, _harmonic)
DENSITY_COVERAGE = _Kind(("density", "coverage"), _density_coverage, lambda density, coverage: coverage)


def _copies(X: np.ndarray, Y: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    own = radii(X, 1)
    least, nearest = np.full(len(Y), np.inf), np.zeros(len(Y), int)
    for j in blocks(len(Y)):
        for i in blocks(len(X)):
            squares = squared_distances(Y[j], X[i])
            at = squares.argmin(1)
            best = squares[np.arange(len(at)), at]
            better = best < least[j]
            nearest[j] = np.where(better, at + i.start, nearest[j])
            least[j] = np.where(better, best, least[j])
    # squares of distances on both sides
    return least <= ratio**2 * own[nearest], nearest


def radii(X: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th neighbour, itself not counted."""
    found = np.empty(len(X))
    for i in blocks(len(X)):
        least = np.empty((i.stop - i.start, 0))
        for j in blocks(len(X)):
            squares = squared_distances(X[i], X[j])
            if i == j:
                np.fill_diagonal(squares, np.inf)
            both = np.concatenate([least, squares], axis=1)
            least = np.partition(both, k - 1, axis=1)[:, :k] if both.shape[1] > k else both
        found[i] = least.max(1)
    return found * (1.0 + 1e-9)  # a point on the sphere counts as inside, whatever way it is rounded


def squared_distances(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(n, m), with what is only rounding of equal rows set to 0."""
    shift = X.mean(0)  # the Gram form cancels badly far from the origin
    X, Y = X - shift, Y - shift
    norms = (X**2).sum(1)[:, None] + (Y**2).sum(1)
    squares = norms - 2.0 * X @ Y.T
    return np.where(squares <= ROUNDING * norms, 0.0, squares)
