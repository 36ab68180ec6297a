"""Penalties, constraints, noise, latents, moving average and replicas, each against its definition."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from saddlegan import Batch, Game, networks, train
from saddlegan.errors import InputError
from train_cases import bits, data, largest_difference, mlp_game, sgd


def differences(D: nn.Module, x: Tensor, h: float = 1e-6) -> Tensor:
    """Central differences of D in its input (n, d): the oracle for input gradients."""
    columns = []
    for i in range(x.shape[1]):
        e = torch.zeros(x.shape[1], dtype=x.dtype)
        e[i] = h
        with torch.no_grad():
            columns.append((D(x + e) - D(x - e)).flatten() / (2 * h))
    return torch.stack(columns, dim=1)


def test_r1_is_its_definition_and_moves_the_parameters() -> None:
    D = mlp_game().D
    penalty = train.R1(3.0)
    assert penalty(D, Batch(data(), fake=data())).item() == pytest.approx(
        1.5 * differences(D, data()).square().sum(1).mean().item(), rel=1e-7
    )
    check_moves(penalty, D)


class Blurred(nn.Module):
    """A smooth discriminator that draws noise in every pass and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp_game().D
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.net(x + 0.3 * torch.randn(x.shape, dtype=x.dtype))


@pytest.mark.parametrize("joined", [False, True])
def test_slopes_are_those_of_the_passes_that_the_value_is_made_of(joined: bool) -> None:
    """Oracle: the loss by hand with one pass on each side, slopes by central differences under the same noise."""
    D, x, fake = Blurred(), data(), data(seed=8)
    penalty = train.Penalties(train.R1(3.0), train.R2(2.0)) if joined else train.R1(3.0)
    game = Game(mlp_game().G, D, objective="wasserstein", latent=3, discriminator_penalty=penalty)
    torch.manual_seed(4)
    loss = game.discriminator_loss(x, fake)
    assert D.passes == 2
    torch.manual_seed(4)
    noisy, noisy_fake = (rows + 0.3 * torch.randn(rows.shape, dtype=rows.dtype) for rows in (x, fake))
    by_hand = D.net(noisy_fake).mean() - D.net(noisy).mean()
    by_hand = by_hand + 1.5 * differences(D.net, noisy).square().sum(1).mean()
    if joined:
        by_hand = by_hand + differences(D.net, noisy_fake).square().sum(1).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-7)


def test_a_penalty_of_another_discriminator_makes_its_own_pass() -> None:
    D, other = mlp_game().D, Blurred()

    class OfAnother(train.R1):
        def __call__(self, D: nn.Module, batch: Batch) -> Tensor:
            return super().__call__(other, batch)

    Game(mlp_game().G, D, latent=3, discriminator_penalty=OfAnother(3.0)).discriminator_loss(data(), data(seed=8))
    assert other.passes == 1
    free = train.R1(0.0)
    assert free.differentiated == ()
    free.weight = 1.0
    assert free.differentiated == ("x",)


def test_gradient_penalty_is_its_definition_and_moves_the_parameters() -> None:
    D = mlp_game().D
    source = torch.Generator().manual_seed(1)
    penalty = train.GradientPenalty(10.0, generator=source)
    got = penalty(D, Batch(data(), fake=data(seed=8))).item()
    source.manual_seed(1)
    e = torch.rand(8, 1, generator=source, dtype=torch.float64)
    between = e * data() + (1 - e) * data(seed=8)
    slopes = differences(D, between).norm(dim=1)
    assert got == pytest.approx(10.0 * (slopes - 1).square().mean().item(), rel=1e-6)

    def same_mix(D: nn.Module, batch: Batch) -> Tensor:
        source.manual_seed(1)
        return penalty(D, batch)

    check_moves(same_mix, D)


def check_moves(penalty: object, D: nn.Module) -> None:
    """The gradient in one hidden weight equals a central difference and is not zero."""
    assert callable(penalty)
    weight = D[0].weight  # type: ignore[index]
    (gradient,) = torch.autograd.grad(penalty(D, Batch(data(), fake=data(seed=8))), weight)
    h = 1e-6
    with torch.no_grad():
        weight[1, 0] += h
    up = penalty(D, Batch(data(), fake=data(seed=8))).item()
    with torch.no_grad():
        weight[1, 0] -= 2 * h
    down = penalty(D, Batch(data(), fake=data(seed=8))).item()
    with torch.no_grad():
        weight[1, 0] += h
    assert abs(gradient[1, 0].item()) > 1e-6
    assert gradient[1, 0].item() == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_the_movement_check_can_fail() -> None:
    def inert(D: nn.Module, batch: Batch) -> Tensor:  # the public code's pattern: no graph through grad_x
        x = batch.x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(D(x).sum(), x)
        return slope.square().mean() + 0.0 * D(x).sum()

    with pytest.raises(AssertionError):
        check_moves(inert, mlp_game().D)


