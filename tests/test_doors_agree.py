"""Whoever has a Game walks through any door, and the doors check one another."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits

from saddlegan import certify, fit, train

X = load_digits().data


@pytest.fixture(scope="module")
def model():
    return fit.QuadraticWGAN(n_latent=4).fit(X)


def moved(game, share):
    """The same game with both players moved by a share of their size, each weight in its own direction."""
    rng = torch.Generator().manual_seed(0)
    G, D = copy.deepcopy(game.G), copy.deepcopy(game.D)
    with torch.no_grad():
        for p in (G.weight, D.directions):
            p += share * p.norm() / p.numel() ** 0.5 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    return game.replace(G=G, D=D)


def test_what_fit_solves_certify_proves(model):
    certificate = certify.nash(model.game_, X)
    assert certificate.verdict == "proved"
    assert abs(certificate.gap) <= 1e-8
    assert certificate.stats["value"] == pytest.approx(model.solution_.value, rel=1e-9)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_moved_pair_is_refuted(model, share):
    certificate = certify.nash(moved(model.game_, share), X)
    assert certificate.verdict == "refuted"
    assert certificate.gap > 1.0


@pytest.mark.slow  # trains to the end
def test_train_returns_to_the_solution_from_near_it(model):
    """Extragradient on all the data, with latents whose sample moments are the population's, so that V is exact."""
    rng = torch.Generator().manual_seed(1)
    n = len(X)
    around = torch.cat([torch.ones(n, 1), torch.randn(n, 4, generator=rng)], dim=1).double()
    Z = torch.linalg.qr(around).Q[:, 1:] * n**0.5  # mean 0, second moment I
    game = moved(model.game_, 0.02)
    game.latent = lambda n, generator: Z
    x = torch.from_numpy(X)
    rate = 3e-3
    opt_G = torch.optim.SGD(game.G.parameters(), lr=rate)
    opt_D = torch.optim.SGD(game.D.parameters(), lr=rate)
    rule = train.Extragradient(game, opt_G, opt_D)

    def distance():
        ours, best = game.G.weight, model.generator_.weight
        return float(torch.linalg.matrix_norm(ours.T @ ours - best.T @ best, 2).detach())

    before = distance()
    for _ in range(1000):
        step = rule.step(x)
    assert distance() <= 0.02 * before
    assert step.value == pytest.approx(model.solution_.value, rel=1e-6)
