"""How little a sample can reach along any direction, and what is left of another sample once it is used up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from saddlegan.moments._trust_region import minimise

LARGEST = 1500  # side of the matrix whose leading eigenvalue bounds fourth moments
PRODUCTS = 2e10  # multiplications that making it may take
ROUNDS = 40  # of Frank-Wolfe, each a product of both samples
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # a: of each |g^T u| that may cancel parts of x; the rest counts for itself
CONDITION = 1e-8  # variances below that, relative to the largest, are not whitened
ROUNDING = 1e-6  # of the factor, on the safe side
SLACK = 1e-12  # relative rounding of eigenvalues, on the safe side


@dataclasses.dataclass(frozen=True)
class Spread:
    """E |g^T u| >= factor (u^T M u)^(1/2) - loss for all ||u|| = 1, with M = E g g^T.

    Attributes:
        factor: between 0 and 1.
        loss: what the directions cost in which the sample hardly moves.
        moment: M (d, d).
    """

    factor: float
    loss: float
    moment: np.ndarray


def spread(G: Tensor) -> Spread:
    """Bound E |g^T u| from below by fourth moments.

    By Hoelder E |t| >= (E t^2)^(3/2) / (E t^4)^(1/2). For whitened z, ||w|| = 1 and s = ||z||^2 the traceless part
    h = z z^T - (s / d) I gives (z^T w)^2 = s / d + <h, w w^T>, so that

        E (z^T w)^4  <=  2 lambda_max(E (s / d) z z^T) - E (s / d)^2 + (1 - 1 / d) lambda_max(E h h^T)

    where E h h^T acts on symmetric matrices; its largest eigenvalue is that of the kernel (z_i^T z_j)^2 - s_i s_j / d.

    Args:
        G: (m, d), float64.

    Returns:
        `Spread`; the factor is 0 where the eigenvalue would cost too much, or the sample is all zeros.
    """
    m = len(G)
    M = G.T @ G / m
    values, vectors = torch.linalg.eigh(M)
    used = values > CONDITION * values[-1]
    loss = 2.0 * math.sqrt(float(values[~used].clamp_min(0.0).sum()))
    d = int(used.sum())
    pairs = d * (d + 1) // 2
    if d == 0 or min(m, pairs) > LARGEST or min(m, pairs) ** 2 * max(m, pairs) > PRODUCTS:
        return Spread(0.0, 0.0, M.cpu().numpy())
    Z = (G @ vectors[:, used]) / values[used].sqrt()
    s = Z.square().sum(1) / d
    if m <= pairs:
        kernel = ((Z @ Z.T).square() - d * torch.outer(s, s)) / m
    else:
        rows, columns = torch.triu_indices(d, d, device=G.device)
        scale = torch.where(rows == columns, 1.0, math.sqrt(2.0)).to(Z)
        kernel = Z.new_zeros(pairs, pairs)
        for z, share in zip(Z.split(4096), s.split(4096), strict=True):
            h = z[:, rows] * z[:, columns] - share[:, None] * (rows == columns)
            kernel += (h * scale).T @ (h * scale) / m
    fourth = (1.0 - 1.0 / d) * float(torch.linalg.eigvalsh(kernel)[-1].clamp_min(0.0))
    fourth += 2.0 * float(torch.linalg.eigvalsh((Z * s[:, None]).T @ Z / m)[-1]) - float(s.square().mean())
    # E t^4 >= (E t^2)^2 = 1, which rounding must not deny; whitening is exact to eps / CONDITION
    return Spread((1.0 - ROUNDING) / math.sqrt(max(1.0, fourth)), loss, M.cpu().numpy())


def side_bound(X: Tensor, G: Tensor, delta: np.ndarray, known: Spread, *, cancel: bool) -> float:
    """Bound max over ||u|| = 1 of delta^T u + E |x^T u| - E |g^T u|.

    With sigma_i = sign(x_i^T u), any T with sum_i |T_ji| <= a gives a |g_j^T u| >= sum_i T_ji sigma_i g_j^T u, hence

        E |x^T u| - E |g^T u|  <=  E |r^T u| - (1 - a) E |g^T u|,    r_i = x_i - (n / m) sum_j T_ji g_j

    and E |r^T u| <= (u^T S u)^(1/2), S = E r r^T. T is chosen to leave little of X: couplings are the case of one entry
    for each j and a = 1. The roots are replaced by a tangent and a chord, which leaves a trust-region problem.

    Args:
        X: (n, d), float64.
        G: (m, d).
        delta: (d,).
        known: `spread` of G.
        cancel: whether to search for T, which costs products of both samples.
    """
    n, m = len(X), len(G)
    used = torch.zeros_like(X)
    for _ in range(ROUNDS if cancel else 0):
        gain = (X - used) @ G.T
        best = gain.abs().argmax(0)
        signs = gain[best, torch.arange(m, device=G.device)].sign()
        corner = torch.zeros_like(X).index_add_(0, best, signs[:, None] * G) * (n / m)
        move = corner - used
        length = float(move.square().sum())
        step = float(((X - used) * move).sum()) / length if length > 0 else 0.0
        if step <= 0.0:
            break
        used = used + min(1.0, step) * move
    return min(_trust_region(X - share * used, delta, known, 1.0 - share) for share in (SHARES if cancel else (0.0,)))


def _trust_region(R: Tensor, delta: np.ndarray, known: Spread, left: float) -> float:
    """Bound max over ||u|| = 1 of delta^T u + (u^T S u)^(1/2) - left E |g^T u|, S = E r r^T."""
    S = (R.T @ R / len(R)).cpu().numpy()
    ends = np.linalg.eigvalsh(known.moment)
    low, high = math.sqrt(max(0.0, float(ends[0]) * (1.0 - SLACK))), math.sqrt(float(ends[-1]) * (1.0 + SLACK))
    # the root lies above its chord between the ends that u^T M u can take
    slope, offset = (1.0 / (low + high), low * high / (low + high)) if high > 0.0 else (0.0, 0.0)
    factor, loss = left * known.factor, left * known.loss
    top = float(np.linalg.eigvalsh(S)[-1])
    if top <= 0.0:
        return float(np.linalg.norm(delta))

    def bound(exponent: float) -> float:
        c = math.sqrt(top) * math.exp(exponent)
        A = S / (2.0 * c) - factor * slope * known.moment
        return 0.5 * c - factor * offset - minimise(-A, -0.5 * delta, radius=1.0, sphere=True).bound

    found = minimize_scalar(bound, bounds=(-3.0, 1.0), method="bounded", options={"xatol": 1e-2, "maxiter": 25})
    return min(float(found.fun), bound(0.0)) + loss  # every c gives a bound
