"""The Gaussian W2 game. Oracles: POT's Bures-Wasserstein distance, numerical maximisation, Monte Carlo, theory 2.2."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
from scipy.optimize import minimize

from saddlegan.certify import GaussianW2Game
from saddlegan.errors import InputError


def _covariance(d: int, seed: int) -> np.ndarray:
    B = np.random.default_rng(seed).standard_normal((d, d))
    return 3.0 * B @ B.T / d + 0.2 * np.eye(d)


def c_transform(eta: float, L: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """D^c(y) = sup_x D(x) - (eta/2) ||x - y||^2 = y^T K y + h^T y + k, as (K, h, k)."""
    P = np.linalg.inv(0.5 * eta * np.eye(len(L)) - L)
    return 0.25 * eta**2 * P - 0.5 * eta * np.eye(len(L)), 0.5 * eta * P @ g, float(0.25 * g @ P @ g)


def sobolev(game: GaussianW2Game, L: np.ndarray, g: np.ndarray) -> float:
    """||D||^2 = E ||grad D(X)||^2 = 4 tr(L Sigma L) + |g|^2."""
    return 4.0 * float(np.trace(L @ game.covariance @ L)) + float(g @ g)


def _generators(game: GaussianW2Game, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, d, r = np.random.default_rng(seed), game.size, game.radius
    found = []
    for _ in range(count):
        A, b = rng.standard_normal((d, d)), rng.standard_normal(d)
        found.append((r * A / max(1.0, np.linalg.norm(A, 2)), r * rng.uniform() * b / np.linalg.norm(b)))
    return found


def test_the_papers_example() -> None:
    game = GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7)
    A, b, L, g = game.optimal_pair()
    assert game.value(A, b, L, g) == pytest.approx(0.85, abs=1e-12)
    assert game.wasserstein(A, b) == pytest.approx(0.85, abs=1e-12)
    assert sobolev(game, L, g) / (2 * 1.7) == pytest.approx(0.85, abs=1e-12)
    nash = game.nash()
    assert (nash.verdict, nash.bound) == ("refuted", "exact")
    assert nash.generator_gain == pytest.approx(0.85, abs=1e-12)
    moved = nash.stats["deviation"][1]
    assert np.abs(moved) == pytest.approx([1.0, 0.0, 0.0], abs=1e-9)
    assert game.value(A, moved, L, g) == pytest.approx(0.0, abs=1e-12)
    assert game.stackelberg().verdict == "proved"
    assert game.proximal(lam=1 / 1.7).verdict == "proved"
    assert game.proximal(lam=3 / 1.7).verdict == "refuted"
    spectrum = game.critical_lambda()
    assert spectrum.proved
    assert spectrum.lower <= 2 / 1.7 <= spectrum.upper
    assert spectrum.upper - spectrum.lower <= 1e-3 * (1 + spectrum.lower)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 10, 20])
def test_wasserstein_is_pots_bures_distance_and_the_best_potential_attains_it(d: int) -> None:
    game = GaussianW2Game(_covariance(d, d), 1.3)
    for A, b in _generators(game, 3, d):
        distance = ot.gaussian.bures_wasserstein_distance(np.zeros(d), b, game.covariance, A @ A.T)
        assert game.wasserstein(A, b) == pytest.approx(0.5 * 1.3 * distance**2, rel=1e-7)
        assert game.value(A, b, *game.potential(A, b)) == pytest.approx(game.wasserstein(A, b), rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_c_transform_against_numerical_maximisation(seed: int) -> None:
    rng, eta = np.random.default_rng(seed), 1.3
    game = GaussianW2Game(_covariance(3, seed), eta)
    L, g = game.potential(*_generators(game, 1, seed)[0])
    K, h, k = c_transform(game.eta, L, g)
    y = rng.standard_normal(3)
    best = minimize(lambda x: -(x @ L @ x + g @ x - 0.5 * eta * np.sum((x - y) ** 2)), y)
    assert -best.fun == pytest.approx(y @ K @ y + h @ y + k, abs=1e-6)


def test_value_against_monte_carlo() -> None:
    game = GaussianW2Game(_covariance(3, 0), 0.9)
    (A, b), (A2, b2) = _generators(game, 2, 3)
    L, g = game.potential(A2, b2)
    K, h, k = c_transform(game.eta, L, g)
    rng = np.random.default_rng(1)
    X = rng.multivariate_normal(np.zeros(3), game.covariance, 400_000)
    Y = rng.standard_normal((400_000, 3)) @ A.T + b
    real = ((X @ L) * X).sum(1) + X @ g
    fake = ((Y @ K) * Y).sum(1) + Y @ h + k
    error = 5 * math.hypot(real.std(), fake.std()) / math.sqrt(400_000)
    assert game.value(A, b, L, g) == pytest.approx(real.mean() - fake.mean(), abs=error)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_generator_response_beats_random_generators(d: int) -> None:
    game = GaussianW2Game(_covariance(d, d), 1.1)
    L, g = game.potential(*_generators(game, 1, 7)[0])
    A, shift = game.generator_response(L, g)
    lowest = game.value(A, shift.point, L, g)
    values = [game.value(*generator, L, g) for generator in _generators(game, 500, 8)]
    assert min(values) >= lowest - 1e-9
    assert np.linalg.norm(A, 2) <= 1 + 1e-9


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("seed", range(20))
def test_verdicts_follow_the_closed_form_of_the_critical_lambda(seed: int) -> None:
    rng = np.random.default_rng(seed)
    eta, radius = rng.uniform(0.5, 3.0), rng.uniform(0.4, 1.2)
    game = GaussianW2Game(_covariance((1, 2, 3, 5, 8)[seed % 5], seed), eta, radius)
    sigma = math.sqrt(np.linalg.eigvalsh(game.covariance)[-1])
    if sigma <= radius:
        assert game.nash().verdict == "proved"
        return
    critical = sigma / (eta * (sigma - radius))
    assert critical > 1 / eta  # theorem 2.2 is the worst case
    assert game.nash().verdict == "refuted"
    assert game.stackelberg().verdict == "proved"
    for factor, verdict in ((0.5, "proved"), (0.999, "proved"), (1.05, "refuted"), (3.0, "refuted")):
        assert game.proximal(lam=factor * critical).verdict == verdict


@pytest.mark.slow  # whole searches
@pytest.mark.parametrize("seed", range(4))
def test_proximal_value_never_falls_below_the_proof_and_is_enclosed(seed: int) -> None:
    game = GaussianW2Game(_covariance(3, seed), 1.4)
    _, _, L, g = game.optimal_pair()
    lam = 1 / 1.4
    for generator in _generators(game, 40, seed):
        value, upper = game.proximal_value(*generator, L, g, lam=lam)
        assert value >= game.leader_value() - 1e-9
        assert 0 <= upper - value <= 1e-7
        assert game.value(*generator, L, g) - 1e-9 <= value <= game.wasserstein(*generator) + 1e-9
    # oracle for the inner maximum: a general-purpose optimiser over (L', g')
    generator = _generators(game, 1, 99)[0]

    def negative(flat: np.ndarray) -> float:
        M = flat[:9].reshape(3, 3)
        M = 0.5 * (M + M.T)
        value = game.value(*generator, M, flat[9:]) - 0.5 * lam * sobolev(game, M - L, flat[9:] - g)
        return -value if math.isfinite(value) else 1e6

    found = minimize(negative, np.r_[L.ravel(), g], method="Nelder-Mead", options={"maxfev": 20_000, "fatol": 1e-10})
    value, _ = game.proximal_value(*generator, L, g, lam=lam)
    assert -found.fun <= value + 1e-7
    assert -found.fun == pytest.approx(value, abs=1e-2)


def test_moved_pairs_are_refuted_at_every_lambda() -> None:
    game = GaussianW2Game(np.diag([4.0, 1.0, 0.25]), 1.7)
    A, b, L, g = game.optimal_pair()
    wrong_D = (A, b, 0.9 * L, g)
    wrong_G = (0.9 * A, b, *game.potential(0.9 * A, b))
    for pair in (wrong_D, wrong_G):
        assert game.stackelberg(pair=pair).verdict == "refuted"
        for lam in (0.0, 0.5, math.inf):
            assert game.proximal(lam=lam, pair=pair).verdict == "refuted"
        assert math.isnan(game.critical_lambda(pair=pair).lower)


def test_small_covariance_has_a_nash_equilibrium() -> None:
    game = GaussianW2Game(0.5 * np.eye(2), 2.0)
    assert game.nash().verdict == "proved"
    assert math.isinf(game.critical_lambda().lower)


@pytest.mark.parametrize(
    ("covariance", "eta", "radius", "named"),
    [
        (np.ones((2, 3)), 1.0, 1.0, "covariance"),
        (np.diag([1.0, -1.0]), 1.0, 1.0, "covariance"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), 1.0, 1.0, "covariance"),
        (np.eye(2), 0.0, 1.0, "eta"),
        (np.eye(2), 1.0, math.inf, "radius"),
    ],
)
def test_bad_input_is_refused_by_name(covariance: np.ndarray, eta: float, radius: float, named: str) -> None:
    with pytest.raises(InputError, match=f"`{named}`"):
        GaussianW2Game(covariance, eta, radius)


def test_vanilla_and_lipschitz_gans_of_a_wide_gaussian_have_no_nash_equilibrium_either() -> None:
    # oracle: quadrature in one dimension; data N(0, 4), generators N(b, a^2) with 0 < a <= 1, 0 <= b <= 1
    x = np.linspace(-20.0, 20.0, 20_001)
    dx = x[1] - x[0]

    def density(a: float, b: float) -> np.ndarray:
        return np.exp(-0.5 * ((x - b) / a) ** 2) / (a * math.sqrt(2 * math.pi))

    real, grid = density(2.0, 0.0), [(a, b) for a in np.linspace(0.3, 1.0, 8) for b in np.linspace(0.0, 1.0, 6)]

    def jensen_shannon(a: float, b: float) -> float:
        fake = density(a, b)
        middle = 0.5 * (real + fake)
        terms = [p * np.log(np.where(p > 0, p, 1.0) / np.maximum(middle, 1e-300)) for p in (real, fake)]
        return 0.5 * dx * float(sum(term.sum() for term in terms))

    def wasserstein(a: float, b: float) -> float:
        return dx * float(np.abs(np.cumsum(real - density(a, b)) * dx).sum())

    logit = -0.5 * (x / 2.0) ** 2 - math.log(2.0) + 0.5 * x**2  # log p_X / p_G at G = N(0, 1)

    def vanilla(a: float, b: float) -> float:
        return dx * float(-(real @ np.logaddexp(0.0, -logit)) - density(a, b) @ np.logaddexp(0.0, logit))

    def lipschitz(a: float, b: float) -> float:
        return dx * float((real - density(a, b)) @ np.abs(x))

    for best, value, gain in ((jensen_shannon, vanilla, 0.1), (wasserstein, lipschitz, 0.3687)):
        assert min(grid, key=lambda ab, best=best: best(*ab)) == (1.0, 0.0)  # Stackelberg: the widest, unmoved
        assert value(1.0, 0.0) - value(1.0, 1.0) > gain - 1e-4  # not Nash: move the mean
    assert lipschitz(1.0, 0.0) == pytest.approx(wasserstein(1.0, 0.0), abs=1e-6)  # |x| is an optimal critic
    assert vanilla(1.0, 0.0) == pytest.approx(2 * jensen_shannon(1.0, 0.0) - 2 * math.log(2.0), abs=1e-6)


def test_a_pair_outside_the_class_and_a_bad_lambda_are_refused() -> None:
    game = GaussianW2Game(np.eye(2) * 4, 1.0)
    A, b, L, g = game.optimal_pair()
    with pytest.raises(InputError, match="`A` has norm"):
        game.nash(pair=(2 * A, b, L, g))
    with pytest.raises(InputError, match="`lam`"):
        game.proximal(lam=-1.0)
    assert game.value(A, b, np.eye(2), g) == -math.inf
    assert game.nash(pair=(A, b, np.eye(2), g)).verdict == "refuted"
