"""The ReLU WGAN in d dimensions for free points and for G = Z W: convex-concave procedure with cutting planes.

    minimise (1/m) ||G||_F^2   subject to   |E (x^T u)_+ - E (g^T u)_+| <= beta   for all ||u|| <= 1

One side of the constraint is convex in G. The other is replaced by its linearisation at the current G, from below, so
that every iterate stays feasible and the objective falls. Both sides are linear for a given direction and activation
pattern: the subproblem is a least-distance problem in as many unknowns as there are cuts, whatever n and d are.
"""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan.errors import SolveError
from saddlegan.fit._convex import least_distance
from saddlegan.fit.relu._discrepancy import local_maxima, relu_discrepancy, searched
from saddlegan.fit.relu._zonotope import support
from saddlegan.results import Discrepancy, Solution, Status

POOL = 256  # random directions from which cheap violations are searched
CUTS_PER_ROUND = 32
SLACK_WEIGHT = 1e4  # price of a violation that the start brings along; feasible starts never pay it
MAX_JUDGEMENTS = 5
BUDGET = 200  # cutting-plane rounds in all
MAX_ROUNDS = 100  # cutting-plane rounds for one linearisation


@dataclasses.dataclass(frozen=True)
class MatchedPoints:
    """A local optimum of the ReLU WGAN.

    Attributes:
        points: G (m, d).
        coefficients: V (k, d) with G = basis @ V; the points themselves without a basis.
        directions: unit rows u_j (k, d) of the discriminator that holds the points in place.
        outer: its outer weights v_j (k,), the constraint's multipliers: 2 g = grad D(g) at every free point.
        solution: value, lower bound, residuals.
    """

    points: Tensor
    coefficients: Tensor
    directions: Tensor
    outer: Tensor
    solution: Solution


@dataclasses.dataclass
class _Cuts:
    """Linear constraints sign * <features outer u / 1, V> <= sign * target + level, one row per cut."""

    features: Tensor  # (k, r)
    directions: Tensor  # (k, d)
    signs: Tensor  # (k,): +1 bounds E (g^T u)_+ from above, -1 from below
    targets: Tensor  # (k,): E (x^T u)_+

    def extended(self, other: _Cuts) -> _Cuts:
        return _Cuts(
            torch.cat([self.features, other.features]),
            torch.cat([self.directions, other.directions]),
            torch.cat([self.signs, other.signs]),
            torch.cat([self.targets, other.targets]),
        )

    def kept(self, index: Tensor) -> _Cuts:
        return _Cuts(self.features[index], self.directions[index], self.signs[index], self.targets[index])


