"""The one-dimensional ReLU WGAN: closed form, convex program, brute force over orderings."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch

from saddlegan import Status, fit
from saddlegan.errors import InputError, SolveError
from saddlegan.fit.relu._one_dimension import huber_discriminator, stop_loss_discrepancy, winsorise
from saddlegan.fit.relu._one_dimension_program import largest_fraction, linear_generator, mismatch, sorted_program


def brute_force(x, m, beta):
    """Oracle: one quadratic program per interleaving of the two sorted samples, the stop-loss form written out."""
    n, best = len(x), np.inf
    x = np.sort(x)
    for places in itertools.combinations(range(n + m), m):
        g = cp.Variable(m)
        points, i, j = [], 0, 0
        for k in range(n + m):
            if k in places:
                points.append(g[j])
                j += 1
            else:
                points.append(x[i])
                i += 1
        constraints = [points[k] <= points[k + 1] + 0 * g[0] for k in range(n + m - 1)]
        real = np.array([k not in places for k in range(n + m)])
        weight = np.where(real, 1.0 / n, -1.0 / m)
        for b in range(n + m):
            above = sum(weight[k] * (points[k] - points[b]) for k in range(b, n + m))
            below = sum(weight[k] * (points[b] - points[k]) for k in range(b + 1))
            constraints += [cp.abs(above + 0 * g[0]) <= beta, cp.abs(below + 0 * g[0]) <= beta]
        problem = cp.Problem(cp.Minimize(cp.sum_squares(g) / m), constraints)
        problem.solve(solver=cp.CLARABEL)
        if problem.status in ("optimal", "optimal_inaccurate"):
            best = min(best, float(problem.value))
    return best


@pytest.mark.parametrize(("n", "m", "seed"), [(2, 2, 0), (3, 3, 1), (4, 4, 2), (2, 3, 3), (4, 2, 4)])
@pytest.mark.slow  # all orderings
def test_program_and_closed_form_equal_brute_force_over_orderings(n, m, seed):
    rng = np.random.default_rng(seed)
    x, beta = rng.standard_normal(n) + 0.3, 0.3
    expected = brute_force(x, m, beta)
    assert sorted_program(x, m, beta)[1].value == pytest.approx(expected, abs=1e-6)
    closed = winsorise(torch.tensor(x), beta).solution.value
    if m == n:
        assert closed == pytest.approx(expected, abs=1e-6)
    else:
        assert closed <= expected + 1e-6


@pytest.mark.slow  # a hundred programs
def test_closed_form_equals_the_program_for_unequal_sizes():
    """Oracle: cvxpy. 200 cases; m is a multiple of n, where the clipped quantile function has m equal cells."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, multiple = int(rng.integers(1, 8)), int(rng.integers(1, 4))
        x, beta = 2.0 * rng.standard_normal(n) + rng.standard_normal(), float(0.7 * rng.random() + 0.001)
        result = winsorise(torch.tensor(x), beta)
        _, solution = sorted_program(x, n * multiple, beta)
        assert result.solution.value == pytest.approx(solution.value, abs=1e-7)
        assert abs(solution.gap) < 1e-7


