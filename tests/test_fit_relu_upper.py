"""Bounds of the ReLU discrepancy from above. Oracles: the functions themselves, climbed from many starts."""

import numpy as np
import pytest
import torch

from saddlegan.fit.relu._discrepancy import relu_discrepancy
from saddlegan.fit.relu._spread import side_bound, spread


@pytest.mark.parametrize("case", ["round", "few", "many", "flat", "heavy", "zeros"])
def test_a_sample_reaches_as_far_as_its_fourth_moments_say(case):
    """Oracle: E |g^T u| itself, along random directions and where a descent makes it small."""
    rng = np.random.default_rng(0)
    sample = rng.standard_normal({"few": (4, 6), "many": (900, 4)}.get(case, (60, 5)))
    if case == "flat":
        sample[:, -1] = sample[:, 0]
    if case == "heavy":
        sample *= rng.pareto(1.5, (60, 1))
    G = torch.tensor(sample if case != "zeros" else 0.0 * sample)
    known = spread(G)
    assert 0.0 <= known.factor <= 1.0
    assert known.factor > 0.2 or case in ("zeros", "heavy", "few")
    U = torch.randn(400, G.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step in range(40):
        U = torch.nn.functional.normalize(U)
        reached = (U @ G.T).abs().mean(1)
        claimed = known.factor * ((U @ torch.tensor(known.moment)) * U).sum(1).clamp_min(0).sqrt() - known.loss
        assert bool((reached >= claimed - 1e-12).all())
        U = U - (0.5 / (1 + step)) * torch.nn.functional.normalize((U @ G.T).sign() @ G)


@pytest.mark.parametrize("shape", [(40, 40, 4), (30, 50, 8), (9, 7, 12)])
def test_one_side_of_the_bound_holds_along_every_direction(shape):
    """Oracle: the function itself, climbed from many starts."""
    n, m, d = shape
    rng = np.random.default_rng(1)
    X, G = torch.tensor(rng.standard_normal((n, d)) * 1.5), torch.tensor(rng.standard_normal((m, d)))
    delta = rng.standard_normal(d) * 0.1
    U = torch.randn(500, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best = -np.inf
    for step in range(60):
        U = torch.nn.functional.normalize(U)
        value = U @ torch.tensor(delta) + (U @ X.T).abs().mean(1) - (U @ G.T).abs().mean(1)
        best = max(best, float(value.max()))
        slope = torch.tensor(delta) + (U @ X.T).sign() @ X / n - (U @ G.T).sign() @ G / m
        U = U + torch.nn.functional.normalize(slope) / (1 + step)
    for cancel in (True, False):
        assert best <= side_bound(X, G, delta, spread(G), cancel=cancel)


@pytest.mark.slow  # an assignment of a thousand points
def test_upper_bound_is_a_small_multiple_for_a_thousand_points():
    X, G = torch.randn(2, 1000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = relu_discrepancy(X, G)
    assert found.value <= found.upper <= 2.5 * found.value
