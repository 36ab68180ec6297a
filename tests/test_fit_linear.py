"""Theory 1.1 and the discrepancies. Oracles: cvxpy, brute force over directions, the closed form of the norm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlegan.errors import InputError
from saddlegan.fit import LinearWGAN, discrepancy
from saddlegan.fit._linear import solve_linear


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), beta=st.floats(0, 5))
def test_linear_optimum_is_proved_by_its_dual(seed, beta):
    mean = torch.from_numpy(np.random.default_rng(seed).standard_normal(4))
    optimum = solve_linear(mean, beta=beta)
    assert optimum.solution.gap == pytest.approx(0.0, abs=1e-12)
    assert optimum.solution.stats["primal_residual"] <= 1e-12
    assert optimum.solution.value == pytest.approx(max(0.0, float(mean.norm()) - beta) ** 2)


def test_linear_optimum_is_cvxpy_s():
    cp = pytest.importorskip("cvxpy")
    mean = np.array([1.0, -2.0, 0.5])
    m = cp.Variable(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(m)), [cp.norm(mean - m, 2) <= 0.7])
    problem.solve(solver=cp.CLARABEL)
    optimum = solve_linear(torch.from_numpy(mean), beta=0.7)
    np.testing.assert_allclose(optimum.point.numpy(), m.value, atol=1e-6)
    assert optimum.solution.value == pytest.approx(problem.value, rel=1e-6)


def test_linear_game_is_at_its_saddle():
    """V(G*, D*) = value, and no random move of either player's weights improves its side."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) + np.array([2.0, 1.0, 0.0])
    model = LinearWGAN(beta=0.5).fit(X)
    x, z = torch.from_numpy(X), torch.zeros(1, 1, dtype=torch.float64)
    with torch.no_grad():
        value = float(model.game_.value(x, z))
        assert value == pytest.approx(model.solution_.value, rel=1e-12)
        G, D = model.generator_, model.discriminator_
        point, outer = G.mean.clone(), D.outer.clone()
        for _ in range(50):
            G.mean.copy_(point + 0.3 * torch.from_numpy(rng.standard_normal(3)))
            assert float(model.game_.value(x, z)) >= value - 1e-12
        G.mean.copy_(point)
        for _ in range(50):
            D.outer.copy_(outer + rng.standard_normal())
            assert float(model.game_.value(x, z)) <= value + 1e-12


@pytest.mark.parametrize("center", [True, False])
def test_linear_samples_are_one_point(center):
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    model = LinearWGAN(beta=0.0, center=center).fit(X)
    np.testing.assert_allclose(model.sample(3, random_state=0), np.tile([2.0, 3.0], (3, 1)))
    assert isinstance(LinearWGAN().fit(torch.from_numpy(X)).sample(2), torch.Tensor)
    assert LinearWGAN(beta=100.0).fit(X).sample(1) == pytest.approx(np.zeros((1, 2)))


def test_linear_refuses_bad_beta():
    for beta in (-1.0, "auto", np.nan, None):
        with pytest.raises(InputError, match="`beta`"):
            LinearWGAN(beta=beta).fit(np.ones((3, 2)))


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
@pytest.mark.parametrize("shapes", [((30, 2), (20, 2)), ((4, 2), (3, 2))])
def test_discrepancy_is_the_supremum_over_directions(kind, shapes):
    """Oracle: a fine grid of directions in the plane."""
    rng = np.random.default_rng(1)
    X, G = rng.standard_normal(shapes[0]) * 2 + 1, rng.standard_normal(shapes[1])
    theta = np.linspace(0, np.pi, 20_001)
    U = np.stack([np.cos(theta), np.sin(theta)])
    s = (lambda t: t) if kind == "linear" else np.square
    gaps = np.abs(s(X @ U).mean(0) - s(G @ U).mean(0))
    found = discrepancy(X, G, kind=kind)
    assert found.value == pytest.approx(gaps.max(), rel=1e-6)
    assert found.exact
    assert found.upper == found.value
    at_witness = s(X @ found.witness).mean() - s(G @ found.witness).mean()
    assert abs(at_witness) == pytest.approx(found.value, rel=1e-9)
    # exchanging the samples flips the sign of the difference at the witness and keeps the value
    swapped = discrepancy(G, X, kind=kind)
    assert swapped.value == pytest.approx(found.value, rel=1e-12)
    assert s(G @ found.witness).mean() - s(X @ found.witness).mean() == pytest.approx(-at_witness)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10.0))
def test_discrepancy_is_a_seminorm_of_the_difference(seed, scale):
    rng = np.random.default_rng(seed)
    X, G, H = (rng.standard_normal((12, 3)) + rng.standard_normal(3) for _ in range(3))
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    for kind, power in (("linear", 1), ("quadratic", 2)):
        value = discrepancy(X, G, kind=kind).value
        assert discrepancy(X @ Q, G @ Q, kind=kind).value == pytest.approx(value, rel=1e-9)
        assert discrepancy(scale * X, scale * G, kind=kind).value == pytest.approx(scale**power * value, rel=1e-9)
        assert value <= discrepancy(X, H, kind=kind).value + discrepancy(H, G, kind=kind).value + 1e-12
        assert discrepancy(X, X, kind=kind).value == pytest.approx(0.0, abs=1e-12)


def test_centred_discrepancy_ignores_means():
    X = np.random.default_rng(0).standard_normal((20, 3))
    assert discrepancy(X, X + 5.0, center=True).value == pytest.approx(0.0, abs=1e-12)
    assert discrepancy(X, X + 5.0).value > 1.0


def test_discrepancy_of_wide_samples_and_tensors():
    rng = np.random.default_rng(0)
    X, G = rng.standard_normal((5, 2000)), rng.standard_normal((4, 2000))
    stack = np.vstack([X / np.sqrt(5), G / 2.0])
    left = np.linalg.qr(stack.T)[1]  # oracle: the spectrum in the joint row space
    expected = np.abs(np.linalg.eigvalsh(left @ np.diag([1.0] * 5 + [-1.0] * 4) @ left.T)).max()
    assert discrepancy(X, G).value == pytest.approx(expected, rel=1e-9)
    found = discrepancy(torch.from_numpy(X), torch.from_numpy(G))
    assert isinstance(found.witness, torch.Tensor)
    assert found.witness.shape == (2000,)


def test_discrepancy_names_the_bad_argument():
    good = np.ones((3, 2))
    with pytest.raises(InputError, match="`generated`"):
        discrepancy(good, np.ones(3))
    with pytest.raises(InputError, match="`real`"):
        discrepancy(np.full((3, 2), np.nan), good)
    with pytest.raises(InputError, match="same width"):
        discrepancy(good, np.ones((3, 4)))
    with pytest.raises(InputError, match="`kind`"):
        discrepancy(good, good, kind="cubic")
