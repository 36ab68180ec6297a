"""The two-layer ReLU generator of least weight decay: cvxpy over all patterns, gradient descent, weak duality."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from saddlegan import Status, fit
from saddlegan.errors import InputError
from saddlegan.fit.relu._arrangements import cells
from saddlegan.fit.relu._two_layer_generator import _Search
from saddlegan.networks import PolynomialFeatures, ReLUFeatures


def all_patterns(Z, y):
    """Oracle for one output, Pilanci and Ergen's program: a vector per activation pattern and sign, in its cone."""
    realised, cost, constraints = np.zeros(len(Z)), 0.0, []
    for pattern in cells(Z):
        cone = Z * np.where(pattern, 1.0, -1.0)[:, None]
        for sign in (1.0, -1.0):
            u = cp.Variable(Z.shape[1])
            constraints.append(cone @ u >= 0)
            realised = realised + sign * (Z * pattern[:, None]) @ u
            cost = cost + cp.norm(u)
    problem = cp.Problem(cp.Minimize(2 * cost), [*constraints, realised == y])
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)


def weight_decay(network):
    return sum(float(p.detach().double().square().sum()) for p in network.parameters())


def descend(Z, G, *, width, seed, steps=600):
    """Gradient descent on both layers with a rising price on the error; the last layer is then repaired exactly."""
    generator = torch.Generator().manual_seed(seed)
    W1, W2 = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).mul(0.5).requires_grad_()
        for shape in ((Z.shape[1], width), (width, G.shape[1]))
    )
    rule = torch.optim.Adam([W1, W2], lr=2e-2)
    for step in range(steps):
        error = (torch.relu(Z @ W1) @ W2 - G).square().sum()
        loss = W1.square().sum() + W2.square().sum() + 10.0 * 1000.0 ** (step / steps) * error
        rule.zero_grad()
        loss.backward()
        rule.step()
    with torch.no_grad():
        Phi = torch.relu(Z @ W1)
        W2 += torch.linalg.lstsq(Phi, G - Phi @ W2, driver="gelsd").solution
        cost = 2.0 * (W1.norm(dim=0) * W2.norm(dim=1)).sum()  # balanced
        return float(cost), float((Phi @ W2 - G).norm())


@pytest.mark.slow  # solves many programs
@pytest.mark.parametrize(("m", "k", "seed"), [(3, 2, 0), (5, 2, 1), (8, 2, 2), (5, 3, 3), (7, 3, 4), (4, 1, 5)])
def test_value_and_bound_equal_the_program_over_all_patterns(m, k, seed):
    """Oracle: cvxpy."""
    rng = np.random.default_rng(seed)
    Z, y = rng.standard_normal((m, k)), rng.standard_normal(m)
    if k == 1:
        y = np.maximum(Z[:, 0], 0.0) - 2.0 * np.maximum(-Z[:, 0], 0.0)
    solution = fit.two_layer_generator(Z, y[:, None]).solution
    expected = all_patterns(Z, y)
    assert solution.status is Status.OPTIMAL
    assert solution.value == pytest.approx(expected, rel=2e-5)
    assert solution.bound <= expected * (1 + 1e-6)


@pytest.mark.slow  # solves many programs
@pytest.mark.parametrize(("m", "k", "d"), [(10, 2, 3), (30, 2, 2), (12, 3, 2), (15, 4, 3)])
def test_network_realises_the_target_at_the_program_s_value(m, k, d):
    rng = np.random.default_rng(m)
    Z, G = rng.standard_normal((m, k)), rng.standard_normal((m, d))
    found = fit.two_layer_generator(Z, G, max_rounds=10)
    with torch.no_grad():
        np.testing.assert_allclose(found.generator(torch.tensor(Z)).numpy(), G, atol=1e-9)
    first, _, last = found.generator
    assert weight_decay(found.generator) == pytest.approx(found.solution.value, rel=1e-12)
    torch.testing.assert_close(first.weight.norm(dim=1), last.weight.norm(dim=0))
    assert 0.0 < found.solution.bound <= found.solution.value
    assert abs(found.solution.stats["primal_residual"]) < 1e-9
    assert found.solution.status is (Status.OPTIMAL if k == 2 else Status.FEASIBLE)


@pytest.mark.parametrize(("k", "d"), [(2, 2), (3, 2)])
@pytest.mark.slow  # descents from many starts
def test_gradient_descent_is_never_better(k, d):
    """Oracle: weak duality against 5 starts each, all repaired to feasibility; value beaten by none of them."""
    rng = np.random.default_rng(k)
    Z, G = rng.standard_normal((8, k)), rng.standard_normal((8, d))
    solution = fit.two_layer_generator(Z, G).solution
    costs = []
    for seed in range(5):
        cost, error = descend(torch.tensor(Z), torch.tensor(G), width=60, seed=seed)
        assert error < 1e-8
        costs.append(cost)
    assert min(costs) >= solution.bound
    assert min(costs) >= solution.value * (1 - 1e-4)
    assert min(costs) <= 1.5 * solution.value  # the comparison is not vacuous


def test_dual_norm_in_the_plane_equals_a_dense_search():
    rng = np.random.default_rng(0)
    for _ in range(10):
        Z, Y = rng.standard_normal((9, 2)), rng.standard_normal((9, 3))
        search = _Search(Z, n_starts=1, generator=torch.Generator().manual_seed(0))
        angle = np.linspace(0, 2 * np.pi, 100_001)
        U = np.stack([np.cos(angle), np.sin(angle)], 1)
        dense = np.linalg.norm(np.maximum(U @ Z.T, 0) @ Y, axis=1).max()
        _, heights, upper = search.price(Y, U[:1])
        assert dense <= upper <= dense * (1 + 1e-4)  # the grid misses the kinks
        assert heights[0] == upper


