"""ReLU discriminators in d dimensions: discrepancies, free points, Gaussian latents."""

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from saddlegan import Status, fit
from saddlegan.errors import InputError, SolveError
from saddlegan.fit.relu._arrangements import cells, sweep
from saddlegan.fit.relu._discrepancy import ascend, coupling_bound, relu_discrepancy, upper_bound
from saddlegan.fit.relu._gaussian import match_gaussian
from saddlegan.fit.relu._measure import solve_measure
from saddlegan.fit.relu._points import match_points
from saddlegan.fit.relu._zonotope import project


def all_pairs_of_patterns(X, G):
    """Oracle, the paper's program: for every joint activation pattern, the sum's maximum over its cone (NNLS)."""
    P = np.vstack([X, G])
    weights = np.concatenate([np.full(len(X), 1.0 / len(X)), np.full(len(G), -1.0 / len(G))])
    used = np.abs(P).sum(1) > 0
    P, weights = P[used], weights[used]
    best = 0.0
    for pattern in cells(P):
        slope = (weights[pattern][:, None] * P[pattern]).sum(0)
        cone = P * np.where(pattern, 1.0, -1.0)[:, None]
        for sign in (1.0, -1.0):
            best = max(best, nnls(cone.T, -sign * slope)[1])
    return best


def ring(n, seed=0):
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(0, 8, n) / 8
    return torch.tensor(2.0 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.02 * rng.standard_normal((n, 2)))


@pytest.mark.parametrize(("n", "d"), [(3, 2), (8, 2), (5, 3), (8, 3), (8, 4), (3, 4)])
def test_generic_arrangements_have_cover_s_number_of_cells(n, d):
    P = np.random.default_rng(n).standard_normal((n, d))
    patterns = cells(P)
    assert len(patterns) == 2 * sum(math.comb(n - 1, i) for i in range(min(n, d)))
    assert len(np.unique(patterns, axis=0)) == len(patterns)


@pytest.mark.slow  # many programs and descents
@pytest.mark.parametrize("seed", range(10))
def test_degenerate_arrangements_equal_sampled_patterns(seed):
    rng = np.random.default_rng(seed)
    P = np.round(1.2 * rng.standard_normal((7, 3)))
    P = P[np.abs(P).sum(1) > 0]
    sampled = np.unique(rng.standard_normal((100_000, 3)) @ P.T > 0, axis=0)
    assert {row.tobytes() for row in cells(P)} == {row.tobytes() for row in sampled}


def test_sweep_equals_enumeration_of_patterns():
    worst = 0.0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(1, 8, 2)
        X, G = rng.standard_normal((n, 2)), rng.standard_normal((m, 2))
        if seed % 3 == 0:  # repeated and collinear points
            X, G = np.round(X), np.round(G)
        if not np.abs(np.vstack([X, G])).sum():
            continue
        found = relu_discrepancy(torch.tensor(X), torch.tensor(G))
        worst = max(worst, abs(found.value - all_pairs_of_patterns(X, G)))
    assert worst < 1e-10


def test_signed_sweep_equals_a_dense_search():
    rng = np.random.default_rng(0)
    P, w = torch.tensor(rng.standard_normal((9, 2))), torch.tensor(rng.standard_normal(9))
    angle = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    dense = torch.relu(torch.stack([angle.cos(), angle.sin()], 1) @ P.T) @ w
    for sign, expected in ((1.0, float(dense.max())), (-1.0, float(-dense.min()))):
        value = sweep(P, sign * w, signed=True)[0]
        assert expected - 1e-12 <= value <= expected + 1e-4  # the grid misses the kinks
    assert sweep(torch.zeros(2, 2).double(), torch.ones(2).double())[0] == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_zonotopes_equal_the_paper_s_program_in_space(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 7, 2)
    X, G = rng.standard_normal((n, 3)), rng.standard_normal((m, 3)) * rng.random()
    if seed % 4 == 0:
        X = np.round(X) + 0.0
        X[0] = 1.0
    found = relu_discrepancy(torch.tensor(X), torch.tensor(G))
    assert found.exact
    assert found.value == pytest.approx(all_pairs_of_patterns(X, G), abs=1e-9)


def test_one_dimension():
    X, G = torch.tensor([[1.0], [-2.0]]).double(), torch.tensor([[0.0]]).double()
    assert relu_discrepancy(X, G).value == pytest.approx(1.0)


def test_projection_on_a_zonotope_equals_bounded_least_squares():
    rng = np.random.default_rng(1)
    P, point = rng.standard_normal((12, 4)), 0.5 * rng.standard_normal(4)
    s = cp.Variable(12)
    problem = cp.Problem(cp.Minimize(cp.norm(point - P.T @ s / 12)), [s >= 0, s <= 1])
    problem.solve(solver=cp.CLARABEL)
    found = project(torch.tensor(point), torch.tensor(P))
    assert found.upper == pytest.approx(float(problem.value), abs=1e-7)
    assert found.lower == pytest.approx(found.upper, abs=1e-9)