def generic_program(x, m, beta):
    """Oracle: cvxpy on the common refinement of both samples into lcm(n, m) equal cells; None if infeasible."""
    cells = math.lcm(len(x), m)
    g = cp.Variable(m)
    real = np.cumsum(np.repeat(np.sort(x)[::-1], cells // len(x))) / cells
    fake = np.tril(np.ones((cells, cells))) @ np.repeat(np.eye(m), cells // m, axis=0) / cells @ g
    above = real - fake
    rest = (real[-1] - np.append(0.0, real[:-1])) - (fake[-1] - cp.hstack([0.0, fake[:-1]]))
    constraints = [cp.abs(above) <= beta, cp.abs(rest) <= beta]
    if m > 1:
        constraints.append(cp.diff(g) <= 0)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(g) / m), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value) if problem.status == "optimal" else None


@pytest.mark.slow  # a hundred cvxpy programs
def test_program_equals_a_generic_one_for_any_two_sizes():
    """Oracle: cvxpy, another parametrisation. 200 random cases; both say so where so few values are not feasible."""
    solved, odd = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, m = int(rng.integers(1, 8)), int(rng.integers(1, 8))
        x, beta = 2.0 * rng.standard_normal(n) + rng.standard_normal(), float(0.7 * rng.random() + 0.001)
        expected = generic_program(x, m, beta)
        if expected is None:
            with pytest.raises(SolveError):
                sorted_program(x, m, beta)
            continue
        solved, odd = solved + 1, odd + (m % n > 0)
        assert sorted_program(x, m, beta)[1].value == pytest.approx(expected, abs=1e-7)
        assert winsorise(torch.tensor(x), beta).solution.value <= expected + 1e-7
    assert solved >= 120
    assert odd >= 60


@pytest.mark.slow  # many fits
def test_averaging_the_closed_form_over_cells_is_not_feasible_in_general():
    """Why other sizes need the program: m averages of the clipped quantile function break (1), mostly."""
    broken, feasible = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, m = int(rng.integers(2, 8)), int(rng.integers(1, 8))
        x, beta = 2.0 * rng.standard_normal(n) + rng.standard_normal(), 0.05 + 0.7 * rng.random()
        if m % n == 0 or generic_program(x, m, beta) is None:
            continue
        clipped = winsorise(torch.tensor(x), beta).points.numpy()
        averages = m * np.diff(largest_fraction(clipped, np.arange(m + 1) / m))
        excess = mismatch(x, averages) - beta
        assert excess == pytest.approx(
            stop_loss_discrepancy(torch.tensor(x), torch.tensor(averages)).value - beta, abs=1e-12
        )
        feasible += excess <= 1e-9
        broken += excess > 1e-3
    assert broken > feasible > 0


def test_other_sizes_cost_more_and_stay_feasible():
    """The closed form is a bound for every number of generated values."""
    x = np.random.default_rng(0).standard_normal(7)
    bound = winsorise(torch.tensor(x), 0.4).solution.value
    for m in (3, 5, 9, 20):
        points, solution = sorted_program(x, m, 0.4)
        assert solution.value >= bound - 1e-8
        assert mismatch(x, points) <= 0.4 + 1e-8
        assert stop_loss_discrepancy(torch.tensor(x), torch.tensor(points)).value <= 0.4 + 1e-8


@pytest.mark.parametrize("h", [cp.abs, lambda g: cp.power(g, 4), lambda g: cp.exp(g) - g])
def test_winsorisation_is_optimal_for_every_separable_convex_regulariser(h):
    """Oracle: cvxpy with R_g = E h(g), h convex and smallest at 0."""
    x = np.random.default_rng(3).standard_normal(6) + 0.2
    result = winsorise(torch.tensor(x), 0.15)
    _, solution = sorted_program(x, 6, 0.15, regulariser=lambda g: cp.sum(h(g)) / 6)
    closed = cp.Constant(result.points.numpy())
    assert float((cp.sum(h(closed)) / 6).value) == pytest.approx(solution.value, abs=1e-6)


def test_program_takes_a_regulariser_that_is_no_expectation():
    """Oracle: the variance does not see a shift, so shifted data give shifted points of the same value."""
    x = np.random.default_rng(5).standard_normal(5)

    def variance(g):
        return cp.sum_squares(g - cp.sum(g) / 5) / 5

    first, second = (sorted_program(x + shift, 5, 0.1, regulariser=variance)[1].value for shift in (0.0, 3.0))
    assert first == pytest.approx(second, abs=1e-6)
    assert first < np.var(x)


@pytest.mark.parametrize("beta_sum", [0.1, 1.0])
def test_the_paper_s_two_points(beta_sum):
    points = winsorise(torch.tensor([1.0, -1.0]), beta_sum / 2).points
    assert points.tolist() == pytest.approx([beta_sum - 1.0, 1.0 - beta_sum])


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 2.0, 50.0])
def test_discriminator_proves_the_optimum(shift, beta):
    """Oracle: weak duality, evaluated with the network itself."""
    x = torch.randn(101, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + shift
    result = winsorise(x, beta)
    D = huber_discriminator(result)
    with torch.no_grad():
        y = torch.cat([torch.linspace(-12, 12, 4001, dtype=torch.float64), result.points])[:, None]
        reply = float((y[:, 0] ** 2 - D(y)).min())
        dual = float(D(x[:, None]).mean() - beta * D.path_norm()) + reply
    assert dual == pytest.approx(result.solution.value, abs=1e-9)
    assert result.solution.status is Status.OPTIMAL
    assert abs(result.solution.gap) < 1e-9
    assert result.solution.stats["primal_residual"] < 1e-12


def test_discriminator_with_few_neurons_is_still_a_bound():
    x = torch.randn(5000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = winsorise(x, 0.05)
    D = huber_discriminator(result, max_neurons=16)
    with torch.no_grad():
        dual = float(D(x[:, None]).mean() - 0.05 * D.path_norm())
    assert 0.95 * result.solution.value < dual <= result.solution.value


def test_stop_loss_discrepancy_equals_a_dense_search():
    rng = np.random.default_rng(0)
    x, g = torch.tensor(rng.standard_normal(7)), torch.tensor(rng.standard_normal(4) + 0.2)
    b = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    best = 0.0
    for s in (1.0, -1.0):
        real, fake = ((s * p[:, None] - b).clamp_min(0).mean(0) for p in (x, g))
        best = max(best, float((real - fake).abs().max()))
    found = stop_loss_discrepancy(x, g)
    assert found.value == pytest.approx(best, abs=1e-4)
    assert found.value >= best - 1e-12
    assert found.value == pytest.approx(mismatch(x.numpy(), g.numpy()), abs=1e-12)


@pytest.mark.slow  # many programs and descents
def test_linear_generator_equals_a_search_over_scale_and_shift():
    """Oracle: a grid over (w, b), feasibility by the stop-loss transform of the normal distribution."""
    from scipy.stats import norm

    rng = np.random.default_rng(4)
    x, beta = rng.standard_normal(60) + 0.4, 0.15
    result = linear_generator(x, beta)
    thresholds = np.linspace(-5, 5, 4001)
    real = np.maximum(x[:, None] - thresholds, 0).mean(0)

    def excess(w, b):
        t = (b - thresholds) / w
        fake = w * (norm.pdf(t) + t * norm.cdf(t))
        shift = x.mean() - b
        return max(np.abs(real - fake).max(), np.abs(real - fake - shift).max()) - beta

    assert excess(result.scale, result.shift) <= 1e-6
    grid = [w * w + b * b for w in np.linspace(0.5, 1.2, 71) for b in np.linspace(0.0, 0.8, 81) if excess(w, b) <= 0.0]
    assert result.solution.value <= min(grid) + 1e-9
    assert result.solution.value >= min(grid) - 0.05
    assert abs(result.solution.gap) < 1e-9


def test_linear_generator_says_when_beta_is_too_small():
    with pytest.raises(InputError, match="`beta`"):
        linear_generator(np.array([-1.0, 1.0, 1.0]), 1e-3)
    with pytest.raises(SolveError, match="beta"):
        sorted_program(np.array([0.0, 10.0]), 1, 1e-3)


def test_estimator_of_both_generators():
    x = np.random.default_rng(0).standard_normal((400, 1)) + 0.5
    free = fit.ReLUWGAN(beta=0.1).fit(x)
    linear = fit.ReLUWGAN(beta=0.1, generator="linear").fit(x)
    assert free.solution_.value < linear.solution_.value
    for model in (free, linear):
        sample = model.sample(50_000, random_state=0)
        assert fit.discrepancy(x, sample, kind="relu", thresholds=True).value < 0.1 + 0.02
        assert (sample**2).mean() == pytest.approx(model.solution_.value, abs=0.02)


def test_bad_input():
    with pytest.raises(InputError, match="`beta`"):
        winsorise(torch.ones(3), -1.0)
    with pytest.raises(InputError, match="`x`"):
        winsorise(torch.tensor([1.0, float("nan")]), 0.1)
    with pytest.raises(InputError, match="`x`"):
        winsorise(torch.ones(2, 2), 0.1)
    with pytest.raises(InputError, match="`thresholds`"):
        fit.discrepancy(np.eye(2), np.eye(2), kind="relu", thresholds=True)
