"""Bounds of the ReLU discrepancy from above. Oracles: the functions themselves, climbed; exact cases; Clarabel."""

import cvxpy as cp
import numpy as np
import pytest
import torch

from saddlegan.fit.relu import _relaxation
from saddlegan.fit.relu._discrepancy import planar, relu_discrepancy, upper_bound
from saddlegan.fit.relu._relaxation import Rest, minorant_by_fourth_moments, minorant_by_length, side_bound


@pytest.mark.parametrize("case", ["round", "few", "many", "blocks", "flat", "heavy", "zeros", "line"])
def test_a_sample_reaches_as_far_as_its_minorants_say(case, monkeypatch):
    """Oracle: E |g^T u| itself, along random directions and where a descent makes it small."""
    rng = np.random.default_rng(0)
    sample = rng.standard_normal(
        {"few": (4, 6), "many": (900, 4), "blocks": (900, 4), "line": (9, 1)}.get(case, (60, 5))
    )
    if case == "blocks":
        monkeypatch.setattr(_relaxation, "HELD", 100)
    if case == "flat":
        sample[:, -1] = sample[:, 0]
    if case == "heavy":
        sample *= rng.pareto(1.5, (60, 1))
    G = torch.tensor(sample if case != "zeros" else 0.0 * sample)
    found = [minorant_by_length(G), minorant_by_fourth_moments(G)]
    assert (found[1] is None) == (case == "zeros")
    for known in filter(None, found):
        U = torch.randn(100, G.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        tightest = np.inf
        for step in range(40):
            U = torch.nn.functional.normalize(U)
            reached = (U @ G.T).abs().mean(1)
            claimed = ((U @ known.matrix) * U).sum(1) + known.offset
            assert bool((reached >= claimed - 1e-12 * float(G.norm())).all())
            tightest = min(tightest, float(((reached - claimed) / reached.clamp_min(1e-9)).min()))
            U = U - (0.5 / (1 + step)) * torch.nn.functional.normalize((U @ G.T).sign() @ G)
        assert tightest < 0.9 or case == "zeros"


@pytest.mark.parametrize("shape", [(40, 40, 4), (30, 50, 8), (9, 7, 12)])
def test_one_side_of_the_bound_holds_along_every_direction(shape, monkeypatch):
    """Oracle: the function itself, climbed from many starts."""
    n, m, d = shape
    rng = np.random.default_rng(1)
    X, G = torch.tensor(rng.standard_normal((n, d)) * 1.5), torch.tensor(rng.standard_normal((m, d)) + 0.1)
    delta = X.mean(0) - G.mean(0)
    U = torch.randn(500, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best = -np.inf
    for step in range(60):
        U = torch.nn.functional.normalize(U)
        value = U @ delta + (U @ X.T).abs().mean(1) - (U @ G.T).abs().mean(1)
        best = max(best, float(value.max()))
        slope = delta + (U @ X.T).sign() @ X / n - (U @ G.T).sign() @ G / m
        U = U + torch.nn.functional.normalize(slope) / (1 + step)
    assert best <= side_bound(X, G, []) <= 2.0 * best
    monkeypatch.setattr(_relaxation, "SEARCHED", 200)  # a few rows in each step
    assert best <= side_bound(X, G, []) <= 3.0 * best


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_relaxation_is_solved_with_a_certificate(weight):
    """Oracle: the semidefinite program max sum_i (r_i^T Y r_i)^(1/2) - w <K, Y> over trace Y = 1, by Clarabel."""
    rng = np.random.default_rng(2)
    rows, sample = rng.standard_normal((7, 3)), torch.tensor(rng.standard_normal((9, 3)))
    minorant = minorant_by_length(sample)
    Y = cp.Variable((3, 3), PSD=True)
    roots = cp.sum([cp.sqrt(cp.sum(cp.multiply(np.outer(r, r), Y))) for r in rows])
    lowered = cp.sum(cp.multiply(weight * minorant.matrix.numpy(), Y))
    optimum = cp.Problem(cp.Maximize(roots - lowered), [cp.trace(Y) == 1]).solve(solver=cp.CLARABEL)
    rest = Rest(torch.tensor(rows), torch.tensor([weight]).double(), [minorant], torch.eye(3).double() / 3**0.5)
    rest.ascend(300)
    assert rest.bound() == pytest.approx(optimum, rel=1e-6)
    assert rest.bound() >= optimum * (1.0 - 1e-8)


def test_a_coupling_that_cancels_nearly_all_is_not_forgotten():
    """Oracle: |E x_+ - E g_+| <= E ||x - g|| along the pairs that made the data."""
    rng = np.random.default_rng(3)
    X = torch.tensor(rng.standard_normal((40, 6)))
    noise = torch.tensor(1e-6 * rng.standard_normal((40, 6)))
    assert upper_bound(X, X + noise, X[0]) <= float(noise.norm(dim=1).mean())


@pytest.mark.slow  # many exact cases
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_no_exact_case_crosses_the_bound(d):
    """Oracles: the angular sweep in the plane, all patterns listed above."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        n, m = (int(count) for count in rng.integers(2, 9 if d > 2 else 40, 2))
        X, G = rng.standard_normal((n, d)), rng.uniform(0.1, 2.0) * rng.standard_normal((m, d))
        if seed % 3 == 0:
            G += rng.standard_normal(d)
        if seed % 5 == 0:
            X *= rng.pareto(1.0, (n, 1))
        X, G = torch.tensor(X), torch.tensor(G)
        exact = planar(X, G) if d <= 2 else relu_discrepancy(X, G)
        assert exact.exact
        for rows, columns in ((X, G), (G, X)):
            bound = upper_bound(rows, columns, exact.witness)
            assert exact.value <= bound * (1.0 + 1e-12) <= 10.0 * exact.value


@pytest.mark.slow  # an assignment of a thousand points
@pytest.mark.parametrize(("n", "d"), [(1000, 50), (300, 100), (200, 10)])
def test_upper_bound_is_at_most_twice_the_value(n, d):
    X, G = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = relu_discrepancy(X, G)
    assert found.value <= found.upper <= 2.0 * found.value