@pytest.mark.slow  # hundreds of exact cases
def test_ascent_reaches_the_exact_value_and_the_bound_stays_above():
    """200 cases small enough to enumerate: the search alone is exact in at least 95% of them."""
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        d, n, m = int(rng.integers(3, 6)), int(rng.integers(3, 11)), int(rng.integers(3, 11))
        X, G = (
            torch.tensor(rng.standard_normal((n, d))),
            torch.tensor(rng.standard_normal((m, d)) * (0.5 + rng.random())),
        )
        exact = relu_discrepancy(X, G)
        assert exact.exact
        best = ascend(X, G, n_starts=64, generator=None)
        assert best.lower <= exact.value * (1 + 1e-9)
        assert coupling_bound(X, G, best.direction) >= exact.value - 1e-12
        hits += best.lower >= exact.value * (1 - 1e-9)
    assert hits >= 190


def test_ten_dimensions_are_two_sided_and_below_the_wasserstein_distance():
    """Oracle: POT's exact transport for the upper bound."""
    import ot

    rng = np.random.default_rng(0)
    for n, m in ((60, 60), (60, 45)):
        X, G = rng.standard_normal((n, 10)), 0.8 * rng.standard_normal((m, 10)) + 0.1
        found = fit.discrepancy(X, G, kind="relu")
        assert not found.exact
        assert 0.0 < found.value <= found.upper
        assert found.upper <= ot.emd2([], [], ot.dist(X, G, metric="euclidean")) + 1e-9
        u = found.witness
        attained = abs(np.maximum(X @ u, 0).mean() - np.maximum(G @ u, 0).mean())
        assert attained == pytest.approx(found.value, rel=1e-6)


@pytest.mark.slow  # many programs and descents
def test_ten_dimensions_search_stays_below_the_bound():
    """50 random cases, the raw search against the raw bound: `relu_discrepancy` itself never lets them cross."""
    ratios = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n, m = (int(count) for count in rng.integers(20, 80, 2))
        X = torch.tensor(rng.standard_normal((n, 10)))
        G = torch.tensor(rng.standard_normal((m, 10)) * rng.uniform(0.3, 1.2) + 0.2 * rng.standard_normal(10))
        best = ascend(X, G, n_starts=16, generator=None)
        attained = float((torch.relu(X @ best.direction).mean() - torch.relu(G @ best.direction).mean()).abs())
        assert best.lower == pytest.approx(attained, rel=1e-9)
        ratios.append(best.lower / coupling_bound(X, G, best.direction))
    assert min(ratios) > 0.1
    assert max(ratios) <= 1.0


@pytest.mark.parametrize(("n", "m"), [(8, 8), (9, 7)])
@pytest.mark.parametrize("seed", range(8))
def test_upper_bounds_hold_in_exact_cases(n, m, seed):
    """Oracle: all patterns listed."""
    rng = np.random.default_rng(seed)
    X = torch.tensor(rng.standard_normal((n, 4)))
    G = torch.tensor(rng.uniform(0.1, 2.0) * rng.standard_normal((m, 4)) + rng.uniform(0, 1) * rng.standard_normal(4))
    exact = relu_discrepancy(X, G)
    assert exact.exact
    bound = upper_bound(X, G, exact.witness)
    assert exact.value <= bound <= coupling_bound(X, G, exact.witness) + 1e-12


@pytest.mark.slow  # many fits
def test_upper_bound_is_a_small_multiple_in_fifty_dimensions():
    X, G = torch.randn(2, 400, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = relu_discrepancy(X, G)
    assert found.value <= found.upper <= 2.0 * found.value


@pytest.mark.slow  # many descents
def test_free_points_on_the_ring_are_feasible_monotone_and_nearly_global():
    X, beta = ring(200), 0.1
    model = fit.ReLUWGAN(beta=beta, random_state=0).fit(X)
    solution = model.solution_
    assert relu_discrepancy(X, model.generator_.points.detach()).value <= beta + 1e-6
    values = match_points(X, X, beta=beta).solution.stats["values"]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(values))  # its tolerance
    assert solution.status is Status.LOCAL
    assert 0.0 <= solution.gap <= 1e-3 * solution.value


def test_free_points_are_stationary_for_their_discriminator():
    """First-order conditions: 2 g = grad D(g) at every point, and D pays exactly where the constraint is tight."""
    X, beta = ring(40, seed=1), 0.2
    found = match_points(X, X, beta=beta)
    gradient = ((found.points @ found.directions.T > 0) * found.outer) @ found.directions
    torch.testing.assert_close(2.0 * found.points, gradient, atol=1e-9, rtol=0)
    assert abs(found.solution.stats["complementarity"]) < 1e-4


