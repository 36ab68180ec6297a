"""Exact inner solvers. Oracles: brute force over random responses, dense grids, cvxpy, hand-worked games."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from games import solve_matrix
from saddlegan import Game, certify, fit
from saddlegan.certify.exact._base import AbstractExactGame
from saddlegan.certify.exact._judge import judge_exactly
from saddlegan.certify.exact._recognise import recognise
from saddlegan.errors import InputError, InputTypeError
from saddlegan.game import PathNormPenalty, SecondMomentPenalty
from saddlegan.moments._trust_region import minimise
from saddlegan.networks import LinearGenerator, PolynomialFeatures, ReLUFeatures, TwoLayerDiscriminator
from saddlegan.results import Status


@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans(), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_trust_region_is_enclosed_and_beats_random_points(seed: int, d: int, sphere: bool, linear: float) -> None:
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((d, d))
    A, b, radius = B + B.T, linear * rng.standard_normal(d), rng.uniform(0.2, 3.0)
    if seed % 3 == 0:  # the hard case: no component along the lowest eigenvector
        Q = np.linalg.eigh(A)[1]
        b = b - Q[:, 0] * (Q[:, 0] @ b)
    found = minimise(A, b, radius=radius, sphere=sphere)
    scale = 1.0 + abs(found.value)
    assert found.value - found.bound <= 1e-8 * scale
    assert found.value == pytest.approx(found.point @ A @ found.point + 2 * b @ found.point, abs=1e-9 * scale)
    points = rng.standard_normal((2000, d))
    lengths = radius * (1.0 if sphere else rng.uniform(size=(2000, 1)) ** (1 / d))
    points *= lengths / np.linalg.norm(points, axis=1, keepdims=True)
    values = ((points @ A) * points).sum(1) + 2 * points @ b
    assert values.min() >= found.bound - 1e-9 * scale


def test_matrix_game_by_hand() -> None:
    # [[0, 2], [3, 1]]: value 1.5 at p = (1/2, 1/2), q = (1/4, 3/4)
    A = [[0.0, 2.0], [3.0, 1.0]]
    zeros = torch.zeros(1, 2)
    at = certify.nash(certify.matrix_game(A, row=[0.5, 0.5], column=[0.25, 0.75]), zeros)
    assert at.verdict == "proved"
    assert at.stats["game_value"] == pytest.approx(1.5, abs=1e-9)
    # the row player commits to the optimum, the column player does not answer best: no Nash, no Stackelberg
    off = certify.nash(certify.matrix_game(A, row=[0.5, 0.5], column=[1.0, 0.0]), zeros)
    assert (off.generator_gain, off.discriminator_gain) == pytest.approx((1.5, 0.0))
    # (1/2, 1/2) against a best response that is not the equilibrium one: Stackelberg, not Nash
    leader = certify.stackelberg(certify.matrix_game(A, row=[0.5, 0.5], column=[1.0, 0.0]), zeros)
    assert leader.verdict == "proved"


def test_finite_wasserstein_game_with_data() -> None:
    # D(y) = -y^T A q on one-hot data: the generator that copies the data's law has gap 0 against any q
    data = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]]
    A = np.random.default_rng(0).standard_normal((3, 3))
    game = certify.matrix_game(A, row=[0.5, 0.25, 0.25], column=[0.2, 0.3, 0.5])
    assert certify.nash(game, data).discriminator_gain == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("payoff", "row", "named"),
    [([[1.0, math.nan]], [1.0], "payoff"), ([[1.0, 0.0]], [0.5], "row"), ([[1.0], [2.0]], [-0.5, 1.5], "row")],
)
def test_matrix_game_refuses_bad_input(payoff: list[list[float]], row: list[float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        certify.matrix_game(payoff, row=row, column=[1.0, 0.0][: len(payoff[0])] or [1.0])


def _features(kind: str, rng: torch.Generator) -> torch.nn.Module | None:
    return {"none": None, "relu": ReLUFeatures(3, 12, generator=rng), "polynomial": PolynomialFeatures(3)}[kind]


@pytest.mark.parametrize("kind", ["none", "relu", "polynomial"])
@pytest.mark.parametrize("center", [True, False])
def test_fitted_quadratic_wgan_is_proved_and_moved_by_5_percent_refuted(
    kind: str, center: bool, rng: torch.Generator
) -> None:
    X = torch.randn(300, 7, generator=rng, dtype=torch.float64) @ torch.randn(7, 7, generator=rng, dtype=torch.float64)
    model = fit.QuadraticWGAN(n_latent=3, center=center, features=_features(kind, rng)).fit(X)
    for judge in (certify.nash, certify.stackelberg, certify.duality_gap):
        certificate = judge(model.game_, X)
        assert (certificate.verdict, certificate.bound) == ("proved", "exact")
        assert abs(certificate.gap) <= 1e-8
    for part in (model.generator_.weight, model.discriminator_.outer):
        for factor in (1.05, 0.95):
            with torch.no_grad():
                part.mul_(factor)  # type: ignore[operator]
            assert certify.nash(model.game_, X).verdict == "refuted"
            with torch.no_grad():
                part.div_(factor)  # type: ignore[operator]
    assert certify.nash(model.game_, X).verdict == "proved"


def test_fitted_linear_wgan_is_proved() -> None:
    X = np.random.default_rng(0).standard_normal((100, 4)) + 2.0
    model = fit.LinearWGAN(beta=0.5).fit(X)
    certificate = certify.nash(model.game_, X)
    assert certificate.verdict == "proved"
    assert certify.stackelberg(model.game_, X).verdict == "proved"
    with torch.no_grad():
        model.generator_.mean.mul_(1.05)  # type: ignore[operator]
    assert certify.nash(model.game_, X).verdict == "refuted"


def _two_layer(activation: str, seed: int) -> tuple[Game, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    X = torch.randn(50, 3, generator=rng, dtype=torch.float64) + 0.3
    G = LinearGenerator(2, 3, generator=rng, dtype=torch.float64)
    D = TwoLayerDiscriminator(3, 4, activation=activation, generator=rng, dtype=torch.float64)  # type: ignore[arg-type]
    with torch.no_grad():
        D.outer.copy_(0.3 * torch.randn(4, generator=rng, dtype=torch.float64))
        G.mean.copy_(0.2 * torch.randn(3, generator=rng, dtype=torch.float64))
    game = Game(
        G,
        D,
        objective="wasserstein",
        latent=2,
        generator_penalty=SecondMomentPenalty(torch.full((3,), 0.1, dtype=torch.float64)),
        discriminator_penalty=PathNormPenalty(0.7),
    )
    return game, X


@pytest.mark.slow  # draws large samples
@pytest.mark.parametrize("activation", ["linear", "quadratic", "polynomial"])
def test_two_layer_value_and_generator_response_against_sampling(activation: str) -> None:
    game, X = _two_layer(activation, 3)
    exact = recognise(game, X)
    assert exact is not None
    z = torch.randn(400_000, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert exact.value == pytest.approx(game.value(X, z).item(), abs=0.02)
    lowest = exact.best_generator_value
    assert math.isfinite(lowest)
    # oracle: Adam on the empirical value comes close from above and never falls below (up to sampling error)
    G = LinearGenerator(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    adam = torch.optim.Adam(G.parameters(), lr=0.02)
    for _ in range(400):
        adam.zero_grad()
        value = game.replace(G=G).value(X, z[:2000])
        value.backward()
        adam.step()
    assert game.replace(G=G).value(X, z[:2000]).item() == pytest.approx(lowest, abs=0.02)


@pytest.mark.parametrize("activation", ["linear", "quadratic", "polynomial"])
def test_two_layer_discrepancy_against_a_dense_grid(activation: str) -> None:
    game, X = _two_layer(activation, 4)
    exact = recognise(game, X)
    assert exact is not None
    U = torch.nn.functional.normalize(torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)).double())
    mean, factor = game.G.moments()  # type: ignore[operator]
    delta = (X.mean(0) - mean).detach()
    Delta = (X.T @ X / len(X) - factor.T @ factor - torch.outer(mean, mean)).detach()
    quadratic, linear = ((U @ Delta) * U).sum(1), U @ delta
    brute = {"linear": linear, "quadratic": quadratic, "polynomial": quadratic + linear}[activation].abs().max().item()
    assert exact.stats["discrepancy"] == pytest.approx(brute, rel=2e-3)
    assert exact.stats["discrepancy"] >= brute - 1e-9
    assert math.isinf(exact.best_discriminator_value) == (brute > 0.7)


def test_generator_class_made_smaller_by_freezing_is_not_called_exact() -> None:
    game, X = _two_layer("quadratic", 5)
    game.G.weight.requires_grad_(False)  # type: ignore[union-attr,operator]
    assert recognise(game, X) is None


def test_register_takes_a_new_class_and_refuses_others() -> None:
    with pytest.raises(InputTypeError, match="AbstractExactGame"):
        certify.register(dict)  # type: ignore[arg-type]
    kind = type(recognise(*_two_layer("quadratic", 0)))
    assert issubclass(kind, AbstractExactGame)
    assert certify.register(kind) is kind


def test_an_unused_huge_payoff_hides_no_gain() -> None:
    # by hand: row 0 pays 2 against column 1, row 1 would pay 1
    game = certify.matrix_game([[0, 2], [3, 1], [1e9, 1e9]], row=[1, 0, 0], column=[0, 1])
    found = certify.nash(game, torch.zeros(1, 3))
    assert (found.verdict, found.generator_gain, found.discriminator_gain) == ("refuted", 1.0, 0.0)


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1.0, 1e9])
def test_verdicts_of_finite_games_do_not_depend_on_units(unit: float) -> None:
    A = unit * np.array([[0.0, 2.0], [3.0, 1.0]])
    zeros = torch.zeros(1, 2)
    assert certify.nash(certify.matrix_game(A, row=[0.5, 0.5], column=[0.25, 0.75]), zeros).verdict == "proved"
    off = certify.nash(certify.matrix_game(A, row=[1.0, 0.0], column=[0.0, 1.0]), zeros)
    assert off.verdict == "refuted"
    assert off.generator_gain == pytest.approx(unit, rel=1e-12)
    leader = certify.stackelberg(certify.matrix_game(A, row=[0.5, 0.5], column=[1.0, 0.0]), zeros)
    assert leader.verdict == "proved"
    assert leader.stats["game_value"] == pytest.approx(1.5 * unit, rel=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_rational_simplex_against_highs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 8, 2)
    A = np.round(rng.standard_normal((m, n)), 1)  # rounded: ties, and with them degenerate corners
    p, q = solve_matrix(A)
    found = certify.nash(certify.matrix_game(A, row=p, column=q), torch.zeros(1, int(m)))
    assert found.verdict == "proved"
    assert found.stats["game_value"] == pytest.approx(float((p @ A).max()), abs=1e-12)


def _changes() -> dict[str, object]:
    return {
        "fake_transform": lambda D, fake: 2.0 * D(fake) + 1.0,
        "rows_in_groups": 2,
        "_own_value": lambda G, D, batch: batch.fake.sum(),
        "a_field_of_the_future": 1,
    }


@pytest.mark.parametrize("name", _changes())
@pytest.mark.parametrize("which", ["finite", "two-layer"])
def test_a_game_with_anything_more_is_not_recognised(name: str, which: str) -> None:
    game, X = _two_layer("quadratic", 0)
    if which == "finite":
        game, X = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5]), torch.zeros(1, 2)
    assert recognise(game, X) is not None
    changed = game.replace()
    setattr(changed, name, _changes()[name])
    assert recognise(changed, X) is None


def test_subclasses_hooks_and_frozen_strategies_are_not_recognised() -> None:
    class Other(Game):
        def value(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().value(x, z)

    class Doubled(SecondMomentPenalty):
        def __call__(self, G: torch.nn.Module, batch: object) -> torch.Tensor:
            return 2.0 * super().__call__(G, batch)  # type: ignore[arg-type]

    game, X = _two_layer("quadratic", 0)
    game.__class__ = Other
    assert recognise(game, X) is None
    game, X = _two_layer("quadratic", 0)
    game.generator_penalty = Doubled(torch.zeros(3, dtype=torch.float64))
    assert recognise(game, X) is None
    game, X = _two_layer("quadratic", 0)
    game.D.register_forward_hook(lambda module, args, output: 2.0 * output)
    assert recognise(game, X) is None
    pennies = certify.matrix_game([[1.0, -1.0], [-1.0, 1.0]], row=[0.5, 0.5], column=[0.5, 0.5])
    pennies.G.requires_grad_(False)
    assert recognise(pennies, torch.zeros(1, 2)) is None


def test_one_uncentred_large_column_hides_no_other_component() -> None:
    # an income of 50,000 beside unit columns: the largest eigenvalue is 1e9 times the others
    rng = np.random.default_rng(0)
    X = np.c_[rng.standard_normal((200, 4)) * [3.0, 2.0, 1.0, 0.5], 5e4 + rng.standard_normal(200)]
    model = fit.QuadraticWGAN(n_latent=3, center=False).fit(X)
    assert certify.nash(model.game_, X).verdict == "proved"
    # move the part of the weight that makes the small columns, by 10%
    with torch.no_grad():
        model.generator_.weight[:, :4] *= 1.1  # type: ignore[index]
    found = certify.nash(model.game_, X)
    assert (found.verdict, found.bound) == ("refuted", "exact")


def test_single_precision_proves_nothing_that_double_precision_would_not() -> None:
    rng = np.random.default_rng(1)
    X = (1e3 * rng.standard_normal((300, 6)) + 1e3).astype(np.float32)
    model = fit.QuadraticWGAN(n_latent=3, center=False).fit(X)
    game = model.game_.replace(G=model.generator_.float(), D=model.discriminator_.float())
    exact = recognise(game, torch.from_numpy(X))
    assert exact is not None
    assert abs(exact.discriminator_gain) + abs(exact.generator_gain) > 1e-3  # rounding of the weights, in data units
    for lam in (0.0, 1.0, math.inf):
        found = judge_exactly("proximal", exact, lam=lam)
        assert found is not None
        assert (found.verdict, found.bound) == ("undecided", "none")
        assert "precision in which weights or data are stored" in found.sentence


def test_a_negative_gain_beyond_its_error_is_a_failure_and_no_proof() -> None:
    game, X = _two_layer("quadratic", 0)
    exact = recognise(game, X)
    assert exact is not None

    class Wrong(type(exact)):  # type: ignore[misc]
        discriminator_gain = -1.32
        generator_gain = 0.0

    exact.__class__ = Wrong
    found = judge_exactly("nash", exact, lam=math.inf)
    assert found is not None
    assert (found.status, found.bound) == (Status.FAILED, "none")
    assert found.verdict != "proved"
