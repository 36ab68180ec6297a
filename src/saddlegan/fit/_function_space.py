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
SECTIONS = 60  # golden: 1e-12 of the interval
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

        V(D, p_bar) - V(D_bar, p)  <=  ( ||D_0 - D||^2 + ||p_0 - p||^2 + sum a_t^2 ||h_t||^2 ) / (2 sum a_t)

    for every D and p, with h_t the subgradient of both players, hence the rate O(1/sqrt(T)) with a_t proportional to
    1/sqrt(t). The gap is the largest left side over |D - t*| <= 1 and over all distributions p: it is 0 at the saddle
    point only. For "wasserstein" it is ||p_bar - p_d||_1 plus max D_bar - E D_bar(x).

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
        `Solution`: `value` is max V(D, p_bar) over |D - t*| <= 1, `bound` is min V(D_bar, p) over distributions p, and
        the saddle value f0(t*) lies between them. In `stats`: "saddle_value", "rate_bound" (the largest right side),
        "p_last", "p_average", "D_last", "D_average" (K,), and the trajectory: "total_variation" (steps + 1,) of the
        iterates p_g, "gaps" (steps,): how far below f0(t*) the bound of D_t lies.

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
    # D starts at t*, at most 1 from every D that counts; the farthest distribution is a single point
    distance = len(p_d) + float(p_g.square().sum() - 2.0 * p_g.min()) + 1.0
    weight = energy = 0.0
    D_sum, p_sum = torch.zeros_like(D), torch.zeros_like(p_g)
    variation, gaps = [0.5 * float((p_g - p_d).abs().sum())], []
    best = float(p_d @ rule.f0(D))
    for t in range(steps):
        a = step_size / {"constant": 1.0, "inverse-sqrt": math.sqrt(t + 1.0), "inverse": t + 1.0}[schedule]
        slope, constraint, proved = _subgradients(rule, D, p_d, p_g)
        D_sum, p_sum, weight = D_sum + a * D, p_sum + a * p_g, weight + a
        energy += a * a * float(slope @ slope + constraint @ constraint)
        gaps.append(best - float(proved))
        D = (D + a * slope).clamp(low, high)
        p_g = (p_g - a * constraint).clamp_min(0)
        variation.append(0.5 * float((p_g - p_d).abs().sum()))
        if not math.isfinite(variation[-1]) or not bool(D.isfinite().all()):
            break
    D_bar, p_bar = D_sum / weight, p_sum / weight
    box = torch.full_like(D, max(low, saddle - 1.0)), torch.full_like(D, min(high, saddle + 1.0))
    value, bound = float(_best_reply(rule, p_d, p_bar, *box)), float(_least(rule.f0(D_bar), rule.f1(D_bar), p_d))
    average_variation = 0.5 * float((p_bar - p_d).abs().sum())
    reached = min(average_variation, variation[-1]) <= tolerance
    status = Status.SETTLED if reached else Status.BUDGET_SPENT
    finite = all(math.isfinite(v) for v in (value, bound, variation[-1]))
    stats = {
        "primal_residual": variation[-1],
        "dual_residual": 0.0,
        "rate_bound": (distance + energy) / (2.0 * weight),
        "saddle_discriminator": saddle,
        "saddle_value": best,
        "p_last": p_g,
        "p_average": p_bar,
        "D_last": D,
        "D_average": D_bar,
        "average_total_variation": average_variation,
        "total_variation": torch.tensor(variation, dtype=torch.float64),
        "gaps": torch.tensor(gaps, dtype=torch.float64),
        "steps": len(gaps),
    }
    return Solution(value, bound, value - bound, status if finite else Status.NON_FINITE, stats)


def _least(real: Tensor, fake: Tensor, p_d: Tensor) -> Tensor:
    """Least of sum p_d f0(D) + sum p f1(D) over distributions p: one that sits where f1(D) is smallest."""
    return p_d @ real + fake.min()


def _best_reply(rule: Objective, p_d: Tensor, p_g: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Max over low <= D <= high of sum p_d f0(D) + sum p_g f1(D), concave in each value of D: golden sections."""

    def each(D: Tensor) -> Tensor:
        # 0 * inf where p is 0 at the edge of the domain counts as 0
        return torch.nan_to_num(p_d * rule.f0(D), nan=0.0) + torch.nan_to_num(p_g * rule.f1(D), nan=0.0)

    top = torch.maximum(each(low), each(high))
    ratio = 0.5 * (math.sqrt(5.0) - 1.0)
    for _ in range(SECTIONS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        a, b = each(left), each(right)
        top = torch.maximum(top, torch.maximum(a, b))
        low, high = torch.where(a < b, left, low), torch.where(a < b, high, right)
    return top.sum()


def _subgradients(rule: Objective, D: Tensor, p_d: Tensor, p_g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """d/dD of the Lagrangian, d/dp_g, which is f1(D), and the lower bound that D proves."""
    with torch.enable_grad():
        t = D.detach().requires_grad_(True)
        real, fake = rule.f0(t), rule.f1(t)
        (slope,) = torch.autograd.grad(p_d @ real + p_g @ fake, t)
    fake = fake.detach()
    return slope, fake, _least(real.detach(), fake, p_d)


def _masses(p: Any, name: str) -> Tensor:
    p = torch.as_tensor(p).detach().double()
    if p.ndim != 1 or len(p) == 0:
        raise InputError(f"`{name}` must have shape (K,) with K >= 1, got {tuple(p.shape)}")
    if not bool(p.isfinite().all()) or bool((p < 0).any()):
        raise InputError(f"`{name}` must be finite and non-negative")
    return p
