"""Quadratics over a ball or a sphere, solved exactly by one eigendecomposition and a secular equation."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import root_scalar


@dataclasses.dataclass(frozen=True)
class Minimum:
    """A global minimum with its proof.

    Attributes:
        point: minimiser (d,).
        value: the function at `point`, an upper bound of the minimum.
        bound: value of the Lagrangian dual, a lower bound of the minimum.
    """

    point: np.ndarray
    value: float
    bound: float


def minimise(A: np.ndarray, b: np.ndarray, *, radius: float, sphere: bool = False) -> Minimum:
    """Minimise x^T A x + 2 b^T x over ||x|| <= radius, or over ||x|| = radius.

    The dual, max_t -b^T (A + t I)^-1 b - t radius^2 over t >= -lambda_min(A) (and t >= 0 for the ball), has the same
    value although A may be indefinite; its maximiser gives x = -(A + t I)^-1 b, completed along the lowest eigenvector
    in the hard case.

    Args:
        A: symmetric matrix (d, d).
        b: vector (d,).
        radius: positive.
        sphere: whether the minimiser must lie on the boundary.

    References:
        Theory 1.3 (trust-region problem); the S-lemma.

    Example:
        >>> found = minimise(np.diag([-1.0, 2.0]), np.zeros(2), radius=3.0)
        >>> round(found.value, 9), round(found.bound, 9)
        (-9.0, -9.0)
    """
    values, Q = np.linalg.eigh((A + A.T) / 2)
    c = Q.T @ b
    scale = max(float(np.abs(values).max()), float(np.linalg.norm(c)) / radius, np.finfo(float).tiny)
    floor = -values[0]
    lowest = floor if sphere else max(floor, 0.0)
    # gaps below this are rounding of eigh, and no slope may be divided by them
    tiny = 1e-13 * scale

    def coordinates(t: float) -> np.ndarray:
        gap = values + t
        safe = gap > tiny
        return np.where(safe, -c / np.where(safe, gap, 1.0), 0.0)

    def excess(t: float) -> float:
        return float(np.linalg.norm(-c / (values + t))) - radius

    # the secular equation has a pole at t = lowest: start beside it, where the norm is finite
    start = lowest + tiny
    if not sphere and values[0] > tiny and np.linalg.norm(c / values) <= radius:
        t, y = 0.0, -c / values
    elif excess(start) > 0:
        # there every gap is at least |c| / radius, so that the point lies within the radius: a bracket
        stop = lowest + float(np.linalg.norm(c)) / radius + 2 * tiny
        t = root_scalar(excess, bracket=(start, stop), xtol=1e-15 * scale, rtol=8 * np.finfo(float).eps).root
        y = coordinates(t)
    else:  # the hard case: no component along the lowest eigenvector
        t = lowest
        y = coordinates(t)
        if sphere or floor >= 0:
            # moving along the lowest eigenvector changes neither slope nor dual: go as far as the sphere
            y[0] += np.sqrt(max(radius**2 - float(y @ y), 0.0))
    length = float(np.linalg.norm(y))
    # the root is exact to rounding only: put the point where it is feasible, and measure the value there
    if length > radius or (sphere and length > 0):
        y *= radius / length
    value = float(values @ y**2 + 2 * c @ y)
    gap = values + t
    used = gap > tiny
    # along directions without curvature left, b must vanish: what is left of it costs at most 2 |c| radius
    loose = float(np.linalg.norm(c[~used]))
    # A + t I may be negative by rounding, up to `tiny`, which costs at most tiny radius^2 over the ball
    bound = float(-np.sum(c[used] ** 2 / gap[used]) - t * radius**2 - 2 * loose * radius - tiny * radius**2)
    return Minimum(Q @ y, value, min(bound, value))
