"""The ReLU WGAN for a linear generator with Gaussian latents in d dimensions: convex in the covariance.

For g = W^T z, z ~ N(0, I), E (g^T u)_+ = (u^T P u / (2 pi))^(1/2) with P = W^T W, so that (1) bounds u^T P u:

    2 pi (phi_X(u) - beta)_+^2  <=  u^T P u  <=  2 pi (phi_X(u) + beta)^2    for all ||u|| = 1,   phi_X(u) = E (x^T u)_+

Minimising tr P is a semidefinite program with one linear constraint pair per direction, solved by cutting planes.
"""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from saddlegan.errors import InputError, SolveError
from saddlegan.fit._convex import cvxpy, solve
from saddlegan.fit.relu._discrepancy import apart, relu_discrepancy
from saddlegan.fit.relu._zonotope import support, vertex
from saddlegan.moments._engines import Progress
from saddlegan.results import Solution, Status

MAX_ROUNDS = 50
ADDED = 16
POOL = 2048


@dataclasses.dataclass(frozen=True)
class GaussianMatch:
    """Optimal covariance P (d, d), the tight directions (k, d) with their multipliers (k,), and the certificate.

    A positive multiplier belongs to the lower side of (1), where the data exceed the samples.
    """

    covariance: Tensor
    directions: Tensor
    multipliers: Tensor
    solution: Solution


def match_gaussian(
    X: Tensor,
    *,
    beta: float,
    tolerance: float = 1e-6,
    generator: torch.Generator | None = None,
    time_limit: float = math.inf,
    progress: Progress | None = None,
) -> GaussianMatch:
    """Minimise tr P subject to (1), globally, for samples N(0, P).

    The value of the finitely many cuts is a lower bound on the global optimum whatever the search for further cuts
    finds; the search (many starts, gradient steps) decides how far (1) may still be exceeded.

    Args:
        X: real sample (n, d), float64.
        beta: right side of (1).
        tolerance: violation that is left, relative to beta.
        generator: source of the search directions; a fixed seed if None.
        time_limit: seconds after which no further round of cuts begins.
        progress: called with (stage, rounds done, rounds at most).

    Returns:
        `GaussianMatch`; status SETTLED, since the constraint is searched and not enumerated.

    Raises:
        InputError: no centred Gaussian is within beta of the sample.
        MissingExtraError: cvxpy is missing.

    References:
        Theory 1.4, on the population of the latents.

    Example:
        >>> X = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
        >>> match = match_gaussian(X, beta=0.1)
        >>> abs(match.solution.gap) < 1e-6
        True
    """
    cp = cvxpy()
    deadline = time.perf_counter() + time_limit
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    d = X.shape[1]
    size = float(X.square().sum(1).mean().sqrt()) or 1.0
    X, level = X / size, beta / size
    judged = relu_discrepancy(X, torch.zeros_like(X[:1]), generator=generator)
    if judged.value <= level:  # P = 0 satisfies (1), and no program is needed
        residual = (judged.value - level) * size
        stats = {"beta": beta, "primal_residual": residual, "dual_residual": 0.0, "cuts": 0, "rounds": 0}
        proved = Status.OPTIMAL if judged.upper <= level else Status.SETTLED
        return GaussianMatch(X.new_zeros(d, d), X[:0], X[:0, 0], Solution(0.0, 0.0, 0.0, proved, stats))
    pool = normalize(torch.randn(POOL, d, generator=generator, dtype=X.dtype, device=generator.device).to(X.device))
    U = torch.cat([torch.linalg.eigh(X.T @ X).eigenvectors.T, pool[: 8 * d]])
    P = cp.Variable((d, d), PSD=True)
    excess, dual, rounds = math.inf, 0.0, 0
    covariance, price = X.new_zeros(d, d), np.zeros(0)
    for _ in range(MAX_ROUNDS):
        rounds += 1
        low, high = _sides(X, U, level, beta)
        A = (U[:, :, None] * U[:, None, :]).reshape(len(U), -1).cpu().numpy()
        form = A @ cp.reshape(P, (d * d,), order="C")
        constraints = [form >= low, form <= high]
        try:
            dual = solve(cp.Problem(cp.Minimize(cp.trace(P)), constraints))
        except SolveError as error:
            raise _too_small(beta) from error
        covariance = torch.as_tensor(0.5 * (P.value + P.value.T)).to(X)
        price = constraints[0].dual_value - constraints[1].dual_value
        U_found, excess = _violated(X, covariance, level, torch.cat([U[torch.as_tensor(np.abs(price) > 1e-9)], pool]))
        if progress is not None:
            progress("cutting planes", rounds, MAX_ROUNDS)
        if excess <= tolerance * level or time.perf_counter() > deadline:
            break
        U = torch.cat([U, U_found])
    value = float(covariance.trace()) * size**2
    bound = dual * size**2
    stats = {"beta": beta, "primal_residual": excess * size, "dual_residual": 0.0, "cuts": len(U), "rounds": rounds}
    done = excess <= tolerance * level
    solution = Solution(value, bound, value - bound, Status.SETTLED if done else Status.BUDGET_SPENT, stats)
    tight = np.flatnonzero(np.abs(price) > 1e-7 * max(1.0, float(np.abs(price).max(initial=0.0))))
    multipliers = torch.as_tensor(price[tight]).to(X)
    return GaussianMatch(covariance * size**2, U[torch.as_tensor(tight)], multipliers, solution)


def _sides(X: Tensor, U: Tensor, level: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on u^T P u, the same for u and -u."""
    both = torch.stack([support(X, U), support(X, -U)])
    low, high = (both.amax(0) - level).clamp_min(0), both.amin(0) + level
    if bool((low > high).any()):
        raise _too_small(beta)
    return ((2.0 * math.pi) * low**2).cpu().numpy(), ((2.0 * math.pi) * high**2).cpu().numpy()


def _too_small(beta: float) -> InputError:
    return InputError(
        f"`beta` {beta:g} is too small: no centred Gaussian satisfies (1) on this sample (its mean alone needs "
        "beta >= ||mean|| / 2); subtract the mean, raise `beta` or use generator='free'"
    )


def _violated(X: Tensor, P: Tensor, level: float, U: Tensor) -> tuple[Tensor, float]:
    def spread(directions: Tensor) -> Tensor:
        return ((directions @ P * directions).sum(1).clamp_min(0) / (2.0 * math.pi)).sqrt()

    top = (support(X, U) - spread(U)).abs()
    for _ in range(4):
        slope = vertex(X, U) - (U @ P) / (2.0 * math.pi * spread(U).clamp_min(1e-12))[:, None]
        sign = (slope * U).sum(1, keepdim=True).sign()
        moved = normalize(U + normalize(slope * sign))
        value = (support(X, moved) - spread(moved)).abs()
        better = value > top
        U, top = torch.where(better[:, None], moved, U), torch.where(better, value, top)
    chosen = apart(U, top, count=ADDED)
    return U[chosen], float(top[chosen[0]]) - level