@pytest.mark.parametrize(("m", "k", "r"), [(7, 3, 1), (7, 3, 2), (60, 6, 3)])
def test_dual_norm_is_bounded_from_above(m, k, r):
    """Oracle: 200000 random directions; exact for rank one where the patterns are listed."""
    rng = np.random.default_rng(1)
    Z, Y = rng.standard_normal((m, k)), rng.standard_normal((m, r))
    search = _Search(Z, n_starts=64, generator=torch.Generator().manual_seed(0))
    assert (search.n_patterns > 0) == (m == 7)
    U = rng.standard_normal((200_000, k))
    dense = max(
        np.linalg.norm(np.maximum(u @ Z.T, 0) @ Y, axis=1).max()
        for u in np.array_split(U / np.linalg.norm(U, axis=1, keepdims=True), 20)
    )
    _, heights, upper = search.price(Y, U[:1] / np.linalg.norm(U[:1]))
    assert dense <= heights[0] * (1 + 1e-9) <= upper * (1 + 2e-9)
    if r == 1:
        assert upper == pytest.approx(heights[0], rel=1e-4)


def test_tolerance_is_used_and_kept():
    rng = np.random.default_rng(2)
    Z, G = rng.standard_normal((20, 2)), rng.standard_normal((20, 2))
    exact, loose = (fit.two_layer_generator(Z, G, tolerance=t).solution for t in (0.0, 0.3))
    assert loose.value < 0.9 * exact.value
    assert loose.status is Status.OPTIMAL
    assert abs(loose.stats["primal_residual"]) < 1e-4 * np.linalg.norm(G)


@pytest.mark.slow  # solves many programs
def test_more_directions_only_help_and_adding_the_violated_ones_helps_more():
    rng = np.random.default_rng(3)
    Z, G = rng.standard_normal((9, 4)), rng.standard_normal((9, 1))
    few = fit.two_layer_generator(Z, G, n_directions=20, max_rounds=1).solution
    many = fit.two_layer_generator(Z, G, n_directions=2000, max_rounds=1).solution
    refined = fit.two_layer_generator(Z, G, n_directions=20).solution
    assert refined.bound <= refined.value < many.value < few.value


def test_realises_the_quadratic_gan_s_optimum_on_its_latents():
    """The paper's two steps: the optimal P by equation (2), then the cheapest two-layer network with those samples."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((200, 6)) @ np.diag([3.0, 2.0, 1.0, 0.5, 0.5, 0.2])
    model = fit.QuadraticWGAN(2).fit(X)
    Z = torch.randn(25, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        target = model.generator_(Z) - model.generator_.mean
    found = fit.two_layer_generator(Z, target)
    assert found.solution.status is Status.OPTIMAL
    with torch.no_grad():
        torch.testing.assert_close(found.generator(Z), target, atol=1e-8, rtol=0)


@pytest.mark.parametrize("features", [ReLUFeatures(3, 40), PolynomialFeatures(3, degree=2)])
def test_closed_form_last_layer_reaches_the_linear_generator_s_optimum(features):
    """Theory 1.2: for any feature map of enough rank the value is that of phi(z) = z with as many latents."""
    X = np.random.default_rng(5).standard_normal((300, 5)) @ np.diag([3.0, 2.0, 1.0, 0.5, 0.5]) + 1.0
    model = fit.QuadraticWGAN(3, beta=0.6, features=features, random_state=0).fit(X)
    linear = fit.QuadraticWGAN(5, beta=0.6).fit(X).solution_
    assert model.solution_.value == pytest.approx(linear.value, rel=1e-9)
    sample = model.sample(200_000, random_state=0)
    assert fit.discrepancy(X, sample, center=True).value == pytest.approx(0.6, abs=0.1)


def test_result_follows_its_input():
    Z = torch.eye(3, 2)
    found = fit.two_layer_generator(Z, torch.ones(3, 1) * torch.tensor([[1.0], [2.0], [0.0]]))
    assert found.generator(Z).dtype == torch.float32
    nothing = fit.two_layer_generator(np.eye(3, 2), np.zeros((3, 2)))
    assert nothing.solution.value == 0.0
    assert nothing.generator(torch.eye(3, 2).double()).shape == (3, 2)


def test_bad_input():
    Z = np.random.default_rng(0).standard_normal((5, 1))
    with pytest.raises(InputError, match="`target` is not realised"):
        fit.two_layer_generator(Z, np.ones((5, 1)))
    with pytest.raises(InputError, match="as many rows"):
        fit.two_layer_generator(Z, np.ones((4, 1)))
    with pytest.raises(InputError, match="`target`"):
        fit.two_layer_generator(Z, np.full((5, 1), np.nan))
    with pytest.raises(InputError, match="`Z`"):
        fit.two_layer_generator(Z[:, 0], Z)
    with pytest.raises(InputError, match="`tolerance`"):
        fit.two_layer_generator(Z, Z, tolerance=1.0)
    with pytest.raises(InputError, match="`max_rounds`"):
        fit.two_layer_generator(Z, Z, max_rounds=0)


@pytest.mark.slow  # solves many programs
def test_a_time_limit_keeps_the_network_and_its_bound():
    rng = np.random.default_rng(0)
    Z, target = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    seen = []
    short = fit.two_layer_generator(Z, target, time_limit=1e-9, progress=lambda *args: seen.append(args))
    assert seen == [("two-layer generator", 1, 40)]
    whole = fit.two_layer_generator(Z, target)
    assert short.solution.bound <= whole.solution.value <= short.solution.value * (1 + 1e-6)
    assert short.solution.stats["primal_residual"] <= 1e-6
    with pytest.raises(InputError, match="`time_limit`"):
        fit.two_layer_generator(Z, target, time_limit=0)
