"""The WGAN on the line. Oracles: quadrature on a dense grid, scipy's distributions and W1, theory 4.8's figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from saddlegan.certify import GaussianWGAN
from saddlegan.errors import InputError

X = np.linspace(-25.0, 25.0, 100_001)
STEP = X[1] - X[0]


def _w1(first: tuple[float, float], second: tuple[float, float]) -> float:
    return STEP * float(np.abs(norm(first[1], first[0]).cdf(X) - norm(second[1], second[0]).cdf(X)).sum())


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.3, 0.7), (0.9, -1.0), (1.0, 1.0)])
def test_values_against_dense_quadrature(a: float, b: float) -> None:
    game = GaussianWGAN(0.8, 2.0)
    assert game.wasserstein(a, b) == pytest.approx(_w1((a, b), (2.0, 0.8)), abs=1e-6)
    u = np.sign(norm(b, a).cdf(X) - norm(0.8, 2.0).cdf(X))
    for other in ((0.5, 0.5), (1.0, -1.0)):
        ahead = norm(other[1], other[0]).cdf(X) - norm(0.8, 2.0).cdf(X)
        assert game.value(*other, pair=(a, b)) == pytest.approx(STEP * float((u * ahead).sum()), abs=1e-3)
        # any u within the bound stays below the inner maximum, u* included
        lam, density = 0.3, norm(0.8, 2.0).pdf(X)
        best = game.proximal_value(*other, lam=lam, pair=(a, b))
        for tried in (
            u,
            np.sign(ahead),
            np.clip(u + ahead, -1, 1),
            np.clip(u + ahead / (lam * density + 1e-300), -1, 1),
        ):
            reached = STEP * float((tried * ahead - 0.5 * lam * density * (tried - u) ** 2).sum())
            assert reached <= best + 1e-3
        assert reached == pytest.approx(best, abs=1e-3)


@pytest.mark.slow  # whole searches
def test_the_gaussian_case_is_stackelberg_and_proximal_for_no_positive_lambda() -> None:
    game = GaussianWGAN(0.0, 2.0)
    assert game.value() == pytest.approx(math.sqrt(2 / math.pi), abs=1e-12)
    for lam, drop in ((0.05, -0.00035), (0.1, -0.0014), (0.2, -0.0054), (0.5, -0.033)):
        moved = game.proximal_value(1.0, -lam, lam=lam) - game.value()
        assert moved == pytest.approx(drop, rel=0.1)
        found = game.proximal(lam=lam)
        assert found.verdict == "refuted"
        assert found.generator_gain >= -moved - 1e-7
    assert game.stackelberg().verdict == "proved"
    assert game.nash().generator_gain == pytest.approx(0.3688, abs=1e-4)
    spectrum = game.critical_lambda(tolerance=0.02)
    assert spectrum.lower < 0.05


@pytest.mark.parametrize("mean", [2.0, -3.0])
def test_a_critic_without_a_kink_is_nash_and_proximal_for_every_lambda(mean: float) -> None:
    # data as wide as the generator may be, out of reach: D* is a line, and the nearest mean is best for every critic
    game = GaussianWGAN(mean, 1.0)
    assert game.nash().verdict == "proved"
    for lam in (0.0, 0.1, 5.0, math.inf):
        assert game.proximal(lam=lam).verdict == "proved"
    rng = np.random.default_rng(0)
    for a, b in zip(rng.uniform(0.01, 1, 20), rng.uniform(-1, 1, 20), strict=True):
        assert game.value(a, b) >= game.value() - 1e-12
        assert game.proximal_value(a, b, lam=0.5) >= game.value() - 1e-4
    assert math.isinf(game.critical_lambda().lower)


def test_realizable_data_have_a_constant_critic_that_is_nash() -> None:
    game = GaussianWGAN(0.3, 0.7)
    assert game.value() == 0.0
    assert game.nash().verdict == "proved"
    assert game.nash(pair=(0.7, 0.2)).verdict == "refuted"
    assert game.stackelberg(pair=(0.7, 0.2)).verdict == "refuted"


@pytest.mark.parametrize("seed", range(10))
def test_best_responses_against_random_generators(seed: int) -> None:
    rng = np.random.default_rng(seed)
    game = GaussianWGAN(rng.uniform(-2, 2), rng.uniform(0.3, 3.0), radius=rng.uniform(0.5, 2.0))
    own = rng.uniform(0.1, 1) * game.radius, rng.uniform(-1, 1) * game.radius
    gain = game.nash(pair=own).generator_gain
    lead = game.stackelberg(pair=own).generator_gain
    for a, b in zip(rng.uniform(0, 1, 200) * game.radius, rng.uniform(-1, 1, 200) * game.radius, strict=True):
        assert game.wasserstein(*own) - game.value(a, b, pair=own) <= gain + 1e-12
        assert game.wasserstein(*own) - game.wasserstein(a, b) <= lead + 1e-12


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="`deviation`"):
        GaussianWGAN(0.0, 0.0)
    with pytest.raises(InputError, match="`pair`"):
        GaussianWGAN(0.0, 1.0).nash(pair=(2.0, 0.0))
    with pytest.raises(InputError, match="`lam`"):
        GaussianWGAN(0.0, 1.0).proximal(lam=-1.0)
