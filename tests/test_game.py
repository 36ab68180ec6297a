"""Oracles: central finite differences for both players' gradients, the definition for the value."""

import copy

import pytest
import torch

from saddlegan import Batch, Game
from saddlegan.errors import InputError, InputTypeError, ObjectiveError
from saddlegan.game import PathNormPenalty, SecondMomentPenalty
from saddlegan.networks import MLP, LinearGenerator, TwoLayerDiscriminator
from saddlegan.objectives import OBJECTIVES
from saddlegan.proximal import squared_distance


def small_game(objective="vanilla", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = MLP(2, 3, hidden=(4,), activation="tanh").double()
        D = MLP(3, 1, hidden=(5,), activation="tanh").double()
    return Game(G, D, objective=objective, latent=2, **options)


def finite_difference(loss, parameters, step=1e-6):
    gradients = []
    for parameter in parameters:
        flat = parameter.data.view(-1)
        gradient = torch.empty_like(flat)
        for i in range(len(flat)):
            kept = float(flat[i])
            flat[i] = kept + step
            up = float(loss())
            flat[i] = kept - step
            gradient[i] = (up - float(loss())) / (2 * step)
            flat[i] = kept
        gradients.append(gradient.view_as(parameter))
    return gradients


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_of_both_players(objective, rng):
    game = small_game(
        objective,
        generator_penalty=SecondMomentPenalty(torch.zeros(3, dtype=torch.float64)),
        discriminator_penalty=lambda D, batch: 0.1 * D(batch.x).square().mean() + 0.2 * D(batch.fake).square().mean(),
    )
    x = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    z = game.sample_latent(6, rng)
    gradients = game.gradients(x, z)
    fake = game.G(z).detach()
    pairs = [
        (gradients.generator, finite_difference(lambda: game.generator_loss(z, x).detach(), list(game.G.parameters()))),
        (
            gradients.discriminator,
            finite_difference(lambda: game.discriminator_loss(x, fake).detach(), list(game.D.parameters())),
        ),
    ]
    for computed, expected in pairs:
        for ours, theirs in zip(computed, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)
    assert all(p.grad is None for p in (*game.G.parameters(), *game.D.parameters()))


def test_finite_difference_can_fail():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(finite_difference(lambda: (p * p).sum().detach(), [p])[0], p.detach())


@pytest.mark.parametrize("objective", [o.name for o in OBJECTIVES.values() if o.zero_sum])
def test_zero_sum_losses_are_the_value(objective, rng):
    """dV/dG = d generator_loss/dG and dV/dD = -d discriminator_loss/dD: the game owns the sign."""
    game = small_game(objective, generator_penalty=SecondMomentPenalty(torch.ones(3, dtype=torch.float64)))
    x, z = torch.randn(4, 3, generator=rng, dtype=torch.float64), game.sample_latent(4, rng)
    players = [list(game.G.parameters()), list(game.D.parameters())]
    dG, dD = (torch.autograd.grad(game.value(x, z), player) for player in players)
    gradients = game.gradients(x, z)
    for ours, expected in zip(gradients.generator, dG, strict=True):
        torch.testing.assert_close(ours, expected)
    for ours, expected in zip(gradients.discriminator, dD, strict=True):
        torch.testing.assert_close(ours, -expected)


def test_a_step_against_the_discriminator_loss_raises_the_value(rng):
    game = small_game()
    x, z = torch.randn(8, 3, generator=rng, dtype=torch.float64), game.sample_latent(8, rng)
    before = float(game.value(x, z).detach())
    with torch.no_grad():
        for p, g in zip(game.D.parameters(), game.gradients(x, z).discriminator, strict=True):
            p -= 1e-3 * g
    assert float(game.value(x, z).detach()) > before


def test_penalties_move_the_parameters_they_are_for(rng):
    D = TwoLayerDiscriminator(3, 2, generator=rng, dtype=torch.float64)
    G = LinearGenerator(2, 3, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        D.outer.copy_(torch.tensor([1.0, -2.0]))
    x, z = torch.randn(4, 3, generator=rng, dtype=torch.float64), torch.randn(4, 2, generator=rng, dtype=torch.float64)
    plain = Game(G, D, objective="wasserstein", latent=2).gradients(x, z)
    full = Game(
        G,
        D,
        objective="wasserstein",
        latent=2,
        generator_penalty=SecondMomentPenalty(torch.zeros(3, dtype=torch.float64)),
        discriminator_penalty=PathNormPenalty(0.5),
    ).gradients(x, z)
    assert not torch.allclose(plain.generator[0], full.generator[0])
    # d/dv_j beta |v_j| ||u_j||^2 = beta sign(v_j) on unit directions
    outer = [name for name, _ in D.named_parameters()].index("outer")
    change = full.discriminator[outer] - plain.discriminator[outer]
    torch.testing.assert_close(change, torch.tensor([0.5, -0.5], dtype=torch.float64))


def test_latents_follow_the_generator_and_leave_the_global_state(rng):
    game = small_game()
    state = torch.get_rng_state()
    z = game.sample_latent(3, rng)
    assert z.dtype == torch.float64
    assert z.shape == (3, 2)
    assert torch.equal(state, torch.get_rng_state())
    custom = small_game()
    custom.latent = lambda n, generator: torch.rand(n, 2, generator=generator, dtype=torch.float64)
    assert bool((custom.sample_latent(100, rng) >= 0).all())


def test_replace_keeps_the_rest():
    game = small_game("kl")
    other = game.replace(D=copy.deepcopy(game.D))
    assert other.G is game.G
    assert other.D is not game.D
    assert other.objective is game.objective


@pytest.mark.parametrize("norm", ["sobolev", "l2", "parameters"])
def test_distance_between_discriminators_moves_the_new_one(norm, rng):
    """Oracle: finite differences; a penalty taken without its graph would have gradient zero."""
    game = small_game()
    D_old, D_new = game.D, copy.deepcopy(game.D)
    with torch.no_grad():
        for p in D_new.parameters():
            p += 0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    x = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    parameters = list(D_new.parameters())
    gradients = torch.autograd.grad(
        squared_distance(D_new, D_old, x, norm), parameters, allow_unused=True, materialize_grads=True
    )
    expected = finite_difference(lambda: squared_distance(D_new, D_old, x, norm).detach(), parameters)
    assert max(float(g.abs().max()) for g in gradients) > 1e-3
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)
    assert float(squared_distance(D_old, copy.deepcopy(D_old), x, norm).detach()) == 0.0


def test_sobolev_distance_of_linear_discriminators_is_that_of_their_weights():
    """Oracle: grad D = w, so ||D - D'||^2 = ||w - w'||^2."""
    first, second = (torch.nn.Linear(3, 1, dtype=torch.float64) for _ in range(2))
    x = torch.zeros(2, 3, dtype=torch.float64)
    distance = squared_distance(first, second, x, "sobolev").detach()
    torch.testing.assert_close(distance, (first.weight - second.weight).square().sum().detach())


def test_bad_arguments_are_named():
    net, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with pytest.raises(InputTypeError, match="`D`"):
        Game(net, lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="`latent`"):
        Game(net, other, latent="16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`latent`"):
        Game(net, other, latent=0)
    with pytest.raises(ObjectiveError, match="`objective`"):
        Game(net, other, objective="jensen")
    with pytest.raises(InputError, match="`norm`"):
        squared_distance(net, net, torch.ones(1, 2), "h1")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="TwoLayerDiscriminator"):
        PathNormPenalty(1.0)(net, Batch(torch.ones(1, 2)))
