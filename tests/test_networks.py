"""Oracles: Monte Carlo and quadrature for the moments, the definition for the two-layer discriminator."""

import numpy as np
import pytest
import torch
from scipy.special import j0
from torch import Tensor
from torch.autograd import gradcheck

from saddlegan.errors import InputError
from saddlegan.networks import (
    MLP,
    FeatureGenerator,
    FourierFeatures,
    LinearGenerator,
    MultiscaleFeatures,
    PolynomialFeatures,
    ReLUFeatures,
    TwoLayerDiscriminator,
)


def test_hermite_features_are_orthonormal():
    """Oracle: Gauss-Hermite quadrature, exact for these polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = torch.from_numpy(weights / weights.sum())
    z = torch.cartesian_prod(torch.from_numpy(nodes), torch.from_numpy(nodes))
    w = torch.cartesian_prod(weights, weights).prod(1)
    phi = PolynomialFeatures(2, degree=3)(z)
    mean, covariance = PolynomialFeatures(2, degree=3).moments()
    torch.testing.assert_close(w @ phi, mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(phi.T @ (w[:, None] * phi), covariance, atol=1e-11, rtol=0)


@pytest.mark.slow  # quadrature
def test_relu_feature_moments_match_quadrature():
    """Oracle: E over the plane of two directions by polar quadrature of the Gaussian."""
    features = ReLUFeatures(3, 5, generator=torch.Generator().manual_seed(1))
    mean, covariance = features.moments()
    z = torch.randn(2_000_000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    phi = features(z)
    torch.testing.assert_close(phi.mean(0), mean, atol=3e-3, rtol=0)
    torch.testing.assert_close(torch.cov(phi.T), covariance, atol=5e-3, rtol=0)
    # one entry exactly: E 2 (z_1)_+ (z.c)_+ = (sin t + (pi - t) cos t) / pi with t the angle; here by a fine angle grid
    cosine = float(features.directions[0] @ features.directions[1])
    angle = np.arccos(cosine)
    theta = np.linspace(0, 2 * np.pi, 400_001)[:-1]
    kernel = 2 * np.mean(np.maximum(np.cos(theta), 0) * np.maximum(np.cos(theta - angle), 0)) * 2  # E r^2 = 2
    assert float(covariance[0, 1] + mean[0] * mean[1]) == pytest.approx(kernel, abs=1e-9)


@pytest.mark.parametrize("kind", ["linear", "features"])
def test_generator_moments_are_those_of_its_samples(kind, rng):
    if kind == "linear":
        G = LinearGenerator(3, 4, generator=rng, dtype=torch.float64)
    else:
        features = ReLUFeatures(3, 6, generator=rng)
        mean, covariance = features.moments()
        G = FeatureGenerator(
            features,
            weight=torch.randn(6, 4, generator=rng, dtype=torch.float64),
            mean=torch.ones(4, dtype=torch.float64),
            offset=torch.zeros(6, dtype=torch.float64),
            feature_mean=mean,
            feature_covariance=covariance,
            n_latent=3,
        )
    samples = G(torch.randn(400_000, 3, generator=rng, dtype=torch.float64)).detach()
    mean, factor = G.moments()
    torch.testing.assert_close(samples.mean(0), mean.detach(), atol=2e-2, rtol=0)
    torch.testing.assert_close(torch.cov(samples.T), (factor.T @ factor).detach(), atol=5e-2, rtol=2e-2)


@pytest.mark.parametrize(
    ("activation", "s"),
    [
        ("linear", lambda t: t),
        ("quadratic", lambda t: t**2),
        ("relu", lambda t: t.clamp_min(0)),
        ("polynomial", lambda t: 2 * t**2 - 3 * t + 0.5),
    ],
)
def test_two_layer_discriminator_is_its_definition(activation, s, rng):
    D = TwoLayerDiscriminator(3, 4, activation=activation, a=2, b=-3, c=0.5, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        D.outer.copy_(torch.randn(4, generator=rng, dtype=torch.float64))
        D.center.fill_(0.3)
    x = torch.randn(7, 3, generator=rng, dtype=torch.float64)
    expected = sum(v * s((x - 0.3) @ u) for v, u in zip(D.outer, D.directions, strict=True))
    torch.testing.assert_close(D(x), expected)
    assert gradcheck(
        lambda w: torch.func.functional_call(D, {"directions": w}, (x,)), (D.directions.detach().requires_grad_(),)
    )


@pytest.mark.parametrize("activation", ["linear", "quadratic", "relu"])
def test_path_norm_is_invariant_where_the_network_is(activation, rng):
    """Scaling a direction and unscaling its outer weight changes neither D nor the penalty (homogeneity)."""
    D = TwoLayerDiscriminator(3, 2, activation=activation, generator=rng, dtype=torch.float64)
    x = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    degree = 2 if activation == "quadratic" else 1
    with torch.no_grad():
        D.outer.copy_(torch.tensor([1.5, -0.5]))
        before, penalty = D(x), D.path_norm()
        D.directions.mul_(3.0)
        D.outer.div_(3.0**degree)
        torch.testing.assert_close(D(x), before)
        torch.testing.assert_close(D.path_norm(), penalty)


def test_making_networks_with_a_generator_leaves_the_global_state():
    state = torch.get_rng_state()
    LinearGenerator(2, 3, generator=torch.Generator())
    TwoLayerDiscriminator(3, 2, generator=torch.Generator())
    ReLUFeatures(2, 3, generator=torch.Generator())
    assert torch.equal(state, torch.get_rng_state())


def test_bad_options_are_named():
    with pytest.raises(InputError, match=r"`activation`.*cubic"):
        TwoLayerDiscriminator(2, 2, activation="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`activation`.*gelu"):
        MLP(2, 1, activation="gelu")
    with pytest.raises(InputError, match="`degree`"):
        PolynomialFeatures(2, degree=0)


def test_fourier_features_approximate_the_gaussian_kernel() -> None:
    """Oracle: E cos(w.(x - y)) = exp(-scale^2 |x - y|^2 / 2) for w ~ N(0, scale^2 I)."""
    features = FourierFeatures(2, 20_000, scale=1.5, generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.9, 0.1]])
    kernel = float((features(x) * features(y)).sum()) / 20_000
    assert kernel == pytest.approx(float(torch.exp(-0.5 * 1.5**2 * (x - y).square().sum())), abs=0.02)
    assert not features.frequencies.requires_grad
    with pytest.raises(InputError, match="`scale`"):
        FourierFeatures(2, scale=0.0)
    with pytest.raises(InputError, match="`n_in`"):
        FourierFeatures(0, scale=1.0)


def test_multiscale_features_have_the_kernel_of_their_scales() -> None:
    """Oracle: <phi(x), phi(y)> = x.y + m E (low/b)^2 J0(b |x - y|) in the plane, b log-uniform, by quadrature."""
    m, low, high = 4000, 1.0, 16.0
    features = MultiscaleFeatures(2, m, low=low, high=high, generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.9, 0.1]])
    apart = float((x - y).norm())
    lengths = low * (high / low) ** ((np.arange(100_000) + 0.5) / 100_000)
    expected = float(((low / lengths) ** 2 * j0(lengths * apart)).mean())
    found = (float((features(x) * features(y)).sum()) - float((x * y).sum())) / m
    assert found == pytest.approx(expected, abs=0.01)


def test_no_multiscale_feature_is_steeper_than_the_coarsest() -> None:
    """Oracle: autograd's Jacobian; sine and cosine of one frequency have joint slope r |b| = low."""
    features = MultiscaleFeatures(2, 20, low=0.5, high=30.0, generator=torch.Generator().manual_seed(0))
    J = torch.autograd.functional.jacobian(features, torch.tensor([0.4, -1.3]))
    assert isinstance(J, Tensor)
    assert torch.allclose(J[:2], torch.eye(2))
    slopes = (J[2:22].square() + J[22:].square()).sum(1).sqrt()
    assert slopes.tolist() == pytest.approx([0.5] * 20, rel=1e-4)
    for options in ({"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0}):
        with pytest.raises(InputError, match="`low`"):
            MultiscaleFeatures(2, **options)
    with pytest.raises(InputError, match="`fourier`"):
        MLP(2, 1, fourier=(1.0, 2.0, 3.0))


def test_an_mlp_over_fourier_features_is_local() -> None:
    """Oracle: the kernel machine's covariance, e^-8 four widths away and e^-0.005 a tenth of a width away."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.tensor([[0.0, 0.0], [0.1, 0.0], [4.0, 0.0]]) / 3.0
        outputs = torch.cat([MLP(2, 1, hidden=(256,), fourier=3.0)(x).detach().T for _ in range(300)])
    correlation = torch.corrcoef(outputs.T)
    assert correlation[0, 1] > 0.95
    assert abs(correlation[0, 2]) < abs(correlation[0, 1]) - 0.5
