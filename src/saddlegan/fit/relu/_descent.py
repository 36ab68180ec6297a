"""A penalised descent for free points of the ReLU WGAN: a good start for the convex-concave procedure.

Augmented Lagrangian over a growing set of directions u_j, Adam on the points:

    (1/m) ||G||_F^2 + (r / 2) sum_j ( |phi_G(u_j) - phi_X(u_j)| - beta + w_j / r )_+^2,    phi_X(u) = E (x^T u)_+

Its points break (1) by a little between the directions. The level is then lowered by as much, with the direction that
was found added, and the descent goes on; what is left, `feasible` removes by moving towards points that satisfy (1).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan.fit.relu._discrepancy import ascend, local_maxima, planar
from saddlegan.fit.relu._zonotope import support

STAGES = 24
STEPS = 40  # of Adam between two updates of the multipliers and the directions
PRICE = 20.0  # r in units of 1 / beta
RATE = 0.03  # in units of the data's rms
ADDED = 64
MOST = 768  # directions
LARGE_MOST = 2048  # above `SMALL` entries of X
LARGE_ADDED = 128
SMALL = 4096
NEAR = 0.9  # share of beta from which a direction may have a neuron
REPAIRS = 8
REPAIR_STAGES = 3
BISECTIONS = 7
JUDGING_STARTS = 256  # of the search that decides whether points are feasible


@dataclasses.dataclass(frozen=True)
class Descended:
    """Points G (m, d), nearly feasible, with their discriminator: unit directions u_j (k, d) and weights v_j (k,)."""

    points: Tensor
    directions: Tensor
    outer: Tensor


def descend(
    X: Tensor,
    start: Tensor,
    *,
    beta: float,
    generator: torch.Generator,
    deadline: float,
    rate: float = 1.0,
    stages: int = STAGES,
    progress: Callable[[int, int], None] | None = None,
) -> Descended:
    """Follow the augmented Lagrangian from `start`; X has rms 1.

    Args:
        X: real sample (n, d), float64, of rms 1.
        start: G (m, d).
        beta: right side of (1), positive, in the same units.
        generator: source of the directions.
        deadline: time.perf_counter() at which to stop.
        rate: share of the first steps' length; less for a start that is nearly optimal.
        stages: updates of the multipliers before the first judgement.
        progress: called with (stages done, stages at most).

    Returns:
        `Descended`, after the last full stage.
    """
    d = X.shape[1]
    large = d > 2 and X.numel() > SMALL
    most, added = (LARGE_MOST, LARGE_ADDED) if large else (MOST, ADDED)

    def drawn(count: int) -> Tensor:
        return normalize(
            torch.randn(count, d, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
        )

    axes = torch.linalg.eigh(X.T @ X).eigenvectors.T
    U = torch.cat([axes, -axes, drawn(16 * d)])
    price = X.new_zeros(len(U))
    rigidity = PRICE / beta
    G, first, second, count = start.clone(), torch.zeros_like(start), torch.zeros_like(start), 0
    level = beta
    for stage in range(stages + REPAIRS * REPAIR_STAGES):
        target = support(X, U)
        length = rate * RATE * 0.02 ** min(1.0, stage / (stages - 1))
        for _ in range(STEPS):
            active, difference = _response(G, U, target)
            force = difference.sign() * (rigidity * (difference.abs() - level) + price).clamp_min(0)
            slope = 2.0 * G + (force[:, None] * active).T @ U  # m times the gradient: each point's own
            count += 1
            first.lerp_(slope, 0.1)
            second.lerp_(slope.square(), 0.01)
            size = (second / (1.0 - 0.99**count)).sqrt() + 1e-12
            G = G - length * first / (1.0 - 0.9**count) / size
        difference = _response(G, U, target)[1]
        price = (rigidity * (difference.abs() - level) + price).clamp_min(0)
        if progress is not None:
            progress(stage + 1, stages + REPAIRS * REPAIR_STAGES)
        if time.perf_counter() > deadline:
            break
        used = price > 0
        found, height = local_maxima(X, G, torch.cat([U[used], drawn(256)]), signed=False, count=added)
        found = found[height > level]
        if stage >= stages - 1 and (stage - stages + 1) % REPAIR_STAGES == 0:
            height, witness = _judged(X, G, generator)
            if height <= beta:
                break
            level -= 1.05 * (height - beta)
            found = torch.cat([found, normalize(witness[None])])
            if level <= 0.5 * beta:
                break
        if len(U) + len(found) > most:
            U, price = U[used], price[used]
        U = torch.cat([U, found])
        price = torch.cat([price, price.new_zeros(len(found))])
    return Descended(G, *multipliers(X, G, U, beta))


def multipliers(X: Tensor, G: Tensor, U: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The discriminator that holds the points in place: weights v_j of the sign that (1) asks for, such that

        2 g = grad D(g) = sum over j with g^T u_j > 0 of v_j u_j

    for every point g as nearly as can be, by non-negative least squares over the directions in which (1) is nearly
    tight.

    Returns:
        Unit directions (k, d) and weights (k,).
    """
    difference = _response(G, U, support(X, U))[1]
    near = difference.abs() >= NEAR * difference.abs().amax().clamp_max(beta)
    U, sign = U[near], -difference[near].sign()
    if len(U) == 0:
        return U, sign
    active = (U @ G.T > 0).to(G)
    gram = ((active @ active.T) * (U @ U.T) * torch.outer(sign, sign)).cpu().numpy()
    right = (2.0 * ((active @ G) * U).sum(1) * sign).cpu().numpy()
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    root = np.sqrt(values[kept])
    weights, _ = nnls((vectors[:, kept] * root).T, (vectors[:, kept].T @ right) / root, maxiter=30 * len(U))
    used = torch.as_tensor(weights > 0).to(U.device)
    return U[used], (torch.as_tensor(weights).to(U) * sign)[used]


def _response(G: Tensor, U: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    product = U @ G.T
    return (product > 0).to(G), torch.relu(product).mean(1) - target


def _judged(X: Tensor, G: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
    """Discrepancy and witness: exact in the plane, else by many starts; listing all patterns would cost too much."""
    if X.shape[1] <= 2:
        found = planar(X, G)
        return found.value, found.witness
    best = ascend(X, G, n_starts=JUDGING_STARTS, generator=generator)
    return best.lower, best.direction


def feasible(X: Tensor, G: Tensor, safe: Tensor, *, beta: float, generator: torch.Generator) -> Tensor | None:
    """Return the nearest (1 - t) G + t safe, t in [0, 1] by bisection, whose discrepancy from X was found below beta.

    Args:
        X: real sample (n, d).
        G: points (m, d).
        safe: points (m, d) that satisfy (1); the data themselves have discrepancy 0.
        beta: right side of (1).
        generator: source of the search directions.

    Returns:
        Points (m, d), or None if `safe` itself was found to break (1).
    """

    def holds(points: Tensor) -> bool:
        return _judged(X, points, generator)[0] <= beta

    if holds(G):
        return G
    if safe is not X and not holds(safe):
        return None
    low, high = 0.0, 1.0
    step = 1.0 / 16
    while step < 1.0 and not holds(torch.lerp(G, safe, step)):
        low, step = step, 2.0 * step
    high = min(step, 1.0)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(torch.lerp(G, safe, middle)) else (middle, high)
    return torch.lerp(G, safe, high)
