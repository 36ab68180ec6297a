"""The one-dimensional ReLU WGAN as a convex program: any number of generated values, any R_g, linear generators.

Convex conjugation turns stop-loss transforms into S(t), the integral of the largest fraction t of a sample, and keeps
the sup-norm; S is linear in the *sorted* generated values, so that the constraint (1) becomes linear:

    |S_x(t) - S_g(t)| <= beta,   |(S_x(1) - S_x(t)) - (S_g(1) - S_g(t))| <= beta    for all t in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import norm

from saddlegan.errors import InputError
from saddlegan.fit._convex import cvxpy, least_distance, solve
from saddlegan.results import Solution, Status

Regulariser = Callable[[Any], Any]


def sorted_program(
    x: np.ndarray, m: int, beta: float, *, regulariser: Regulariser | None = None
) -> tuple[np.ndarray, Solution]:
    """Solve min R_g(g) over m generated values subject to (1), for any convex and symmetric R_g.

    For R_g = E h(g) the closed form `winsorise` is a lower bound for every m, attained where n divides m; this program
    is for other m, and for regularisers that are no expectation (a variance, a largest value).

    Args:
        x: real sample (n,).
        m: number of generated values.
        beta: right side of (1).
        regulariser: from the descending values, a cvxpy expression (m,), to a convex scalar expression; it must not
            depend on their order. None is E g^2.

    Returns:
        The optimal values (m,), ascending, and the `Solution`; its residual is measured on them.

    Raises:
        MissingExtraError: cvxpy is missing.
        SolveError: no m values satisfy (1): beta is too small for so few.

    References:
        Theory 1.4; the oracle of `winsorise`.

    Example:
        >>> points, solution = sorted_program(np.array([1.0, -1.0]), 2, 0.05)
        >>> points.round(6).tolist()
        [-0.9, 0.9]
    """
    cp = cvxpy()
    n = len(x)
    scale = max(float(np.abs(x).max()), 1e-300)
    t = np.union1d(np.arange(n + 1) / n, np.arange(m + 1) / m)
    real = largest_fraction(x / scale, t)
    F = cp.Variable(m + 1)  # S_g at i/m: with it every constraint touches a handful of variables
    # the points are slopes of S_g: sorted points are a concave S_g, which `diff(g) <= 0` says
    g = m * cp.diff(F)
    fake = interpolation(t, m) @ F
    above = real - fake
    below = (real[-1] - real) - (F[m] - fake)
    bound = beta / scale
    constraints = [F[0] == 0, cp.abs(above) <= bound, cp.abs(below) <= bound]
    if m > 1:
        constraints.append(cp.diff(g) <= 0)
    objective = cp.sum_squares(g) / m if regulariser is None else regulariser(scale * g)
    problem = cp.Problem(cp.Minimize(objective), constraints)
    dual = solve(problem)
    points = np.sort(np.asarray(g.value)) * scale
    unit = scale**2 if regulariser is None else 1.0
    value = unit * float(problem.value)
    stats = {"beta": beta, "primal_residual": mismatch(x, points) - beta, "dual_residual": 0.0, "n_generated": m}
    return points, Solution(value, unit * dual, value - unit * dual, Status.OPTIMAL, stats)


def largest_fraction(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """S(t) = integral from 0 to t of the descending quantile function of the sample.

    Example:
        >>> largest_fraction(np.array([1.0, 3.0]), np.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [0.0, 0.75, 1.5, 2.0]
    """
    n = len(x)
    knots = np.concatenate([[0.0], np.cumsum(np.sort(x)[::-1])]) / n
    return np.interp(t, np.arange(n + 1) / n, knots)


def mismatch(x: np.ndarray, g: np.ndarray) -> float:
    """Left side of (1) for two samples of any sizes, in the form of this module's program."""
    t = np.union1d(np.arange(len(x) + 1) / len(x), np.arange(len(g) + 1) / len(g))
    above = largest_fraction(x, t) - largest_fraction(g, t)
    return float(max(np.abs(above).max(), np.abs(above[-1] - above).max()))


def interpolation(t: np.ndarray, m: int) -> csr_array:
    """Return the matrix that interpolates values at i/m, i = 0..m, to the abscissae t."""
    position = np.clip(t * m, 0, m)
    # 1e-12: a knot that rounding put just below itself must not take the interval before it
    left = np.minimum(np.floor(position + 1e-12).astype(int), m - 1)
    share = position - left
    rows = np.arange(len(t))
    entries = np.concatenate([1.0 - share, share])
    return csr_array((entries, (np.tile(rows, 2), np.concatenate([left, left + 1]))), shape=(len(t), m + 1))


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """Optimal g = scale * z + shift for z ~ N(0, 1), with its certificate and the neurons that hold it in place.

    Attributes:
        scale: w >= 0.
        shift: b.
        signs: (k,) of +1, -1: neurons (s y - threshold)_+.
        thresholds: (k,).
        weights: (k,) outer weights; sum |weights| beta is the price that the discriminator pays.
        solution: E g^2 = w^2 + b^2, its dual bound and residuals.
    """

    scale: float
    shift: float
    signs: np.ndarray
    thresholds: np.ndarray
    weights: np.ndarray
    solution: Solution


def linear_generator(x: np.ndarray, beta: float, *, max_cuts: int = 500, tolerance: float = 1e-10) -> LinearFit:
    """Solve the one-dimensional ReLU WGAN for g = z w + b with Gaussian latents, globally, on their population.

    S_g(t) = w k(t) + b t with k(t) = pdf(ppf(1 - t)): a quadratic program in (w, b) with one constraint per t. Cutting
    planes with an exact oracle: S_x - S_g is convex between the knots j/n, and S_g - S_x is largest where the two
    quantile functions meet.

    Args:
        x: real sample (n,).
        beta: right side of (1).
        max_cuts: rounds of cutting planes.
        tolerance: largest violation that is left, relative to the sample's size.

    Returns:
        `LinearFit`.

    Raises:
        InputError: no Gaussian is within beta of the sample.

    Example:
        >>> fit = linear_generator(norm.ppf((np.arange(1000) + 0.5) / 1000), 0.1)
        >>> fit.scale < 0.8, fit.solution.gap < 1e-9
        (True, True)
    """
    size = max(float(np.abs(x).max()), 1e-300)
    ascending = np.sort(x) / size
    n, level = len(x), beta / size
    descending = ascending[::-1]
    knots = np.arange(n + 1) / n
    rows, sides, families = [np.array([-1.0, 0.0])], [0.0], [(0, 0.0, 0.0)]  # w >= 0
    w, b, worst, lam = 0.0, 0.0, np.inf, np.zeros(1)
    mean = float(ascending.mean())
    for _ in range(max_cuts):
        # the quantile functions meet there: between two knots S_g - S_x is largest nowhere else
        crossing = np.clip(norm.sf((descending - b) / w), knots[:-1], knots[1:]) if w > 0 else knots[1:]
        t = np.concatenate([knots, crossing])
        # isf is infinite at both ends, where the density is 0: clipped, and overwritten by the where
        kernel = np.where((t > 0) & (t < 1), norm.pdf(norm.isf(np.clip(t, 1e-300, 1 - 1e-16))), 0.0)
        real = np.interp(t, knots, np.concatenate([[0.0], np.cumsum(descending)]) / n)
        above = real - w * kernel - b * t
        below = (mean - real) - b * (1 - t) + w * kernel
        violations = [above - level, -above - level, below - level, -below - level]
        worst = max(float(v.max()) for v in violations)
        if worst <= tolerance:
            break
        for family, violation in enumerate(violations):
            i = int(violation.argmax())
            # only what is violated: a cut that is met adds a row and no information
            if violation[i] <= 0.5 * tolerance:
                continue
            upper = np.array([kernel[i], t[i]]) if family < 2 else np.array([-kernel[i], 1 - t[i]])
            target = real[i] if family < 2 else mean - real[i]
            sign = -1.0 if family in (0, 2) else 1.0  # D pays where the data exceed the samples
            rows.append(sign * upper)
            sides.append(sign * target + level)
            threshold = (
                np.quantile(ascending, 1 - t[i], method="inverted_cdf")
                if sign > 0
                else w * float(norm.isf(np.clip(t[i], 1e-12, 1 - 1e-12))) + b
            )
            families.append((1 if family < 2 else -1, float(threshold), -sign))
        found = least_distance(np.stack(rows), np.array(sides))
        if found is None:
            raise InputError(
                f"`beta` {beta:g} is too small: no linear generator with Gaussian latents satisfies (1) on this "
                "sample; raise `beta` or use generator='free'"
            )
        y, lam = found
        w, b = max(float(y[0]), 0.0), float(y[1])
    A, c = np.stack(rows), np.array(sides)
    value = (w**2 + b**2) * size**2
    bound = -(0.25 * float(np.square(A.T @ lam).sum()) + float(c @ lam)) * size**2
    # back to data units: thresholds scale with x, multipliers with the constraint's right side
    kept = [(s, h * size, v * p * size) for (s, h, v), p in zip(families, lam, strict=True) if p > 0 and s]
    columns = np.array(kept).reshape(-1, 3)
    done = worst <= tolerance
    stats = {"beta": beta, "primal_residual": worst * size, "dual_residual": 0.0, "cuts": len(rows) - 1}
    solution = Solution(value, bound, value - bound, Status.OPTIMAL if done else Status.BUDGET_SPENT, stats)
    return LinearFit(w * size, b * size, columns[:, 0], columns[:, 0] * columns[:, 1], columns[:, 2], solution)
