"""Polynomial discriminators: the trust-region discrepancy and the semidefinite program."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from saddlegan import Status, fit
from saddlegan.errors import InputError
from saddlegan.fit._polynomial_discrepancy import polynomial_discrepancy
from saddlegan.fit._polynomial_program import dual_bound, solve_polynomial
from saddlegan.moments._trust_region import minimise
from saddlegan.networks import TwoLayerDiscriminator


def sphere(d, count):
    """Dense points on the unit sphere: a grid of angles, or of angles and heights."""
    if d == 2:
        t = np.linspace(0, 2 * np.pi, count, endpoint=False)
        return np.stack([np.cos(t), np.sin(t)], 1)
    i = np.arange(count) + 0.5
    height, t = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - height**2) * np.cos(t), np.sqrt(1 - height**2) * np.sin(t), height], 1)


def refined(f, U):
    """Dense search, then a shrinking random search around the best: the oracle's own error is below 1e-7."""
    rng = np.random.default_rng(0)
    best = U[np.argmax(f(U))]
    width = 0.05
    while width > 1e-6:
        near = best + width * rng.standard_normal((400, len(best)))
        near = np.vstack([best, near / np.linalg.norm(near, axis=1, keepdims=True)])
        best = near[np.argmax(f(near))]
        width *= 0.8
    return f(best[None])[0]


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("hard", [False, True])
def test_discrepancy_equals_a_dense_search(d, hard):
    U = sphere(d, 100_000 if d == 2 else 40_000)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((d, d))
        A, delta = A + A.T, rng.standard_normal(d)
        if hard:  # the linear part orthogonal to the top eigenvector, and small
            A, delta = np.diag(np.arange(d, dtype=float) - 0.5), 0.1 * delta
            delta[-1] = 0.0
        a, b = rng.standard_normal(2)
        found = polynomial_discrepancy(torch.tensor(A), torch.tensor(delta), a=a, b=b)

        def height(V, A=A, delta=delta, a=a, b=b):
            return np.abs(a * np.einsum("ni,ij,nj->n", V, A, V) + b * V @ delta)

        expected = refined(height, U)
        assert found.value == pytest.approx(expected, abs=1e-6)
        assert found.upper == pytest.approx(found.value, abs=1e-9)
        u = found.witness.numpy()
        assert abs(a * u @ A @ u + b * u @ delta) == pytest.approx(found.value, abs=1e-9)


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-18, 1e-12, 1e-8, 1e-4])
def test_near_hard_case(tiny):
    """Oracle: the dual, an upper bound that the direct value must reach."""
    found = minimise(-np.diag([0.0, 1.0, 1.0]), -np.array([0.3, tiny, 0.0]), radius=1.0, sphere=True)
    assert np.linalg.norm(found.point) == pytest.approx(1.0)
    assert found.value - found.bound <= 1e-9
    assert -found.value == pytest.approx(1.09 + 2 * tiny * np.sqrt(0.91), abs=1e-7)


def test_zero_difference():
    assert polynomial_discrepancy(torch.zeros(2, 2), torch.zeros(2), a=1.0, b=1.0).value == pytest.approx(0, abs=1e-12)


def moments(seed, d, shift=1.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((80, d)) @ rng.standard_normal((d, d)) + shift * rng.standard_normal(d)
    return X.mean(0), X.T @ X / 80


@pytest.mark.parametrize("seed", range(8))
def test_semidefinite_program_proves_itself(seed):
    d = 2 + seed % 4
    mean, moment = moments(seed, d)
    a, b = np.random.default_rng(100 + seed).standard_normal(2)
    beta = 0.3 * abs(a) * float(np.linalg.eigvalsh(moment)[-1])
    optimum = solve_polynomial(mean, moment, beta, a=a, b=b, semidefinite=True)
    solution = optimum.solution
    assert solution.status is Status.OPTIMAL
    assert abs(solution.gap) <= 1e-6 * max(1.0, solution.value)
    assert solution.stats["primal_residual"] <= 1e-6
    closed = solve_polynomial(mean, moment, beta, a=a, b=b, semidefinite=False).solution
    assert closed.stats["primal_residual"] <= 1e-9
    assert closed.bound - 1e-6 <= solution.value <= closed.value + 1e-6


def test_program_equals_one_with_the_sphere_sampled():
    """Oracle: cvxpy with (1) at 2,000 directions instead of the S-lemma, a relaxation that is tight in the plane."""
    mean, moment = moments(3, 2)
    U = sphere(2, 2000)
    Q = cp.Variable((3, 3), PSD=True)
    left = cp.sum(cp.multiply(U @ (moment - Q[:2, :2]), U), axis=1) + 0.7 * U @ (mean - Q[:2, 2])
    problem = cp.Problem(cp.Minimize(Q[0, 0] + Q[1, 1]), [Q[2, 2] == 1, cp.abs(left) <= 0.4])
    problem.solve(solver=cp.CLARABEL)
    solution = solve_polynomial(mean, moment, 0.4, a=1.0, b=0.7, semidefinite=True).solution
    assert solution.value == pytest.approx(float(problem.value), abs=1e-4)


def test_bound_is_what_the_network_says():
    """Oracle: E D(x) - beta sum |v| + min over y of (||y||^2 - D(y)), with the network and a search over y."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2)) + np.array([1.0, 0.5])
    model = fit.PolynomialWGAN(a=0.8, b=1.2, c=0.3, beta=0.4).fit(X)
    D = model.discriminator_
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    y = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        reply = float((y.square().sum(1) - D(y)).min())
        dual = float(D(torch.tensor(X)).mean() - 0.4 * D.path_norm()) + reply
    assert isinstance(D, TwoLayerDiscriminator)
    assert dual == pytest.approx(model.solution_.bound, abs=1e-3)
    assert model.solution_.bound == pytest.approx(model.solution_.value, abs=1e-6)


def test_dual_bound_stays_valid_for_any_weights():
    mean, moment = moments(5, 3)
    value = solve_polynomial(mean, moment, 0.5, a=1.0, b=1.0, semidefinite=True).solution.value
    rng = np.random.default_rng(1)
    for _ in range(50):
        U = rng.standard_normal((4, 3))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        assert dual_bound(mean, moment, 0.5, 1.0, 1.0, U, rng.standard_normal(4))[1] <= value + 1e-6


@pytest.mark.slow  # a program in sixty dimensions
def test_large_d_takes_the_closed_form_and_says_so():
    X = np.random.default_rng(0).standard_normal((200, 80)) * np.linspace(0.3, 2, 80)
    model = fit.PolynomialWGAN(beta=0.5).fit(X)
    assert model.solution_.stats["solver"] == "closed-form"
    assert model.solution_.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert model.solution_.gap >= -1e-9
    sample = model.sample(20_000, random_state=0)
    population = fit.discrepancy(X, sample, kind="polynomial", a=1.0, b=1.0).value
    assert population <= 0.5 + 0.5  # sampling error of 20,000 draws in 80 dimensions


def test_bad_options():
    for bad in ({"a": 0.0}, {"b": float("nan")}, {"solver": "fast"}, {"beta": -1.0}):
        with pytest.raises(InputError, match=f"`{next(iter(bad))}`"):
            fit.PolynomialWGAN(**bad).fit(np.eye(3))
    with pytest.raises(InputError, match="`kind`"):
        fit.discrepancy(np.eye(2), np.eye(2), kind="cubic")
