"""The best value over all L-Lipschitz discriminators on given samples, from above: transport with free marginals.

    max over d, e of   mean f0(d_i) + mean f1(e_j)   subject to   d_i - e_j <= L c_ij,   c_ij = ||x_i - y_j||

f0 does not fall and f1 does not rise in D's raw output, so that these constraints are all that is needed: the function
h(x) = min_j e_j + L ||x - y_j|| is L-Lipschitz and does as well. The Lagrangian's dual is a transport problem,

    min over pi >= 0 of   L <pi, c> + mean F0(n pi 1) + mean F1(m pi^T 1),

F0(r) = sup_d f0(d) - d r and F1(s) = sup_e f1(e) + e s in closed form: any pi at all gives a valid bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from saddlegan.objectives import OBJECTIVES, Objective

PAIRS = 1 << 20  # sample pairs in one block; larger samples are cut, which leaves the bound valid
SOFTNESS = (1e-1, 1e-2, 1e-3)  # of the minimum over j, in units of a typical L c_ij
ITERATIONS = 40  # of L-BFGS at each softness
_LOG2 = math.log(2.0)


@dataclasses.dataclass(frozen=True)
class Half:
    """f0 in the discriminator's raw output, or f1 of minus it: concave, not falling.

    Attributes:
        at: the function.
        slope: its derivative.
        conjugate: r -> sup_t at(t) - t r; infinite outside [0, most].
        most: largest r where that is finite; 1 with `exact` for a linear function, which has one slope only.
        exact: whether r must be 1.
        top: supremum of the function.
    """

    at: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    most: float
    exact: bool
    top: float


def _entropy(r: Tensor) -> Tensor:
    return torch.xlogy(r, r) + torch.xlogy(1.0 - r, 1.0 - r)


_LINEAR = Half(lambda t: t, torch.ones_like, torch.zeros_like, 1.0, True, math.inf)
_LOGISTIC = Half(logsigmoid, lambda t: torch.sigmoid(-t), _entropy, 1.0, False, 0.0)
_EXPONENTIAL = Half(
    lambda t: 1.0 - torch.exp(-t),
    lambda t: torch.exp(-t),
    lambda r: torch.xlogy(r, r) - r + 1.0,
    math.inf,
    False,
    1.0,
)
_PARABOLA = Half(
    lambda t: 1.0 - 0.25 * (2.0 - t).clamp_min(0.0).square(),
    lambda t: 0.5 * (2.0 - t).clamp_min(0.0),
    lambda r: (r - 1.0).square(),
    math.inf,
    False,
    1.0,
)
# f0(link(t)), f1(link(-t)) and the constant that f1 carries beyond it
_HALVES: dict[str, tuple[Half, Half, float]] = {
    "wasserstein": (_LINEAR, _LINEAR, 0.0),
    "vanilla": (_LOGISTIC, _LOGISTIC, _LOG2),
    "kl": (_LINEAR, _EXPONENTIAL, 0.0),
    "reverse-kl": (_EXPONENTIAL, _LINEAR, 0.0),
    "pearson-chi2": (_LINEAR, _PARABOLA, 0.0),
    "squared-hellinger": (_EXPONENTIAL, _EXPONENTIAL, 0.0),
}


def halves(objective: Objective) -> tuple[Half, Half, float] | None:
    """Both halves of a separable objective of the library's, and a constant; None for any other."""
    known = _HALVES.get(objective.name)
    return known if OBJECTIVES.get(objective.name) is objective else None


def supremum(objective: Objective) -> float:
    """The largest value that any discriminator whatever can reach; infinity where there is none."""
    if objective.pairing is not None:
        return _LOG2 if OBJECTIVES.get(objective.name) is objective else math.inf
    known = halves(objective)
    return math.inf if known is None else known[0].top + known[1].top + known[2]