@pytest.mark.slow  # many feasible points
def test_measure_bound_holds_against_many_feasible_points():
    """Oracle: weak duality, against the data scaled to feasibility and against local optima from several starts."""
    rng = np.random.default_rng(2)
    X = torch.tensor(rng.standard_normal((30, 2)) @ np.array([[1.5, 0.3], [0.0, 0.4]]))
    measure = solve_measure(X, beta=0.1)
    assert measure.bound <= measure.radius**2 * (1 + 1e-3)
    assert measure.bound >= measure.radius**2 * (1 - 1e-3)
    scaled = X * (1.0 - 0.1 / relu_discrepancy(X, torch.zeros_like(X)).value)
    assert float(scaled.square().sum(1).mean()) >= measure.bound
    assert match_points(X, X, beta=0.1).solution.value >= measure.bound
    points = measure.points(3000)
    assert relu_discrepancy(X, points).value <= 0.1 + 2e-3
    assert float(points.square().sum(1).mean()) == pytest.approx(measure.radius**2)


def test_linear_generator_on_given_latents_satisfies_the_paper_s_program():
    """Oracle: all pairs of activation patterns, written out."""
    rng = np.random.default_rng(3)
    X, Z = torch.tensor(rng.standard_normal((8, 2))), torch.tensor(rng.standard_normal((8, 3)))
    X = X - X.mean(0)
    W = torch.linalg.lstsq(Z, X).solution
    found = match_points(X, Z @ W, beta=0.3, basis=Z)
    torch.testing.assert_close(Z @ found.coefficients, found.points)
    assert all_pairs_of_patterns(X.numpy(), found.points.numpy()) <= 0.3 * (1 + 1e-4)
    assert found.solution.value >= found.solution.bound


@pytest.mark.slow  # many programs and descents
def test_gaussian_latents_are_matched_on_their_population():
    """Oracle: a search over covariances of the plane, feasibility at 720 directions."""
    rng = np.random.default_rng(4)
    X = torch.tensor(rng.standard_normal((300, 2)) @ np.array([[1.5, 0.3], [0.0, 0.5]]))
    X = X - X.mean(0)
    result = match_gaussian(X, beta=0.15)
    angle = torch.arange(720, dtype=torch.float64) * math.pi / 360
    U = torch.stack([angle.cos(), angle.sin()], 1)
    real = torch.relu(U @ X.T).mean(1)

    def excess(P):
        spread = ((U @ P) * U).sum(1).clamp_min(0)
        return float((real - (spread / (2 * math.pi)).sqrt()).abs().max()) - 0.15

    assert excess(result.covariance) <= 1e-5
    assert abs(result.solution.gap) < 1e-6
    best = math.inf
    for p in np.linspace(0.5, 3.0, 41):
        for q in np.linspace(0.01, 0.8, 41):
            for r in np.linspace(-0.5, 1.5, 41):
                if r * r <= p * q and p + q < best:
                    P = torch.tensor([[p, r], [r, q]])
                    if excess(P) <= 0:
                        best = p + q
    assert result.solution.value <= best + 1e-6
    assert result.solution.value >= best - 0.1


def test_linear_estimator_in_the_plane():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((300, 2)) @ np.array([[1.5, 0.3], [0.0, 0.5]])
    X = X - X.mean(0)
    model = fit.ReLUWGAN(beta=0.15, generator="linear", random_state=0).fit(X)
    sample = model.sample(100_000, random_state=1)
    assert fit.discrepancy(X, sample, kind="relu").value == pytest.approx(0.15, abs=0.02)
    D, P = model.discriminator_, torch.tensor(np.cov(sample.T))
    with torch.no_grad():
        fake = float(D.outer @ ((D.directions @ P * D.directions).sum(1) / (2 * math.pi)).sqrt())
        price = float(D(torch.tensor(X)).mean()) - fake - 0.15 * float(D.path_norm())
    assert price == pytest.approx(0.0, abs=0.05)
    with pytest.raises(InputError, match="`n_latent`"):
        fit.ReLUWGAN(beta=0.15, generator="linear", n_latent=1).fit(X)
    with pytest.raises(InputError, match="`beta`"):
        fit.ReLUWGAN(beta=0.01, generator="linear").fit(X + 1.0)


