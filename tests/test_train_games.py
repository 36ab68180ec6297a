"""Rules on games whose dynamics are known: bilinear, quadratic, the Dirac-GAN, and W2GAN between Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saddlegan import Game, train
from saddlegan.errors import BudgetWarning, InputError

A = 0.2


class Point(nn.Module):
    """G(z) = u for every z."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.u.expand(len(z), -1)


class Slope(nn.Module):
    """D(x) = v . x."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.v


def bilinear(*, objective: str = "wasserstein", size: int = 1) -> Game:
    """With data at 0: V = -u . v, solved by u = v = 0."""
    return Game(Point([1.0] * size), Slope([0.5] * size), objective=objective, latent=1)


def radius(game: Game) -> float:
    return math.sqrt(sum(float(p.detach().square().sum()) for p in (*game.G.parameters(), *game.D.parameters())))


def play(game: Game, make: Callable[..., train.AbstractRule], steps: int, *, lr: float = A) -> list[float]:
    size = len(next(game.D.parameters()))
    rule = make(game, torch.optim.SGD(game.G.parameters(), lr), torch.optim.SGD(game.D.parameters(), lr))
    radii = [radius(game)]
    for _ in range(steps):
        rule.step(torch.zeros(2, size, dtype=torch.float64))
        radii.append(radius(game))
    return radii


def test_simultaneous_diverges_on_the_bilinear_game_at_the_known_rate() -> None:
    radii = play(bilinear(), train.Simultaneous, 50)
    assert radii[50] / radii[0] == pytest.approx(math.sqrt(1 + A * A) ** 50, rel=1e-9)


def test_extragradient_converges_on_the_bilinear_game_at_the_known_rate() -> None:
    radii = play(bilinear(), train.Extragradient, 50)
    assert radii[50] / radii[0] == pytest.approx(math.sqrt(1 - A**2 + A**4) ** 50, rel=1e-9)


@pytest.mark.slow  # many steps
def test_optimistic_converges_on_the_bilinear_game_at_the_known_rate() -> None:
    """The oracle is the larger root of l^2 = l (1 - 2 i a) + i a, its linear recursion in w = u + i v."""
    rate = max(abs(root) for root in np.roots([1.0, -(1 - 2j * A), -1j * A]))
    assert rate < 1
    radii = play(bilinear(), train.Optimistic, 400)
    assert (radii[400] / radii[200]) ** (1 / 200) == pytest.approx(rate, rel=1e-6)


@pytest.mark.slow  # whole trainings
def test_alternating_cycles_on_the_bilinear_game() -> None:
    radii = play(bilinear(), train.Alternating, 2000)
    assert 0.5 < min(radii) < max(radii) < 2.0


def iterated(M: np.ndarray, start: list[float], steps: int) -> list[float]:
    """Length of (u, v) under a linear map, the oracle for rules on the bilinear game."""
    state, radii = np.array(start), []
    for _ in range(steps + 1):
        radii.append(float(np.hypot(state[0], state[1])))
        state = M @ state
    return radii


@pytest.mark.slow  # many steps
def test_alternating_extrapolation_converges_linearly_where_alternating_holds_its_radius() -> None:
    """Oracle: its linear map on (u, v, v~), whose spectral radius is below 1."""
    M = np.array([[1.0, 0.0, A], [-A, 1.0, -2 * A * A], [-2 * A, 1.0, -4 * A * A]])
    assert max(abs(np.linalg.eigvals(M))) < 0.97
    radii = play(bilinear(), train.AlternatingExtrapolation, 300)
    assert radii == pytest.approx(iterated(M, [1.0, 0.5, 0.5], 300), rel=1e-9)
    assert radii[300] < 1e-4 * min(play(bilinear(), train.Alternating, 300))


def test_lookahead_converges_on_the_bilinear_game() -> None:
    """Oracle: I + rate (M^k - I), with M the alternating map: v' = v - a u, u' = u + a v'."""
    M = np.array([[1 - A * A, A], [-A, 1.0]])
    jump = np.eye(2) + 0.5 * (np.linalg.matrix_power(M, 6) - np.eye(2))
    assert max(abs(np.linalg.eigvals(jump))) < 0.9
    radii = play(bilinear(), train.Lookahead, 120)
    assert radii[::6] == pytest.approx(iterated(jump, [1.0, 0.5], 20), rel=1e-9)


@pytest.mark.slow  # whole trainings
@pytest.mark.parametrize("name", train.RULES)
def test_every_rule_solves_the_quadratic_game(name: str) -> None:
    """V = u^2/2 - u v - v^2/2 (strongly convex-concave): the one saddle point is 0."""
    game = bilinear()
    game.generator_penalty = lambda G, batch: 0.5 * batch.fake.square().sum(1).mean()
    game.discriminator_penalty = lambda D, batch: 0.5 * next(D.parameters()).square().sum()
    radii = play(game, train.RULES[name], 600)
    assert radii[-1] < 1e-3


@pytest.mark.slow  # whole trainings
def test_dirac_gan_circles_without_a_penalty_and_converges_with_r1() -> None:
    """Mescheder et al. 2018: unregularised alternating training of the Dirac-GAN does not converge, R1 makes it."""
    plain = play(bilinear(objective="vanilla"), train.Alternating, 1200, lr=0.1)
    game = bilinear(objective="vanilla")
    game.discriminator_penalty = train.R1(1.0)
    cured = play(game, train.Alternating, 1200, lr=0.1)
    assert min(plain) > 0.3
    assert cured[-1] < 1e-3


