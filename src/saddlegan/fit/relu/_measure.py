"""The ReLU WGAN over all distributions of the generator: a linear program, hence a global bound.

The constraint (1) and E ||g||^2 are linear in the distribution of g. ReLUs are homogeneous, so only the measure
rho(e) = E [ ||g||; g / ||g|| = e ] on the unit sphere enters (1), and by Cauchy-Schwarz the cheapest distribution with
that rho has one radius, its total mass. The optimum is therefore (min rho(sphere))^2 over

    | E (x^T u)_+ - int (e^T u)_+ d rho(e) | <= beta  for all ||u|| <= 1.

Its dual is a discriminator: max E D(x) - beta sum |v| subject to D(e) <= 1 on the unit sphere.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan.errors import InputError
from saddlegan.fit.relu._arrangements import sweep
from saddlegan.fit.relu._discrepancy import local_maxima
from saddlegan.fit.relu._zonotope import support

MAX_ROUNDS = 40
ADDED = 16  # directions of each kind that a round adds
CROWDED = 600


@dataclasses.dataclass(frozen=True)
class DirectionMeasure:
    """The optimum over distributions.

    Attributes:
        directions: unit vectors e (k, d).
        weights: rho(e) > 0 (k,); the generator puts mass rho(e) / R on the point R e.
        radius: R = sum of the weights; E ||g||^2 = R^2.
        bound: no distribution that satisfies (1) has a smaller E ||g||^2.
    """

    directions: Tensor
    weights: Tensor
    radius: float
    bound: float

    def points(self, m: int) -> Tensor:
        """Return m points of equal weight that follow the measure: systematic sampling along its own order."""
        if self.radius <= 0:
            return self.directions.new_zeros(m, self.directions.shape[1])
        edges = self.weights.cumsum(0) / self.radius
        grid = (torch.arange(m, device=edges.device) + 0.5).to(edges) / m
        return self.radius * self.directions[torch.searchsorted(edges, grid).clamp_max(len(edges) - 1)]


def solve_measure(
    X: Tensor, *, beta: float, tolerance: float = 1e-4, generator: torch.Generator | None = None
) -> DirectionMeasure:
    """Solve the linear program in the plane by adding directions u where (1) fails and points e where D exceeds 1.

    Both searches end in one angular sweep, so that the bound is proved. Above two dimensions each is a hard problem.

    Args:
        X: real sample (n, 2), float64.
        beta: right side of (1).
        tolerance: relative gap at which to stop.
        generator: source of the initial directions; a fixed seed if None.

    Returns:
        `DirectionMeasure`.

    Raises:
        InputError: X does not have two columns.

    Example:
        >>> X = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
        >>> measure = solve_measure(X, beta=0.05)
        >>> round(measure.radius, 3), round(measure.bound, 3)
        (0.9, 0.81)
    """
    if X.ndim != 2 or X.shape[1] != 2:
        raise InputError(f"`X` must have shape (n, 2), got {tuple(X.shape)}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    random = torch.randn(128, 2, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
    lengths = X.norm(dim=1)
    U = pool = normalize(random)
    E = torch.cat([pool, -pool, normalize(X[lengths > 0][:: max(1, len(X) // 128)])])
    best = DirectionMeasure(E[:1], E.new_zeros(1), 0.0, 0.0)
    for _ in range(MAX_ROUNDS):
        found = _linear_program(X, E, U, beta)
        if found is None:  # too few points e yet
            more = torch.randn(128, 2, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
            E = torch.cat([E, normalize(more)])
            continue
        rho, v = found
        peak, e = _peak(E, U, v)
        used, neurons = rho > 0, v != 0
        radius, scale = float(rho.sum()), max(peak, 1.0)
        gain = (float(v @ support(X, U)) - beta * float(v.abs().sum())) / scale
        bound = max(gain, 0.0) ** 2
        if bound < best.bound:  # an earlier discriminator proved more
            best = dataclasses.replace(best, directions=E[used], weights=rho[used], radius=radius)
        else:
            best = DirectionMeasure(E[used], rho[used], radius, bound)
        excess, u = _excess(X, E[used], rho[used], pool, beta)
        if peak <= 1.0 + 0.5 * tolerance and excess <= tolerance * max(beta, radius):
            break
        # a column or a row that the optimum does not use may go; the pool they came from stays
        E = torch.cat([E, e]) if len(E) <= CROWDED else torch.cat([E[used], pool, -pool, e])
        U = torch.cat([U, u]) if len(U) <= CROWDED else torch.cat([U[neurons], pool, u])
    return best


def _linear_program(X: Tensor, E: Tensor, U: Tensor, beta: float) -> tuple[Tensor, Tensor] | None:
    target = support(X, U).cpu().numpy()
    A = torch.relu(U @ E.T).cpu().numpy()
    answer = linprog(
        np.ones(len(E)), A_ub=np.vstack([A, -A]), b_ub=np.concatenate([target + beta, beta - target]), method="highs"
    )
    if answer.status != 0:
        return None
    price = -answer.ineqlin.marginals
    return torch.as_tensor(answer.x).to(X), torch.as_tensor(price[len(U) :] - price[: len(U)]).to(X)


def _peak(E: Tensor, U: Tensor, v: Tensor) -> tuple[float, Tensor]:
    """Max over unit e of D(e), and points where D exceeds 1."""
    used = v != 0
    U, v = U[used], v[used]
    if len(v) == 0:
        return 0.0, U[:0]
    plus, minus = len(v) * v.clamp_min(0)[:, None] * U, len(v) * (-v).clamp_min(0)[:, None] * U
    near, height = local_maxima(plus, minus, E, signed=True, count=ADDED)
    value, e = sweep(U, v, signed=True)
    return value, torch.cat([near[height > 1.0], e[None]])


def _excess(X: Tensor, E: Tensor, rho: Tensor, U: Tensor, beta: float) -> tuple[float, Tensor]:
    """How far (1) fails, and directions where it does."""
    G = len(rho) * rho[:, None] * E if len(rho) else X.new_zeros(1, 2)
    near, height = local_maxima(X, G, U, signed=False, count=ADDED)
    value, u = sweep(torch.cat([X, E]), torch.cat([X.new_full((len(X),), 1.0 / len(X)), -rho]))
    return abs(value) - beta, torch.cat([near[height > beta], u[None]])
