"""Theory 1.3: the polynomial-discriminator WGAN as a semidefinite program, and its closed form for large d.

By the S-lemma, max over ||u|| = 1 of s (a u^T Delta u + b delta^T u) <= beta iff some t makes

    [ t I - s a Delta    -s b delta / 2 ]
    [        .              beta - t    ]   positive semidefinite;    Delta = M - P, delta = mu - m.

Its multiplier Y >= 0 has tr(Y_uu) = Y_11, hence is a sum of v_j (u_j, 1)(u_j, 1)^T with ||u_j|| = 1: neurons.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from saddlegan.errors import SolveError
from saddlegan.fit._convex import cvxpy, solve
from saddlegan.fit._polynomial_discrepancy import polynomial_discrepancy
from saddlegan.results import Solution, Status

SEMIDEFINITE_SIZE = 60  # dimension up to which `solver="auto"` takes the semidefinite program
RANK = 1e-8  # variances below, relative to the largest, are what an interior point keeps of zero
ACCURACY = 1e-6  # relative gap and residual up to which a solution counts as optimal


@dataclasses.dataclass(frozen=True)
class PolynomialOptimum:
    """Moments of the optimal generator, and a dual point.

    Attributes:
        mean: m (d,).
        moment: P = E g g^T (d, d).
        directions: unit rows u_j (k, d) of the discriminator sum_j v_j (a t^2 + b t + c), t = x^T u_j.
        outer: v_j (k,).
        solution: tr P, the dual bound, residuals.
    """

    mean: np.ndarray
    moment: np.ndarray
    directions: np.ndarray
    outer: np.ndarray
    solution: Solution


def solve_polynomial(
    mean: np.ndarray,
    moment: np.ndarray,
    beta: float,
    *,
    a: float,
    b: float,
    semidefinite: bool,
    time_limit: float = math.inf,
) -> PolynomialOptimum:
    """Minimise tr P over P >= m m^T subject to max over ||u|| = 1 of |a u^T (M - P) u + b (mu - m)^T u| <= beta.

    Args:
        mean: mu (d,) of the data.
        moment: M = E x x^T (d, d).
        beta: right side of (1).
        a: coefficient of t^2, not zero.
        b: coefficient of t.
        semidefinite: whether to solve the program of size d + 1 where the closed-form point leaves a gap.
        time_limit: seconds for that program; when they are over, the closed form and its gap are the answer.

    Returns:
        The optimum, with value, bound and residuals measured on its own (m, P) and (u, v).

    Raises:
        MissingExtraError: the semidefinite program needs cvxpy.

    References:
        Theory 1.3; [S22] theorem 3.3.

    Example:
        >>> optimum = solve_polynomial(np.zeros(2), np.diag([4.0, 1.0]), 1.5, a=1.0, b=1.0, semidefinite=False)
        >>> optimum.solution.value, optimum.solution.bound
        (2.5, 2.5)
    """
    # unit scale for every step: x -> x / size and the constraint divided by |a| size^2 leave a = +-1 and values of O(1)
    size = float(np.sqrt(max(np.trace(moment), 1e-300)))
    unit = (mean / size, moment / size**2, beta / (abs(a) * size**2), float(np.sign(a)), b / (abs(a) * size))
    found = polynomial_discrepancy(torch.as_tensor(unit[1]), torch.as_tensor(unit[0]), a=unit[3], b=unit[4])
    if found.upper <= unit[2]:  # G = 0 satisfies (1)
        m, P, nobody = 0.0 * mean, 0.0 * moment, (np.zeros((0, len(mean))), np.zeros(0))
        optimum = _measured(*unit, m, P, *nobody, solver="closed-form")
    else:
        m, P = closed_form(*unit[:3])
        optimum = _measured(*unit, m, P, *_spectral_dual(*unit[1:4]), solver="closed-form")
    if semidefinite and optimum.solution.status is not Status.OPTIMAL:
        optimum = _refined(*unit, optimum, time_limit)
    solution = optimum.solution
    value, bound = solution.value * size**2, solution.bound * size**2
    residual = solution.stats["primal_residual"] * abs(a) * size**2
    stats = {**solution.stats, "beta": beta, "primal_residual": residual, "total_moment": float(np.trace(moment))}
    return PolynomialOptimum(
        size * optimum.mean,
        size**2 * optimum.moment,
        optimum.directions,
        optimum.outer / abs(a),
        Solution(value, bound, value - bound, solution.status, stats),
    )


def _refined(
    mean: np.ndarray, moment: np.ndarray, beta: float, a: float, b: float, closed: PolynomialOptimum, time_limit: float
) -> PolynomialOptimum:
    """Close the gap of the closed form by the semidefinite program, in unit scale; keep the better of each side."""
    try:
        m, P, directions, outer = _program(mean, moment, beta, a, b, time_limit)
    except SolveError as error:  # the closed form is feasible whatever became of the program
        stats = {**closed.solution.stats, "reason": str(error)}
        return dataclasses.replace(closed, solution=dataclasses.replace(closed.solution, stats=stats))
    # (1) is convex in (m, P) and 0 at the data's own moments: a rounding's violation is removed by moving there
    found = polynomial_discrepancy(torch.as_tensor(moment - P), torch.as_tensor(mean - m), a=a, b=b)
    excess = found.value - beta
    t = 0.0 if excess <= 0.0 else min(1.0, excess / found.value)
    m, P = (1.0 - t) * m + t * mean, (1.0 - t) * P + t * moment
    optimum = _measured(mean, moment, beta, a, b, m, P, directions, outer, solver="semidefinite")
    if closed.solution.bound > optimum.solution.bound:
        directions, outer = closed.directions, closed.outer
    if closed.solution.value < optimum.solution.value:
        m, P = closed.mean, closed.moment
    return _measured(mean, moment, beta, a, b, m, P, directions, outer, solver="semidefinite")


def closed_form(mean: np.ndarray, moment: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the feasible point m = mu, P = mu mu^T + (C - level I)_+, whatever b is."""
    # the covariance is thresholded, so the means agree and the linear part of (1) vanishes whatever b is
    values, vectors = np.linalg.eigh(moment - np.outer(mean, mean))
    return mean, np.outer(mean, mean) + (vectors * np.maximum(values - level, 0.0)) @ vectors.T


