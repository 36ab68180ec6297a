"""The ReLU WGAN for free points, one per row of data, in two and more dimensions: starts, descent, proof."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time

import torch
from torch import Tensor

from saddlegan.errors import SolveError
from saddlegan.fit.relu._descent import SMALL, STAGES, Descended, descend, feasible
from saddlegan.fit.relu._discrepancy import relu_discrepancy
from saddlegan.fit.relu._measure import solve_measure
from saddlegan.fit.relu._points import MatchedPoints, match_points, relaxation_bound
from saddlegan.moments._engines import Progress
from saddlegan.results import Discrepancy, Solution, Status

MEASURE_TOLERANCE = 5e-4  # relative gap of the global bound in the plane
PLANAR_ROUNDS = 16  # of cutting planes in the plane: symmetric data are solved exactly by then
PLANAR_STAGES = 8
NEAR = 0.3  # share of the first step's length where the start is nearly optimal
MORE_STARTS = 3
RETREATS = 200
TIGHT = 1e-5  # slack relative to beta that is left
SHRINKS = 4
RETREAT = 0.05  # share of the way to the data, where the exact discrepancy is larger than the searched one


def solve_free(
    X: Tensor,
    *,
    beta: float,
    generator: torch.Generator,
    n_points: int | None = None,
    time_limit: float = math.inf,
    progress: Progress | None = None,
) -> MatchedPoints:
    """Minimise (1/m) ||G||_F^2 over m free points G subject to (1).

    If G = 0 satisfies (1) it is the optimum. In the plane the points start from the global optimum over distributions;
    above, from the data and, for few, from data in noise.

    Args:
        X: real sample (n, d), d >= 2, float64.
        beta: right side of (1), positive, in data units.
        generator: source of the search directions.
        n_points: m; None for n.
        time_limit: seconds after which the best points so far are returned, with status BUDGET_SPENT. The step at
            hand is finished first.
        progress: called with (stage, steps done, steps at most).

    Returns:
        `MatchedPoints`, whose discrepancy from X was not found above beta.

    Raises:
        SolveError: no m points that satisfy (1) were found; only where n does not divide m.

    References:
        Theory 1.4.

    Example:
        >>> X = torch.eye(3, dtype=torch.float64)
        >>> solve_free(X, beta=1.0, generator=torch.Generator().manual_seed(0)).solution
        Solution(value=0, bound=0, gap=0, status=OPTIMAL)
    """
    started = time.perf_counter()
    deadline = started + time_limit
    size = float(X.square().sum(1).mean().sqrt()) or 1.0
    found = _solve(X / size, beta / size, n_points or len(X), generator, deadline, progress)
    solution = found.solution
    stats = {key: value * size if key.endswith("_residual") else value for key, value in solution.stats.items()}
    stats |= {"beta": beta, "solve_seconds": time.perf_counter() - started}
    if "measure_value" in stats:
        stats["measure_value"] *= size**2
    value, bound = solution.value * size**2, solution.bound * size**2
    return dataclasses.replace(
        found,
        points=found.points * size,
        coefficients=found.points * size,
        outer=found.outer * size,
        solution=Solution(value, bound, value - bound, solution.status, stats),
    )


def _solve(
    X: Tensor, beta: float, m: int, generator: torch.Generator, deadline: float, progress: Progress | None
) -> MatchedPoints:
    nothing = X.new_zeros(m, X.shape[1])
    judged = relu_discrepancy(X, nothing[:1], generator=generator)
    if judged.value <= beta:
        proved = Status.OPTIMAL if judged.upper <= beta else Status.SETTLED
        return _matched(Descended(nothing, X[:0], X[:0, 0]), judged, beta, 0.0, proved)
    height, planar = judged.upper if judged.exact else judged.value, X.shape[1] == 2
    bound, extra = relaxation_bound(X, beta, generator), {}
    candidates: list[MatchedPoints] = []
    # every row equally often: the data themselves where n divides m, which satisfy (1) exactly
    data = X[torch.arange(m, device=X.device) * len(X) // m] if m < len(X) else X.repeat(-(-m // len(X)), 1)[:m]
    starts, rate, stages = [data], 1.0, STAGES
    if planar:
        measure = solve_measure(X, beta=beta, tolerance=MEASURE_TOLERANCE, generator=generator)
        bound, extra = max(bound, measure.bound), {"measure_value": measure.radius**2}
        starts, rate, stages = [measure.points(m)], NEAR, PLANAR_STAGES
        with contextlib.suppress(SolveError):
            cut = match_points(X, starts[0], beta=beta, generator=generator, max_rounds=PLANAR_ROUNDS)
            if cut.solution.stats["primal_residual"] <= 0.0:
                candidates.append(cut)
    elif X.numel() <= SMALL:
        noise = torch.randn(MORE_STARTS, *data.shape, generator=generator, dtype=X.dtype, device=generator.device)
        starts += list(data + noise.to(X) / X.shape[1] ** 0.5)
    if not any(candidate.solution.status is Status.LOCAL for candidate in candidates):
        safe = data if m % len(X) == 0 else _nearest(X, data, beta, generator, deadline)
        for index, start in enumerate(starts):
            if candidates and time.perf_counter() > deadline:
                break
            shown = None if progress is None else functools.partial(progress, f"start {index + 1} of {len(starts)}")
            made = descend(
                X,
                start,
                beta=beta,
                generator=generator,
                deadline=deadline,
                rate=rate,
                stages=stages,
                progress=shown,
            )
            points = feasible(X, made.points, safe, beta=beta, generator=generator)
            if points is None:
                continue
            judged = relu_discrepancy(X, points, generator=generator)
            retreats = 0
            # patterns that could be listed know better than the search; the data have discrepancy 0, so that this ends
            while judged.value > beta * (1.0 + 1e-9) and retreats < RETREATS:
                points = torch.lerp(points, safe, RETREAT)
                judged, retreats = relu_discrepancy(X, points, generator=generator), retreats + 1
            if judged.value <= beta * (1.0 + 1e-9):
                made = dataclasses.replace(made, points=points)
                candidates.append(_matched(made, judged, beta, bound, Status.SETTLED))
    if not candidates:
        nobody = Solution(math.nan, bound, math.nan, Status.FAILED, {"n_points": m})
        raise SolveError(
            f"no {m} points were found whose discrepancy from the {len(X)} rows is within beta; raise `beta`, or take "
            f"`n_points` that are a multiple of {len(X)}, for which the data themselves will do",
            nobody,
        )
    best = min(candidates, key=lambda found: (found.solution.stats["primal_residual"] > 0.0, found.solution.value))
    best = _tightened(X, best, beta, height, generator)
    value = best.solution.value
    status = Status.LOCAL if best.solution.status is Status.LOCAL else Status.SETTLED
    if time.perf_counter() > deadline:
        status = Status.BUDGET_SPENT
    solution = Solution(value, bound, value - bound, status, {**best.solution.stats, **extra})
    return dataclasses.replace(best, solution=solution)


def _tightened(
    X: Tensor, found: MatchedPoints, beta: float, height: float, generator: torch.Generator
) -> MatchedPoints:
    """Shrink points that leave (1) slack.

    sup |E (x^T u)_+ - s E (g^T u)_+| is convex in s, `height` at s = 0 and known at s = 1, so that the chord between
    them says how far the points may shrink.
    """
    points, reached = found.points, beta + found.solution.stats["primal_residual"]
    for _ in range(SHRINKS):
        slack = beta - reached - TIGHT * beta
        if slack <= 0.0 or height <= beta:
            break
        smaller = points * (1.0 - slack / (height - reached))
        reached = relu_discrepancy(X, smaller, generator=generator, bound=False).value
        if reached > beta:  # above two columns the search may find more than before
            break
        points = smaller
    judged = relu_discrepancy(X, points, generator=generator)
    if points is found.points or judged.value > beta:
        return found
    value = float(points.square().sum(1).mean())
    stats = {**found.solution.stats, "primal_residual": judged.value - beta, "upper_residual": judged.upper - beta}
    solution = dataclasses.replace(found.solution, value=value, gap=value - found.solution.bound, stats=stats)
    return dataclasses.replace(found, points=points, coefficients=points, solution=solution)


def _nearest(X: Tensor, start: Tensor, beta: float, generator: torch.Generator, deadline: float) -> Tensor:
    """Return points whose discrepancy from X is well below beta, if the descent can bring it there."""
    return descend(X, start, beta=0.5 * beta, generator=generator, deadline=deadline).points


def _matched(made: Descended, judged: Discrepancy, beta: float, bound: float, status: Status) -> MatchedPoints:
    value = float(made.points.square().sum(1).mean())
    stats = {
        "primal_residual": judged.value - beta,
        "upper_residual": judged.upper - beta,
        "dual_residual": 0.0,
        "neurons": len(made.outer),
    }
    return MatchedPoints(
        made.points, made.points, made.directions, made.outer, Solution(value, bound, value - bound, status, stats)
    )