def test_weight_clipping_bounds_every_rule() -> None:
    game = mlp_game(objective="wasserstein")
    rule = train.Optimistic(game, *sgd(game, lr=1.0), constraint=train.WeightClipping(0.02))
    for seed in range(3):
        rule.step(data(seed=seed))
        assert max(p.abs().max().item() for p in game.D.parameters()) <= 0.02


def test_spectral_normalisation_bounds_the_slope() -> None:
    """Oracle: the singular values themselves; with gain 1 and 1-Lipschitz activations D has slope at most 1."""
    D = train.spectral_normalise(mlp_game(activation="leaky-relu").D, gain=2.0)
    for _ in range(100):
        D(data())
    for layer in (D[0], D[2]):  # type: ignore[index]
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(2.0, rel=1e-6)
    assert differences(D.eval(), data()).norm(dim=1).max().item() <= 4.0 * 1.0001
    with pytest.raises(InputError, match="already"):
        train.spectral_normalise(D)
    with pytest.raises(InputError, match="no linear"):
        train.spectral_normalise(nn.Tanh())


@pytest.mark.slow  # whole trainings
@pytest.mark.parametrize("persistent", [True, False])
def test_the_proximal_centre_stays_spectrally_normalised(persistent: bool) -> None:
    """Oracle: singular values. The centre is never played in training mode, so its own power iteration stands still."""
    torch.manual_seed(0)
    D = networks.spectral_normalise(networks.MLP(2, 1, hidden=(16, 16), activation="softplus"))
    G = networks.LinearGenerator(3, 2)
    rule = train.Proximal(
        Game(G, D, latent=3),
        torch.optim.SGD(G.parameters(), 0.01),
        torch.optim.Adam(D.parameters(), 0.02),
        persistent=persistent,
        steps=1 if persistent else 2,
    )
    for _ in range(60):
        rule.step(torch.randn(32, 2) + 2.0)
    D.eval()
    for layer in D:
        if isinstance(layer, nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight.detach(), 2).item() == pytest.approx(1.0, abs=0.1)


def test_instance_noise_has_the_asked_scale_and_is_off_in_evaluation() -> None:
    noisy = train.InstanceNoise(nn.Identity(), sd=0.3, generators=(torch.Generator().manual_seed(0),))
    x = torch.zeros(4000, 2)
    assert noisy(x).std().item() == pytest.approx(0.3, rel=0.03)
    assert torch.equal(noisy.eval()(x), x)


def test_mixed_latents_are_signs_and_gaussians() -> None:
    z = train.MixedLatent(3, 2)(20000, torch.Generator().manual_seed(0))
    assert set(z[:, :3].flatten().tolist()) == {-1.0, 1.0}
    assert torch.allclose(z.mean(0), torch.zeros(5), atol=0.03)
    assert torch.allclose(z.std(0), torch.ones(5), atol=0.03)
    with pytest.raises(InputError, match="both 0"):
        train.MixedLatent(0, 0)


def test_moving_average_is_the_geometric_mean_of_the_past() -> None:
    G = nn.Linear(1, 1, bias=False).double()
    average = train.MovingAverage(G, decay=0.9)
    expected = G.weight.item()
    for k in range(5):
        G.weight.data.fill_(float(k))
        average.update()
        expected = 0.9 * expected + 0.1 * k
    weight = average.module.weight
    assert isinstance(weight, Tensor)
    assert weight.item() == pytest.approx(expected, rel=1e-12)
    again = train.MovingAverage(G, decay=0.9)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    assert torch.equal(again.module.weight, weight)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="decay"):
        train.MovingAverage(G, decay=1.0)


# replicas


def single(seed: int) -> Game:
    game = mlp_game(seed)
    game.D = train.InstanceNoise(game.D, sd=0.1, generators=(torch.Generator().manual_seed(50 + seed),))
    return game


def adam(game: Game) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    return (
        torch.optim.Adam(game.G.parameters(), 0.01, betas=(0.5, 0.99), fused=True),  # reads gradients by memory order
        torch.optim.Adam(game.D.parameters(), 0.01, betas=(0.5, 0.99), fused=True),
    )


@pytest.mark.slow  # many steps
@pytest.mark.parametrize("name", train.RULES)
def test_replicas_equal_single_runs_to_rounding(name: str) -> None:
    seeds, n = (0, 1, 2), 8

    def make(game: Game, source: torch.Generator | None, replicas: int) -> train.AbstractRule:
        opts = adam(game)
        if name == "primal-dual":
            return train.PrimalDual(game, *opts, generator=source, weight=4.0, points=4, replicas=replicas)
        if name == "proximal":
            return train.Proximal(game, *opts, generator=source, lam=0.5)
        if name == "unrolled":
            return train.Unrolled(game, *opts, generator=source, steps=3, length=0.5)
        return train.RULES[name](game, *opts, generator=source)

    alone = []
    for seed in seeds:
        game = single(seed)
        rule = make(game, torch.Generator().manual_seed(seed), 1)
        for t in range(4):
            rule.step(data(n, seed=100 * seed + t))
        alone.append(game)
    parts = [single(seed) for seed in seeds]
    D = train.Replicas([p.D.D for p in parts])  # type: ignore[misc]
    noisy = train.InstanceNoise(D, sd=0.1, generators=tuple(torch.Generator().manual_seed(50 + s) for s in seeds))
    latent = train.ReplicaLatent(3, [torch.Generator().manual_seed(s) for s in seeds], dtype=torch.float64)
    G = train.Replicas([p.G for p in parts])
    joint = Game(G, noisy, objective="vanilla", latent=latent, discriminator_penalty=train.R1(0.1))
    rule = make(joint, None, len(seeds))
    for t in range(4):
        rule.step(torch.cat([data(n, seed=100 * s + t) for s in seeds]))
    for game, g, d in zip(alone, G.unstack(), D.unstack(), strict=True):
        together = [p.detach() for p in (*g.parameters(), *d.parameters())]
        assert largest_difference(bits(game), together) < 1e-8


