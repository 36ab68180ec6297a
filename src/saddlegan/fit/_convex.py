"""The two convex workhorses of the semi-infinite programs: cvxpy as an optional extra, and least distance."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np
from scipy.optimize import nnls

from saddlegan.errors import MissingExtraError, SolveError
from saddlegan.results import Solution, Status

TOLERANCE = 1e-10  # asked of the interior-point solver: its answers are measured afterwards, never believed


def cvxpy() -> Any:
    """Return the cvxpy module.

    Raises:
        MissingExtraError: cvxpy is not installed.
    """
    try:
        return importlib.import_module("cvxpy")
    except ImportError as error:
        raise MissingExtraError("cvxpy", "convex") from error


def solve(problem: Any, *, time_limit: float = math.inf) -> float:
    """Solve a cvxpy minimisation by Clarabel to high accuracy and return its dual objective.

    Args:
        problem: a cvxpy problem.
        time_limit: seconds for the interior-point method.

    Raises:
        SolveError: the solver found no optimum; the message carries its status.
    """
    cp = cvxpy()
    options: dict[str, float] = {"tol_gap_abs": TOLERANCE, "tol_gap_rel": TOLERANCE, "tol_feas": TOLERANCE}
    if math.isfinite(time_limit):
        options["time_limit"] = time_limit
    try:
        data, chain, inverse = problem.get_problem_data(cp.CLARABEL, solver_opts=options)
        answer = chain.solve_via_data(problem, data, solver_opts=options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": every caller measures
            problem.unpack_results(answer, chain, inverse)
    except cp.error.SolverError as error:
        raise _failed(str(error)) from error
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise _failed(problem.status)
    return float(problem.value - (answer.obj_val - answer.obj_val_dual))


def _failed(reason: str) -> SolveError:
    nothing = Solution(float("nan"), float("nan"), float("nan"), Status.FAILED, {"reason": reason})
    return SolveError(f"the convex program was not solved: {reason}; raise `beta` or check the data's scale", nothing)


def least_distance(A: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Solve min ||y||^2 subject to A y <= c by non-negative least squares; None if no such y exists.

    Args:
        A: constraints (k, p).
        c: right sides (k,).

    Returns:
        y (p,) and multipliers lam (k,) >= 0 with 2 y + A^T lam = 0; the dual value -||A^T lam||^2 / 4 - c^T lam.

    References:
        Lawson and Hanson, Solving Least Squares Problems, chapter 23.

    Example:
        >>> y, lam = least_distance(np.array([[-1.0, -1.0]]), np.array([-2.0]))
        >>> y.round(12).tolist(), lam.round(12).tolist()
        ([1.0, 1.0], [2.0])
    """
    scale = np.linalg.norm(A, axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    size = max(1.0, float(np.abs(c / scale).max(initial=0.0)))  # brings y to order one
    E = np.vstack([-(A / scale[:, None]).T, -(c / scale)[None] / size])
    target = np.zeros(E.shape[0])
    target[-1] = 1.0
    weights, _ = nnls(E, target, maxiter=10 * max(E.shape))
    residual = E @ weights - target
    if -residual[-1] <= 1e-12:
        return None
    y = -residual[:-1] / residual[-1] * size
    return y, 2.0 * size * weights / (-residual[-1]) / scale