def _spectral_dual(moment: np.ndarray, beta: float, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Dual point of the quadratic WGAN with beta / |a|, its linear parts cancelled in pairs u, -u."""
    values, vectors = np.linalg.eigh(moment)
    kept = vectors[:, values > beta / abs(a)].T
    return np.vstack([kept, -kept]), np.full(2 * len(kept), 0.5 / a)


def _program(
    mean: np.ndarray, moment: np.ndarray, beta: float, a: float, b: float, time_limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    cp = cvxpy()
    d = len(mean)
    Q = cp.Variable((d + 1, d + 1), PSD=True)  # [[P, m], [m^T, 1]]
    t = cp.Variable(2)
    P, m = Q[:d, :d], Q[:d, d : d + 1]
    constraints = [Q[d, d] == 1.0]
    for i, s in enumerate((1.0, -1.0)):
        edge = (-0.5 * s * b) * (mean[:, None] - m)
        corner = t[i] * np.eye(d) - (s * a) * (moment - P)
        constraints.append(cp.bmat([[corner, edge], [edge.T, cp.reshape(beta - t[i], (1, 1), order="C")]]) >> 0)
    solve(cp.Problem(cp.Minimize(cp.trace(P)), constraints), time_limit=time_limit)
    neurons = [_neurons(0.5 * (c.dual_value + c.dual_value.T)) for c in constraints[1:]]
    directions = np.vstack([u for u, _ in neurons])
    outer = np.concatenate([s * v for s, (_, v) in zip((1.0, -1.0), neurons, strict=True)])
    return Q.value[:d, d], Q.value[:d, :d], directions, outer


def _neurons(Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write Y >= 0 with tr Y_uu = Y_11 as sum_j v_j (u_j, 1)(u_j, 1)^T, ||u_j|| = 1 (Sturm and Zhang's rotation)."""
    values, vectors = np.linalg.eigh(Y)
    # a factor of Y by its eigenvectors; any rotation of its rows is one too, which the loop below uses
    rows = [np.sqrt(v) * vectors[:, i] for i, v in enumerate(values) if v > 1e-12 * max(values[-1], 1e-300)]

    def form(p: np.ndarray) -> float:
        return float(p[:-1] @ p[:-1] - p[-1] ** 2)

    done: list[np.ndarray] = []
    while rows:
        rows.sort(key=form)
        low, high = rows[0], rows[-1]
        if len(rows) == 1 or form(low) >= 0.0 or form(high) <= 0.0:
            done += rows  # all forms have one sign and sum to zero: rounding is left
            break
        # (low + r high) / sqrt(1 + r^2) with form zero; the orthogonal combination keeps the sum
        cross = float(low[:-1] @ high[:-1] - low[-1] * high[-1])
        # form(low) < 0 < form(high): one root of either sign, and the positive one keeps both weights positive
        r = (-cross + np.sqrt(cross**2 - form(low) * form(high))) / form(high)
        done.append((low + r * high) / np.sqrt(1.0 + r * r))
        rows = [*rows[1:-1], (high - r * low) / np.sqrt(1.0 + r * r)]
    # (u, 1) and (-u, -1) are one rank-one matrix: the last entry is made positive
    points = [(p * np.sign(p[-1] or 1.0)) for p in done]
    kept = [p for p in points if np.linalg.norm(p[:-1]) > 1e-9]
    if not kept:
        return np.zeros((0, len(Y) - 1)), np.zeros(0)
    directions = np.stack([p[:-1] / np.linalg.norm(p[:-1]) for p in kept])
    return directions, np.array([np.linalg.norm(p[:-1]) * p[-1] for p in kept])


def _measured(
    mean: np.ndarray,
    moment: np.ndarray,
    beta: float,
    a: float,
    b: float,
    m: np.ndarray,
    P: np.ndarray,
    directions: np.ndarray,
    outer: np.ndarray,
    *,
    solver: str,
) -> PolynomialOptimum:
    values, vectors = np.linalg.eigh(P - np.outer(m, m))
    # a covariance, exactly, and without directions that only the interior-point method's rounding has
    least = RANK if solver == "semidefinite" else 0.0
    P = np.outer(m, m) + (vectors * np.where(values > least * max(values[-1], 0.0), values, 0.0)) @ vectors.T
    value = float(np.trace(P))
    outer, bound, dual_residual = dual_bound(mean, moment, beta, a, b, directions, outer)
    found = polynomial_discrepancy(torch.as_tensor(moment - P), torch.as_tensor(mean - m), a=a, b=b)
    # a gap is small beside what the discriminator can change; a mean far from 0 would hide any gap
    spread = float(np.trace(moment) - mean @ mean) + float(np.linalg.norm(mean)) * min(1.0, beta / max(abs(b), 1e-300))
    scale = max(min(spread, float(np.trace(moment))), 1e-300)
    primal_residual = found.value - beta
    tight = value - bound <= ACCURACY * scale and primal_residual <= ACCURACY * max(beta, abs(a) * scale)
    stats = {
        "beta": beta,
        "primal_residual": primal_residual,
        "dual_residual": dual_residual,
        "solver": solver,
        "neurons": len(outer),
        "total_moment": float(np.trace(moment)),
    }
    solution = Solution(value, bound, value - bound, Status.OPTIMAL if tight else Status.FEASIBLE, stats)
    return PolynomialOptimum(m, P, directions, outer, solution)


def dual_bound(
    mean: np.ndarray,
    moment: np.ndarray,
    beta: float,
    a: float,
    b: float,
    directions: np.ndarray,
    outer: np.ndarray,
) -> tuple[np.ndarray, float, float]:
    """Value of the discriminator sum_j v_j (a t^2 + b t + c) against its best generator, a bound for every generator.

        E D(x) - beta sum |v| - b^2/4 y^T (I - a Lambda)^-1 y,   Lambda = sum_j v_j u_j u_j^T,  y = sum_j v_j u_j

    It is finite only for a Lambda <= I: the weights are shrunk until that holds, which keeps the bound valid.

    Returns:
        The shrunk weights, the bound, and lambda_max(a Lambda) - 1 at those weights.
    """
    best = (0.0 * outer, 0.0, -1.0 if len(outer) == 0 else 0.0 - 1.0)
    if len(outer) == 0:
        return best
    top = float(np.linalg.eigvalsh(a * (directions.T * outer) @ directions)[-1])
    # a shrunk point is dual feasible too, and the bound stays valid
    start = 1.0 if top <= 1.0 else 1.0 / top
    for shrink in start * (1.0 - np.array([0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4])):
        v = shrink * outer
        spectrum, vectors = np.linalg.eigh(a * (directions.T * v) @ directions)
        y = vectors.T @ (v @ directions)
        room = 1.0 - spectrum
        flat = room <= 1e-13
        if flat.any() and np.abs(y[flat]).max() > 1e-13 * np.abs(v).sum() and b != 0.0:
            continue  # the generator's best reply is unbounded here
        reply = 0.25 * b**2 * float((y[~flat] ** 2 / room[~flat]).sum())
        gain = float(v @ (a * np.einsum("ki,ij,kj->k", directions, moment, directions) + b * directions @ mean))
        bound = gain - beta * float(np.abs(v).sum()) - reply
        if bound > best[1]:
            best = (v, bound, float(spectrum[-1] - 1.0))
    return best