def match_points(
    X: Tensor,
    start: Tensor,
    *,
    beta: float,
    basis: Tensor | None = None,
    max_linearisations: int = 100,
    max_rounds: int = BUDGET,
    tolerance: float | None = None,
    generator: torch.Generator | None = None,
) -> MatchedPoints:
    """Lower (1/m) ||G||^2 from a starting sample by the convex-concave procedure, keeping (1).

    Args:
        X: real sample (n, d), float64.
        start: G (m, d); any sample, best a feasible one such as X itself.
        beta: right side of (1), positive, in data units.
        basis: latents Z (m, k) for the linear generator G = Z W; None for free points.
        max_linearisations: rounds of the outer procedure.
        max_rounds: cutting-plane rounds in all; status BUDGET_SPENT when they are used up.
        tolerance: relative to beta, None for 1e-5 in the plane and 1e-2 above; the constraint is tightened by it so
            that the answer is feasible, and the procedure ends when a round gains less than it.
        generator: source of the search directions; a fixed seed if None.

    Returns:
        `MatchedPoints`; unless the budget of rounds was spent, `solution.status` is LOCAL where the inner maximum is
        exact (d <= 2, or few points), else SETTLED, with both sides of the discrepancy in `stats`.

    Raises:
        SolveError: the start is not feasible and no feasible point was found.

    References:
        Theory 1.4; [S22] theorem on ReLU discriminators; Yuille and Rangarajan (2003), Lipp and Boyd (2016).

    Example:
        >>> X = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
        >>> [[round(c, 4) + 0.0 for c in row] for row in match_points(X, X, beta=0.05).points.tolist()]
        [[0.9, 0.0], [-0.9, 0.0]]
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    m = len(start)
    if tolerance is None:
        tolerance = 1e-5 if X.shape[1] <= 2 else 1e-2
    orthonormal = None if basis is None else torch.linalg.qr(basis).Q * math.sqrt(m)
    G = start if orthonormal is None else orthonormal @ (orthonormal.T @ start / m)
    slack = _violation(X, G, beta, generator) > tolerance * beta
    # aim inside: the oracle's own error then does not break feasibility
    level = beta * (1.0 - tolerance)
    cuts = _cuts(X, G, orthonormal, _seed_directions(X, generator))
    values = [math.inf if slack else float(G.square().sum(1).mean())]
    rounds, judgements, excess, lam = 0, 0, math.inf, np.zeros(0)
    judged: Discrepancy | None = None
    for _ in range(max_linearisations):
        anchor = G
        cuts = _relinearised(cuts, anchor, orthonormal)
        for _ in range(MAX_ROUNDS):
            rounds += 1
            # convex in V: the concave side of (1) stands linearised at the anchor
            V, lam, allowed = _subproblem(cuts, level, slack)
            G = V * math.sqrt(m) if orthonormal is None else orthonormal @ V
            found, excess = _violated(X, G, level, cuts.directions[torch.as_tensor(lam > 0)], generator)
            if excess <= 0.5 * tolerance * beta + 1.1 * allowed or rounds >= max_rounds:
                break
            cuts = cuts.extended(_cuts(X, G, orthonormal, found, anchor=anchor))
        active = torch.as_tensor(np.flatnonzero(lam > 0))
        cuts, lam = cuts.kept(active), lam[lam > 0]
        if not slack and excess > 0.5 * tolerance * beta:
            G = anchor  # the budget ran out between feasible iterates: fall back to the last one
        values.append(float(G.square().sum(1).mean()))
        settled = not slack and values[-2] - values[-1] <= tolerance * max(values[-1], beta**2)
        if settled or rounds >= max_rounds:
            # the searches inside the loop are small ones: let the full one judge, and go on where it finds more
            judged = relu_discrepancy(X, G, generator=generator)
            judgements += 1
            if judged.value <= beta or judgements == MAX_JUDGEMENTS or rounds >= max_rounds:
                break
            cuts = cuts.extended(_cuts(X, G, orthonormal, normalize(judged.witness[None]), anchor=anchor))
        if slack:
            slack = _violation(X, G, beta, generator) > tolerance * beta
    if judged is None:
        judged = relu_discrepancy(X, G, generator=generator)
    outer = -cuts.signs * torch.as_tensor(lam).to(X)
    value, bound = values[-1], relaxation_bound(X, beta, generator)
    stats = {
        "beta": beta,
        "primal_residual": judged.value - beta,
        "upper_residual": judged.upper - beta,
        "dual_residual": 0.0,
        "values": tuple(values[1:]),
        "rounds": rounds,
        "neurons": len(lam),
        "complementarity": float(outer @ (cuts.targets - support(G, cuts.directions)) - beta * outer.abs().sum()),
        "solve_seconds": time.perf_counter() - started,
    }
    status = Status.LOCAL if judged.exact else Status.SETTLED
    if rounds >= max_rounds:
        status = Status.BUDGET_SPENT
    solution = Solution(value, bound, value - bound, status, stats)
    if judged.value > beta * (1.0 + 1e-3):
        raise SolveError(
            f"no feasible point found: (1) is exceeded by {judged.value - beta:.3g}; raise `beta`", solution
        )
    coefficients = G if basis is None else torch.linalg.lstsq(basis, G).solution
    return MatchedPoints(G, coefficients, cuts.directions, outer, solution)


def relaxation_bound(X: Tensor, beta: float, generator: torch.Generator) -> float:
    """Lower bound on E ||g||^2 for every generator that satisfies (1), from a convex relaxation.

    E |g^T u| = E (g^T u)_+ + E (-g^T u)_+ is at least h(u) = (phi_X(u) - beta)_+ + (phi_X(-u) - beta)_+, and at most
    (u^T P u)^(1/2) with P = E g g^T. Hence tr P >= sum_i h(u_i)^2 for every orthonormal frame (u_i).

    Returns:
        The best bound over the principal axes and 256 further frames.
    """
    d = X.shape[1]
    frames = [torch.linalg.eigh(X.T @ X).eigenvectors.T]
    random = torch.randn(256, d, d, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
    frames = torch.cat([frames[0][None], torch.linalg.qr(random).Q]).reshape(-1, d)
    spread = (support(X, frames) - beta).clamp_min(0) + (support(X, -frames) - beta).clamp_min(0)
    return float(spread.square().reshape(-1, d).sum(1).max())


def _seed_directions(X: Tensor, generator: torch.Generator) -> Tensor:
    d = X.shape[1]
    axes = torch.linalg.eigh(X.T @ X).eigenvectors.T
    random = torch.randn(24 * d, d, generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
    return torch.cat([axes, -axes, normalize(random)])


def _cuts(X: Tensor, G: Tensor, orthonormal: Tensor | None, U: Tensor, *, anchor: Tensor | None = None) -> _Cuts:
    """Both sides of (1) at the directions U: from above with G's patterns, from below with the anchor's."""
    patterns = torch.cat([U @ G.T > 0, U @ (G if anchor is None else anchor).T > 0]).to(G)
    target = support(X, U)
    signs = torch.cat([G.new_ones(len(U)), -G.new_ones(len(U))])
    return _Cuts(_features(patterns, orthonormal), torch.cat([U, U]), signs, torch.cat([target, target]))


def _features(patterns: Tensor, orthonormal: Tensor | None) -> Tensor:
    m = patterns.shape[1]
    return patterns / math.sqrt(m) if orthonormal is None else patterns @ orthonormal / m


def _relinearised(cuts: _Cuts, anchor: Tensor, orthonormal: Tensor | None) -> _Cuts:
    lower = cuts.signs < 0
    patterns = (cuts.directions[lower] @ anchor.T > 0).to(anchor)
    features = cuts.features.clone()
    features[lower] = _features(patterns, orthonormal)
    return dataclasses.replace(cuts, features=features)


def _subproblem(cuts: _Cuts, level: float, slack: bool) -> tuple[Tensor, np.ndarray, float]:
    """Min ||V||_F^2 under the cuts, through their Gram matrix: V = -1/2 sum_k lam_k sign_k features_k outer u_k.

    Returns:
        V, the multipliers and the violation that had to be allowed (0 without `slack`).
    """
    F, U, signs = cuts.features, cuts.directions, cuts.signs
    gram = ((F @ F.T) * (U @ U.T) * torch.outer(signs, signs)).cpu().numpy()
    spectrum, vectors = np.linalg.eigh(gram)
    # cuts with equal patterns make the Gram matrix singular: directions at its rounding are left out
    keep = spectrum > 1e-13 * spectrum[-1]
    A = vectors[:, keep] * np.sqrt(spectrum[keep])
    if slack:
        # one shared violation at a price, until a feasible iterate is found
        A = np.hstack([A, np.full((len(A), 1), -1.0 / SLACK_WEIGHT)])
    right = (signs * cuts.targets).cpu().numpy() + level
    found = least_distance(A, right)
    if found is None:
        nothing = Solution(math.nan, math.nan, math.nan, Status.FAILED, {"cuts": len(right)})
        raise SolveError("the cuts are inconsistent: rounding; raise `beta` or rescale the data", nothing)
    lam = found[1]
    weights = torch.as_tensor(lam).to(F) * signs
    return -0.5 * (weights[:, None] * F).T @ U, lam, 0.5 * float(lam.sum()) / SLACK_WEIGHT**2 if slack else 0.0


def _violation(X: Tensor, G: Tensor, level: float, generator: torch.Generator) -> float:
    return searched(X, G, generator=generator)[0] - level


def _violated(X: Tensor, G: Tensor, level: float, active: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """Directions at which (1) fails, and by how much at most: a cheap search first, the oracle where it finds none."""
    random = torch.randn(POOL, X.shape[1], generator=generator, dtype=X.dtype, device=generator.device).to(X.device)
    U, height = local_maxima(X, G, torch.cat([active, normalize(random)]), signed=False, count=CUTS_PER_ROUND)
    excess = height - level
    U = U[excess > 0.1 * excess[0]]
    if float(excess[0]) > 1e-4 * level:
        return U, float(excess[0])
    worst, u = searched(X, G, generator=generator)
    return torch.cat([U, normalize(u[None])]), worst - level