def best_value(
    objective: Objective,
    x: Tensor,
    y: Tensor,
    *,
    slope: float,
    weights: tuple[Tensor, Tensor] | None = None,
    start: Tensor | None = None,
) -> float:
    """Bound max over all L-Lipschitz D of E f0(D(x)) + E f1(D(y)) on samples from above.

    Samples beyond `PAIRS` pairs are cut into blocks: the best value of a mean is at most the mean of the best values.

    Args:
        objective: separable.
        x: real samples (n, ...).
        y: generated samples (m, ...).
        slope: L, in units of D's raw output per unit of the data, Euclidean.
        weights: of the rows, (n,) and (m,), each summing to 1; equal if None.
        start: D's raw outputs at y (m,), where to begin.

    Returns:
        The bound; infinity where the objective is not one of those that are known.

    References:
        Theory 4.5.

    Example:
        >>> from saddlegan import objectives
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])
        >>> round(best_value(objectives.get("wasserstein"), x, y, slope=2.0), 6)  # 2 W1, W1 = 2.5
        5.0
    """
    known = halves(objective)
    top = supremum(objective)
    if known is None or not math.isfinite(slope):
        return top
    real, fake = (part.detach().flatten(1).double().cpu() for part in (x, y))
    e = torch.zeros(len(fake), dtype=torch.float64) if start is None else start.detach().double().cpu().reshape(-1)
    masses = weights or (real.new_ones(len(real)), real.new_ones(len(fake)))
    linear = known[0].exact and known[1].exact
    blocks = max(1, math.ceil(math.sqrt(len(real) * len(fake) / (4 * PAIRS if linear else PAIRS))))
    total = 0.0
    for (i, a), (j, b) in zip(*(_shares(mass.double().cpu(), blocks) for mass in masses), strict=True):
        cost = slope * torch.cdist(real[i], fake[j], compute_mode="donot_use_mm_for_euclid_dist")
        total += (_transport(cost, a, b) if linear else _relaxed(known, cost, a, b, e[j])) / blocks
    return min(top, total)


def _shares(mass: Tensor, blocks: int) -> list[tuple[slice, Tensor]]:
    """Cut masses, in their order, into blocks of equal mass: rows and their shares of 1; a row may lie in two."""
    upper = blocks * mass.cumsum(0) / mass.sum()
    lower = torch.cat([upper.new_zeros(1), upper[:-1]])
    found = []
    for k in range(blocks):
        share = upper.clamp(k, k + 1) - lower.clamp(k, k + 1)
        rows = (share > 1e-9).nonzero().flatten()
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        found.append((place, share[place] / share[place].sum()))
    return found


def _transport(cost: Tensor, a: Tensor, b: Tensor) -> float:
    """Cost of the cheapest coupling of the marginals a and b: Kantorovich's bound."""
    n, m = cost.shape
    table = cost.numpy()
    try:
        import ot  # an extra; imported where it is needed
    except ImportError:
        if n != m or float(a.std()) > 1e-12 or float(b.std()) > 1e-12:
            return math.inf
        rows, columns = linear_sum_assignment(table)
        return float(table[rows, columns].mean())
    plan = ot.emd(a.numpy(), b.numpy(), table, numItermax=10_000_000)
    # a plan whose marginals are off proves nothing
    off = float(np.abs(plan.sum(1) - a.numpy()).sum() + np.abs(plan.sum(0) - b.numpy()).sum())
    return float((plan * table).sum()) + off * float(table.max()) if off < 1e-6 else math.inf


def _relaxed(known: tuple[Half, Half, float], cost: Tensor, a: Tensor, b: Tensor, start: Tensor) -> float:
    """The dual bound where a marginal is free: d_i is a soft minimum of e_j + cost_ij, and e is improved by L-BFGS.

    At any e the soft minimum's weights P make a plan pi_ij = a_i f0'(d_i) P_ij, and every plan bounds. Where f0 is
    linear its rows are exact as they are; where f1 is, the two halves change places.
    """
    real, fake, constant = known
    if fake.exact:  # by D -> -D, x <-> y
        return _relaxed((fake, real, constant), cost.T.contiguous(), b, a, start.new_zeros(len(a)))
    unit = max(float(cost.median()), 1e-300)
    best, e = math.inf, start
    for softness in SOFTNESS:
        t = softness * unit

        def evaluate(e_: np.ndarray, t: float = t) -> tuple[float, np.ndarray]:
            nonlocal best
            e = torch.from_numpy(e_)
            z = (e + cost).div_(-t)
            d = -t * torch.logsumexp(z, 1)
            weight = z.add_(d[:, None] / t).exp_()  # rows sum to 1
            row = real.slope(d)
            column = (a * row) @ weight
            value = float(a @ real.at(d) + b @ fake.at(-e))
            best = min(best, _bound(real, fake, cost, a, b, row, weight, column / b))
            return -value, (b * fake.slope(-e) - column).numpy()

        found = minimize(
            evaluate, e.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 20}
        )
        e = torch.from_numpy(found.x)
    return best + constant


def _bound(real: Half, fake: Half, cost: Tensor, a: Tensor, b: Tensor, row: Tensor, weight: Tensor, s: Tensor) -> float:
    """The dual value of the plan a_i row_i weight_ij, its columns cut down where the conjugate would be infinite."""
    if bool((s > fake.most).any()):
        keep = (fake.most / s).clamp_max(1.0)
        if real.exact:
            return math.inf  # its rows must stay as they are
        weight = weight * keep
        row, s = row * weight.sum(1), s * keep
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-300)
    paid = float((a * row) @ (weight * cost).sum(1))
    if real.exact:
        row = torch.ones_like(row)
    return paid + float(a @ real.conjugate(row) + b @ fake.conjugate(s))
