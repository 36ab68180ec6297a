"""The geometry behind ReLU discriminators: E (x^T u)_+ is the support function of the sample's zonotope.

    E (x^T u)_+ = max { u^T v : v in Z_X },    Z_X = { (1/n) sum_i s_i x_i : 0 <= s_i <= 1 },

so that sup over ||u|| <= 1 of |E (x^T u)_+ - E (g^T u)_+| is the Hausdorff distance of Z_X and Z_G: from some vertex of
the one to the other. A vertex belongs to an activation pattern; the distance to a zonotope is a convex problem.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from saddlegan.fit.relu._arrangements import cells

MAX_ITERATIONS = 1000
DESCENT_STEPS = 30  # Frank-Wolfe steps that bound every vertex's distance before the exact ones are taken


def vertex(P: Tensor, U: Tensor) -> Tensor:
    """Return the vertices of Z_P in the directions U (k, d): half the mean of the points, plus half of their mirrors.

    Example:
        >>> vertex(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([[0.5000, 0.0000]])
    """
    return (U @ P.T > 0).to(P) @ P / P.shape[0]


def support(P: Tensor, U: Tensor) -> Tensor:
    """E (p^T u)_+ for the directions U (k, d)."""
    return torch.relu(U @ P.T).mean(1)


@dataclasses.dataclass(frozen=True)
class Projection:
    """Distance of a point to Z_P: `upper` is reached by a point of Z_P, `lower` by the halfspace of `direction`."""

    upper: float
    lower: float
    direction: Tensor


def project(point: Tensor, P: Tensor, *, tolerance: float = 1e-13, enough: float = 0.0) -> Projection:
    """Distance of `point` (d,) to the zonotope Z_P by Wolfe's algorithm: at most d + 1 vertices at a time, O(m d) each.

    Args:
        point: (d,), float64.
        P: sample (m, d), float64.
        tolerance: relative gap at which to stop.
        enough: a distance below which nobody asks how small it is: the search stops at a point of Z_P that is so near.

    Returns:
        `Projection`: two-sided, with the direction u that proves the lower side.

    References:
        Wolfe, Finding the nearest point in a polytope, Math. Programming 11 (1976).

    Example:
        >>> project(torch.tensor([3.0, 4.0]).double(), torch.zeros(1, 2).double()).upper
        5.0
    """
    # arrays, not tensors: a solver asks thousands of times, each time for a few products of a handful of numbers
    target, rows = point.cpu().numpy(), P.cpu().numpy()
    shares = rows / len(rows)
    corners = (target - (rows @ target > 0.0) @ shares)[None]  # of point - Z_P, nearest to the origin wanted
    weights = np.ones(1)
    nearest = corners[0]
    scale = max(float(nearest @ nearest), 1e-300)
    best, direction = -np.inf, nearest
    for _ in range(MAX_ITERATIONS):
        corner = target - (rows @ nearest > 0.0) @ shares
        size = math.sqrt(nearest @ nearest)
        # the halfspace through the corner with normal `nearest` holds all of Z_P: a bound at every round
        lower = float(nearest @ corner) / max(size, 1e-300)
        if lower > best:
            best, direction = lower, nearest
        if size <= enough or size - lower <= tolerance * max(size, scale**0.5):
            break
        # a corner that is there already: rounding alone would go round in circles
        if (np.abs(corners - corner).max(axis=1) <= 1e-15 * scale**0.5).any():
            break
        corners, weights = np.vstack([corners, corner]), np.append(weights, 0.0)
        corners, weights = _affine_minimum(corners, weights)
        moved = weights @ corners
        stalled = float(moved @ moved) >= float(nearest @ nearest) * (1.0 - 1e-15)
        nearest = moved if moved @ moved < nearest @ nearest else nearest
        if stalled:
            break
    size = float(np.linalg.norm(direction))
    unit = direction / size if size > 0 else np.eye(len(target))[0]
    return Projection(float(np.linalg.norm(nearest)), max(best, 0.0), torch.as_tensor(unit).to(P))


def _affine_minimum(corners: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wolfe's minor cycle: move to the affine hull's nearest point, dropping corners that leave the simplex."""
    while True:
        k = len(weights)
        system = np.zeros((k + 1, k + 1))
        system[:k, :k] = corners @ corners.T
        # the row of ones, scaled with the corners: beside plain ones small corners would look like lost rank
        system[k, :k] = system[:k, k] = np.sqrt(np.trace(system)) or 1.0
        right = np.zeros(k + 1)
        right[k] = system[k, 0]
        goal = _solved(system, right)[:k]
        if (goal > 1e-14).all():
            return corners, goal
        falling = goal <= 1e-14
        drop = weights - goal
        ratio = np.where(falling & (drop > 0), weights / np.where(drop > 0, drop, 1.0), np.inf)
        step = min(1.0, float(ratio.min()))
        weights = (1.0 - step) * weights + step * goal
        keep = weights > 1e-14
        if keep.all():
            # rounding kept what the step should have dropped: drop the smallest, so that the cycle ends
            keep[int(np.where(falling, weights, np.inf).argmin())] = False
        corners, weights = corners[keep], weights[keep] / weights[keep].sum()
        if len(weights) == 1:
            return corners, weights


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve, by least squares where affinely dependent corners make the system singular."""
    with contextlib.suppress(np.linalg.LinAlgError):
        found = np.linalg.solve(system, right)
        if np.abs(system @ found - right).max() <= 1e-12 * right[-1] and np.abs(found).max() < 1e8:
            return found
    return np.linalg.lstsq(system, right, rcond=None)[0]


def hausdorff(P: Tensor, Q: Tensor) -> Projection:
    """The largest distance of a vertex of either zonotope to the other, over all activation patterns.

    Args:
        P: (n, d), few enough for `saddlegan.fit.relu._arrangements.cells`.
        Q: (m, d), likewise.

    Returns:
        `Projection` of the farthest vertex: `lower` is attained, `upper` bounds every vertex.
    """
    first = _farthest(_vertices(P), Q, 0.0)
    # where one zonotope holds nearly all of the other, what the first side found spares the second its projections
    second = _farthest(_vertices(Q), P, first.lower)
    best = max(first, second, key=lambda side: side.lower)
    return dataclasses.replace(best, upper=max(first.upper, second.upper))


def _vertices(P: Tensor) -> Tensor:
    n = len(P)
    P = P[P.abs().sum(1) > 0]  # points at zero move no vertex
    return torch.as_tensor(cells(P.cpu().numpy())).to(P) @ P / n if len(P) else P.new_zeros(1, P.shape[1])


def _farthest(vertices: Tensor, Q: Tensor, known: float) -> Projection:
    """The farthest of `vertices` from Z_Q, among those that are farther than `known`."""
    nearest = vertices - vertex(Q, vertices)
    for _ in range(DESCENT_STEPS):  # any point of Z_Q bounds the distance; better ones prune more
        move = vertices - vertex(Q, nearest) - nearest
        step = (-(nearest * move).sum(1) / move.square().sum(1).clamp_min(1e-300)).clamp(0.0, 1.0)
        nearest = nearest + step[:, None] * move
    bounds = nearest.norm(dim=1)
    best = project(vertices[int(bounds.argmax())], Q, enough=known)
    upper = best.upper
    for index in bounds.argsort(descending=True).tolist():
        enough = max(best.lower, known)
        if float(bounds[index]) <= enough:
            break
        found = project(vertices[index], Q, enough=enough)
        upper = max(upper, found.upper)
        if found.lower > best.lower:
            best = found
    return dataclasses.replace(best, upper=max(upper, best.lower))