def penalised_adam(X, beta, starts, steps=800):
    """Oracle: plain Adam on (1/n) ||G||^2 + 20 max(violation, 0), all starts side by side, over directions ascended
    beside them; then pulled to feasibility by the least combination with the data, by bisection."""
    rng = torch.Generator().manual_seed(1)
    G = (X + 0.3 * torch.randn(starts, *X.shape, generator=rng, dtype=X.dtype)).requires_grad_()
    U = torch.randn(starts, 128, X.shape[1], generator=rng, dtype=X.dtype).requires_grad_()
    points, directions = torch.optim.Adam([G], lr=0.02), torch.optim.Adam([U], lr=0.05)
    for step in range(steps):
        points.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        u = torch.nn.functional.normalize(U, dim=2)
        gap = (torch.relu(u @ X.T).mean(2) - torch.relu(u @ G.transpose(1, 2)).mean(2)).abs() - beta
        loss = (G.square().sum(2).mean(1) + 20 * gap.clamp_min(0).amax(1)).sum()
        (G.grad,) = torch.autograd.grad(loss, [G], retain_graph=True)
        (U.grad,) = torch.autograd.grad(-gap.clamp_min(0).sum(), [U])
        points.step()
        directions.step()
    values = []
    for made in G.detach():
        low, high = 0.0, 1.0
        for _ in range(6):
            t = 0.5 * (low + high)
            holds = relu_discrepancy(X, torch.lerp(made, X, t), bound=False).value <= beta
            low, high = (low, t) if holds else (t, high)
        values.append(float(torch.lerp(made, X, high).square().sum(1).mean()))
    return min(values)


@pytest.mark.slow  # many programs and descents
@pytest.mark.parametrize(("n", "d"), [(12, 3), (40, 5)])
def test_free_points_in_space_beat_penalised_adam(n, d):
    X = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    beta = 0.1 * float(X.square().sum(1).mean().sqrt())
    model = fit.ReLUWGAN(beta=beta, random_state=0).fit(X)
    solution, G, D = model.solution_, model.generator_.points, model.discriminator_
    assert relu_discrepancy(X, G.detach(), n_starts=256).value <= beta * (1 + 1e-3)
    assert solution.bound <= solution.value <= penalised_adam(X, beta, 10)
    # the discriminator is a real one: it pays where the constraint is tight, and no rescaling of G pays against it,
    # d/ds (s^2 E ||g||^2 - E D(s g)) = 0 at s = 1; D has degree one
    with torch.no_grad():
        real, fake = float(D(X).mean()), float(D(G).mean())
        assert fake == pytest.approx(2 * solution.value, rel=0.05)
        assert real - fake == pytest.approx(beta * float(D.path_norm()), rel=0.05)


@pytest.mark.slow  # many programs and descents
def test_a_time_limit_keeps_feasible_points_and_their_bound():
    X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solution = fit.ReLUWGAN(beta=0.2, time_limit=1e-6, random_state=0).fit(X).solution_
    assert solution.status is Status.BUDGET_SPENT
    assert solution.stats["primal_residual"] <= 0.0
    whole = fit.ReLUWGAN(beta=0.2, random_state=0).fit(X).solution_
    assert solution.bound <= whole.value < solution.value
    seen = []
    for generator in ("free", "linear"):
        fit.ReLUWGAN(beta=0.6, generator=generator, random_state=0, progress=lambda *args: seen.append(args)).fit(
            X[:20]
        )
    assert {stage.split()[0] for stage, _, _ in seen} == {"start", "cutting"}
    assert all(1 <= done <= most for _, done, most in seen)
    with pytest.raises(InputError, match="`time_limit`"):
        fit.ReLUWGAN(time_limit=0.0).fit(X)


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("generator", ["free", "linear"])
def test_relu_trivial_optimum(d, generator):
    """Oracle: E (x^T u)_+ <= E ||x||, so that G = 0 is feasible and nothing is smaller."""
    X = np.random.default_rng(d).standard_normal((30, d))
    X -= X.mean(0)
    model = fit.ReLUWGAN(beta=float(np.linalg.norm(X, axis=1).mean()), generator=generator, random_state=0).fit(X)
    assert abs(model.solution_.value) <= 1e-12
    assert model.solution_.bound == pytest.approx(0.0, abs=1e-12)
    assert model.solution_.status is Status.OPTIMAL
    assert np.abs(model.sample(5, random_state=0)).max() <= 1e-6
    assert np.abs(model.discriminator_(torch.tensor(X)).detach().numpy()).max() <= 1e-6


@pytest.mark.slow  # many fits
def test_bad_options():
    X = np.eye(3)
    with pytest.raises(InputError, match="`generator`"):
        fit.ReLUWGAN(generator="nonlinear").fit(X)
    with pytest.raises(InputError, match="`beta`"):
        fit.ReLUWGAN(beta=0.0).fit(X)
    with pytest.raises(InputError, match="`X`"):
        solve_measure(torch.eye(3).double(), beta=0.1)
    with pytest.raises(SolveError, match="beta"):
        match_points(ring(30), torch.zeros(1, 2).double(), beta=1e-3)
