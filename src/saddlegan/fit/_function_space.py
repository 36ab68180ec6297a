"""Theory 3: training in function space, the primal-dual subgradient method on a finite set of points."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from saddlegan import checks
from saddlegan.errors import InputError
from saddlegan.objectives import Objective, get
from saddlegan.results import Solution, Status

Schedule = Literal["constant", "inverse-sqrt", "inverse"]
MARGIN = 1e-2  # D stays this far inside an open domain, so that subgradients stay bounded


def function_space(
    p_data: Any,
    p_init: Any,
    objective: str | Objective = "vanilla",
    *,
    steps: int = 10_000,
    step_size: float = 0.1,
    schedule: Schedule = "constant",
    tolerance: float = 0.05,
) -> Solution:
    """Play the GAN game in function space: the generator's probabilities are the multipliers of f1(D) >= 0.

        D   <- Proj [ D + a_t (p_d f0'(D) + p_g f1'(D)) ],      p_g <- (p_g - a_t f1(D))_+

    both from the same iterate. For concave f0 and f1 the averages D_bar, p_bar (weighted by a_t) satisfy

        V(D*, p_bar) - V(D_bar, p_d)  <=  ( ||D_0 - D*||^2 + ||p_0 - p_d||^2 + sum a_t^2 ||h_t||^2 ) / (2 sum a_t)

    with h_t the subgradient of both players,
    hence the rate O(1/sqrt(T)) with a_t proportional to 1/sqrt(t). Both sides are in `stats`.

    The iterates themselves settle where a_t is small beside the least mass of p_d (explicit steps undo the damping that
    f0 and f1 give); the averages do so in any case.

    Args:
        p_data: p_d (K,), non-negative, summing to 1.
        p_init: initial p_g (K,), non-negative; it may be zero where data are.
        objective: one with a Lagrangian view (f1(t*) = 0 and f0'(t*) = -f1'(t*)).
        steps: T.
        step_size: a_0.
        schedule: "constant", "inverse-sqrt" a_0 / sqrt(t + 1), or "inverse" a_0 / (t + 1).
        tolerance: total variation (half the sum of |p_bar - p_d|) below which the status is SETTLED.

    Returns:
        `Solution`: `value` is the saddle value f0(t*), `bound` is V(D_bar, p_d), `gap` the left side above. In `stats`:
        "rate_bound" its right side, "p_last", "p_average", "D_last", "D_average" (K,), and the trajectory:
        "total_variation" (steps + 1,) of the iterates p_g, "gaps" (steps,) of the iterates.

    Raises:
        InputError: unusable probabilities or options.
        ObjectiveError: unknown objective, or one without the Lagrangian view (least squares, hinge).

    References:
        [C18] equation (5) of the theory and its convergence theorem; Nedic and Ozdaglar (2009) for the averages.

    Example:
        >>> solution = function_space([0.5, 0.5, 0.0], [1.0, 0.0, 0.0], steps=4000)
        >>> solution.status.name, [round(p, 2) for p in solution.stats["p_last"].tolist()]
        ('SETTLED', [0.5, 0.5, 0.0])
    """
    rule = get(objective)
    saddle = rule.require_lagrangian("function_space")
    steps = checks.count("steps", steps)
    step_size = checks.positive("step_size", step_size)
    tolerance = checks.number("tolerance", tolerance)
    if schedule not in get_args(Schedule):
        raise InputError(f"`schedule` must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
    p_d, p_g = _masses(p_data, "p_data"), _masses(p_init, "p_init")
    if p_d.shape != p_g.shape:
        raise InputError(f"`p_data` and `p_init` must have one length, got {len(p_d)} and {len(p_g)}")
    if abs(float(p_d.sum()) - 1.0) > 1e-6:
        raise InputError(f"`p_data` must sum to 1, got {float(p_d.sum()):.6g}; divide by its sum")
    low, high = rule.domain[0] + MARGIN, rule.domain[1] - MARGIN
    D = torch.full_like(p_d, saddle)
    distance = float((p_g - p_d).square().sum())  # D starts at D*
    weight = energy = 0.0
    D_sum, p_sum = torch.zeros_like(D), torch.zeros_like(p_g)
    variation, gaps = [0.5 * float((p_g - p_d).abs().sum())], []
    best = float(_value(rule, D, p_d, p_d))
    for t in range(steps):
        a = step_size / {"constant": 1.0, "inverse-sqrt": math.sqrt(t + 1.0), "inverse": t + 1.0}[schedule]
        slope, constraint, current = _subgradients(rule, D, p_d, p_g)
        D_sum, p_sum, weight = D_sum + a * D, p_sum + a * p_g, weight + a
        energy += a * a * float(slope @ slope + constraint @ constraint)
        gaps.append(best - float(current))
        D = (D + a * slope).clamp(low, high)
        p_g = (p_g - a * constraint).clamp_min(0)
        variation.append(0.5 * float((p_g - p_d).abs().sum()))
        if not math.isfinite(variation[-1]) or not bool(D.isfinite().all()):
            break
    D_bar, p_bar = D_sum / weight, p_sum / weight
    bound = float(_value(rule, D_bar, p_d, p_d))
    average_variation = 0.5 * float((p_bar - p_d).abs().sum())
    reached = min(average_variation, variation[-1]) <= tolerance
    status = Status.SETTLED if reached else Status.BUDGET_SPENT
    finite = all(math.isfinite(v) for v in (bound, variation[-1]))
    stats = {
        "primal_residual": variation[-1],
        "dual_residual": 0.0,
        "rate_bound": (distance + energy) / (2.0 * weight),
        "saddle_discriminator": saddle,
        "p_last": p_g,
        "p_average": p_bar,
        "D_last": D,
        "D_average": D_bar,
        "average_total_variation": average_variation,
        "total_variation": torch.tensor(variation, dtype=torch.float64),
        "gaps": torch.tensor(gaps, dtype=torch.float64),
        "steps": len(gaps),
    }
    return Solution(best, bound, best - bound, status if finite else Status.NON_FINITE, stats)


def _value(rule: Objective, D: Tensor, p_d: Tensor, p_g: Tensor) -> Tensor:
    """The Lagrangian of (4), sum p_d f0(D) + sum p_g f1(D)."""
    return p_d @ rule.f0(D) + p_g @ rule.f1(D)


def _subgradients(rule: Objective, D: Tensor, p_d: Tensor, p_g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """d/dD of the Lagrangian, d/dp_g, which is f1(D), and V(D, p_d)."""
    with torch.enable_grad():
        t = D.detach().requires_grad_(True)
        real, fake = rule.f0(t), rule.f1(t)
        (slope,) = torch.autograd.grad(p_d @ real + p_g @ fake, t)
    fake = fake.detach()
    return slope, fake, p_d @ (real.detach() + fake)


def _masses(p: Any, name: str) -> Tensor:
    p = torch.as_tensor(p).detach().double()
    if p.ndim != 1 or len(p) == 0:
        raise InputError(f"`{name}` must have shape (K,) with K >= 1, got {tuple(p.shape)}")
    if not bool(p.isfinite().all()) or bool((p < 0).any()):
        raise InputError(f"`{name}` must be finite and non-negative")
    return p