def test_replicas_leave_frozen_parameters_frozen() -> None:
    networks_ = [networks.MLP(2, 1, hidden=(4,), fourier=2.0) for _ in range(2)]
    joint = train.Replicas(networks_)
    joint(torch.ones(4, 2)).sum().backward()
    assert [p.grad is None for p in joint.stacked] == [not p.requires_grad for p in networks_[0].parameters()]
    apart = joint.unstack()
    for mine, other in zip(networks_, apart, strict=True):
        for p, q in zip(mine.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q)
            assert p.requires_grad == q.requires_grad


def test_replicas_refuse_what_they_cannot_keep_apart() -> None:
    with pytest.raises(InputError, match="empty"):
        train.Replicas([])
    with pytest.raises(InputError, match="one architecture"):
        train.Replicas([nn.Linear(2, 3), nn.Linear(2, 4)])
    with pytest.raises(InputError, match="buffers"):
        train.Replicas([nn.BatchNorm1d(2), nn.BatchNorm1d(2)])
    with pytest.raises(InputError, match="multiple of 2"):
        train.Replicas([nn.Linear(2, 3), nn.Linear(2, 3)])(torch.zeros(5, 2))
    game = mlp_game()
    mixed = game.replace(D=nn.Sequential(train.Replicas([game.D, game.D]), nn.Linear(1, 1)))
    with pytest.raises(InputError, match="all trainable parameters"):
        train.Unrolled(mixed, *sgd(mixed))
    with pytest.raises(InputError, match="replicas"):
        train.PrimalDual(game, *sgd(game), replicas=2, accumulate=2)


@pytest.mark.slow  # whole trainings
@pytest.mark.parametrize(
    "objective", ["vanilla", "non-saturating", "kl", "reverse-kl", "pearson-chi2", "squared-hellinger"]
)
def test_objectives_train_toward_the_data(objective: str) -> None:
    """A mean-matching game: every f-GAN with R1 moves the generated mean to the data's mean 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = networks.LinearGenerator(2, 2).double()
        D = networks.MLP(2, 1, hidden=(16,), activation="tanh").double()
    game = Game(G, D, objective=objective, latent=2, discriminator_penalty=train.R1(0.3))
    rule = train.Alternating(
        game,
        torch.optim.Adam(G.parameters(), 0.01, betas=(0.5, 0.99)),
        torch.optim.Adam(D.parameters(), 0.01, betas=(0.5, 0.99)),
        generator=torch.Generator().manual_seed(0),
    )
    for seed in range(600):
        step = rule.step(data(64, seed=seed))
    assert math.isfinite(step.value)
    assert (G.mean.detach() - 1.0).abs().max().item() < 0.35


def _double_backward(joint: train.Replicas, x: Tensor) -> tuple[Tensor, ...]:
    """Outputs, input gradients and the parameters' gradients of both, as R1 asks for them."""
    x = x.clone().requires_grad_(True)
    made = joint(x)
    (slope,) = torch.autograd.grad(made.sum(), x, create_graph=True)
    parameters = [p for p in joint.stacked if p.requires_grad]
    return made, slope, *torch.autograd.grad(made.sin().mean() + slope.square().mean(), parameters)


@pytest.mark.parametrize("activation", ["leaky-relu", "softplus", "silu"])
def test_replicas_of_plain_chains_equal_vmap(activation: str) -> None:
    modules = [networks.MLP(2, 1, hidden=(5, 4), activation=activation).double() for _ in range(3)]
    plain, mapped = train.Replicas(modules), train.Replicas(modules)
    assert plain._batched
    mapped._batched = False
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for one, two in zip(_double_backward(plain, x), _double_backward(mapped, x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


class _Squared(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


def _tied() -> nn.Module:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer)


@pytest.mark.parametrize(
    "make",
    [
        _tied,
        lambda: _Squared(nn.Linear(2, 2)),
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=-1)),
        lambda: nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2)),
    ],
)
def test_replicas_equal_their_modules_whatever_these_are_made_of(make: Callable[[], nn.Module]) -> None:
    modules = [make() for _ in range(2)]
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    apart = torch.cat([module(rows) for module, rows in zip(modules, x.chunk(2), strict=True)])
    torch.testing.assert_close(train.Replicas(modules)(x), apart)