# W2GAN


def gaussian_value(A_: Tensor, b: Tensor, L: Tensor, g: Tensor, covariance: Tensor, eta: float) -> Tensor:
    """Theory 2.2 written out: the oracle."""
    H = 0.5 * eta * torch.eye(3, dtype=torch.float64) - L
    inverse = torch.linalg.inv(H)
    v = g + eta * b
    inner = v @ inverse @ v + eta**2 * torch.trace(inverse @ A_ @ A_.T)
    return torch.trace(L @ covariance) - 0.25 * inner + 0.5 * eta * (torch.trace(A_ @ A_.T) + b @ b)


class Affine(nn.Module):
    """G(z) = A z + b."""

    def __init__(self, A_: Tensor, b: Tensor) -> None:
        super().__init__()
        self.A, self.b = nn.Parameter(A_), nn.Parameter(b)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.A.T + self.b


def whitened(n: int, rng: torch.Generator) -> Tensor:
    """n points whose sample mean is exactly 0 and covariance exactly I: expectations over it are population ones."""
    z = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    z = z - z.mean(0)
    return z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / n)).T


def w2_pair(rng: torch.Generator, *, eta: float = 1.7) -> tuple[Game, Tensor, Tensor]:
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64))
    z = whitened(64, rng)
    x = whitened(64, rng) @ torch.linalg.cholesky(covariance).T
    A_ = 0.5 * torch.randn(3, 3, generator=rng, dtype=torch.float64)
    b = torch.randn(3, generator=rng, dtype=torch.float64)
    D = train.QuadraticPotential(3, dtype=torch.float64)
    S = 0.1 * torch.randn(3, 3, generator=rng, dtype=torch.float64)
    D.curvature.data.copy_(S)
    D.slope.data.copy_(torch.randn(3, generator=rng, dtype=torch.float64))
    game = Game(Affine(A_, b), D, objective="wasserstein", latent=3, fake_transform=train.CTransform(eta))
    return game, x, z


def test_w2gan_value_and_gradients_equal_the_gaussian_closed_form(rng: torch.Generator) -> None:
    eta = 1.7
    game, x, z = w2_pair(rng, eta=eta)
    G, D = game.G, game.D
    assert isinstance(G, Affine)
    assert isinstance(D, train.QuadraticPotential)
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64))
    closed = gaussian_value(G.A, G.b, D.L, D.slope, covariance, eta)
    value = game.value(x, z)
    assert value.item() == pytest.approx(closed.item(), rel=1e-10)
    parameters = [G.A, G.b, D.curvature, D.slope]
    for got, expected in zip(
        torch.autograd.grad(value, parameters), torch.autograd.grad(closed, parameters), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-9)


class Hidden(nn.Module):
    """A quadratic potential that the c-transform does not recognise, so that it must search."""

    def __init__(self, D: nn.Module) -> None:
        super().__init__()
        self.inside = D

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x)


def test_the_searched_c_transform_equals_the_closed_form(rng: torch.Generator) -> None:
    game, _, z = w2_pair(rng)
    D = game.D
    y = game.G(z).detach()
    exact = train.CTransform(1.7)(D, y)
    found = train.CTransform(1.7, steps=500, tol=1e-9)(Hidden(D), y)
    assert torch.allclose(found, exact, atol=1e-9)
    with pytest.warns(BudgetWarning, match="raise `steps`"):
        train.CTransform(1.7, steps=1, tol=1e-9)(Hidden(D), y)


def test_an_infinite_c_transform_is_refused(rng: torch.Generator) -> None:
    game, _, z = w2_pair(rng)
    game.D.curvature.data.copy_(torch.eye(3))
    with pytest.raises(InputError, match="eta"):
        train.CTransform(1.7)(game.D, game.G(z))


@pytest.mark.slow  # whole trainings
def test_w2gan_training_reaches_the_known_optimum(rng: torch.Generator) -> None:
    """Theory 2.2: with ||A||_2 <= 1 the value at the optimum is 0.85 for Sigma = diag(4, 1, 1/4), eta = 1.7."""
    game, x, z = w2_pair(rng)
    G = game.G
    assert isinstance(G, Affine)
    game.latent = lambda n, generator: z
    game.D.curvature.data.zero_()
    game.D.slope.data.zero_()
    rule = train.Alternating(game, torch.optim.SGD(G.parameters(), 0.02), torch.optim.SGD(game.D.parameters(), 0.1))
    for _ in range(1500):
        with torch.no_grad():  # project onto the theorem's generators
            U, s, Vh = torch.linalg.svd(G.A)
            G.A.copy_(U @ torch.diag(s.clamp_max(1.0)) @ Vh)
            G.b.mul_(min(1.0, 1.0 / max(1e-12, float(G.b.norm()))))
        step = rule.step(x)
    with torch.no_grad():
        U, s, Vh = torch.linalg.svd(G.A)
        G.A.copy_(U @ torch.diag(s.clamp_max(1.0)) @ Vh)
    assert step.value == pytest.approx(0.85, abs=0.01)
    assert float(G.b.detach().norm()) < 0.02
