"""Public training loops, written out by hand, against the rule that replaces them: the same weights after 20 steps.

Each loop is what its paper's code does, over copies of the same networks, in float64. The latents of both sides come
from generators of one seed, drawn in the order of the loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, one_hot, softplus

from saddlegan import Batch, Game, networks, train

STEPS = 20
N = 8


def source(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(inputs: int, outputs: int, seed: int, *, activation: str = "softplus") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return networks.MLP(inputs, outputs, hidden=(6, 5), activation=activation).double()


def real(step: int, n: int = N) -> Tensor:
    return torch.randn(n, 2, generator=source(100 + step), dtype=torch.float64) + 1.0


def normal(n: int, k: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, k, generator=generator, dtype=torch.float64)


def same(game: Game, G: nn.Module, D: nn.Module) -> None:
    for mine, theirs in ((game.G, G), (game.D, D)):
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert float((p - q).detach().abs().max()) < 1e-12


def adam(player: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(player.parameters(), 2e-3, betas=(0.5, 0.999))


class Pair:
    """The same networks twice: for the rule, and for the loop written by hand."""

    def __init__(self, G: nn.Module, D: nn.Module, optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam):
        self.G, self.D = G, D
        self.opts = optimizer(G), optimizer(D)
        self.hand_G, self.hand_D = copy.deepcopy(G), copy.deepcopy(D)
        self.opt_G, self.opt_D = optimizer(self.hand_G), optimizer(self.hand_D)
        self.start = [p.detach().clone() for p in (*G.parameters(), *D.parameters())]

    def check(self, game: Game) -> None:
        same(game, self.hand_G, self.hand_D)
        now = [p.detach() for p in (*game.G.parameters(), *game.D.parameters())]
        assert max(float((a - b).abs().max()) for a, b in zip(now, self.start, strict=True)) > 1e-3


def backward(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_plain_loop_with_binary_cross_entropy() -> None:
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1))
    game = Game(pair.G, pair.D, objective="non-saturating", latent=3)
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, G, D = source(), pair.hand_G, pair.hand_D
    ones, zeros = torch.ones(N, 1).double(), torch.zeros(N, 1).double()
    for step in range(STEPS):
        x = real(step)
        rule.step(x)
        fake = G(normal(N, 3, draws))
        bce = binary_cross_entropy_with_logits
        backward(pair.opt_D, bce(D(x), ones) + bce(D(fake.detach()), zeros))
        backward(pair.opt_G, bce(D(G(normal(N, 3, draws))), ones))
    pair.check(game)


def test_wasserstein_with_clipping() -> None:
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1), lambda player: torch.optim.RMSprop(player.parameters(), 5e-3))
    game = Game(pair.G, pair.D, objective="wasserstein", latent=3)
    rule = train.Alternating(game, *pair.opts, n_critic=5, generator=source(), constraint=train.WeightClipping(0.1))
    draws, G, D = source(), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x = real(step, 5 * N)
        rule.step(x)
        for part in x.chunk(5):
            fake = G(normal(N, 3, draws)).detach()
            backward(pair.opt_D, D(fake).mean() - D(part).mean())
            for p in D.parameters():
                p.data.clamp_(-0.1, 0.1)
        backward(pair.opt_G, -D(G(normal(N, 3, draws))).mean())
    pair.check(game)


def test_wasserstein_with_gradient_penalty() -> None:
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1))
    penalty = train.GradientPenalty(10.0, generator=source(9))
    game = Game(pair.G, pair.D, objective="wasserstein", latent=3, discriminator_penalty=penalty)
    rule = train.Alternating(game, *pair.opts, n_critic=2, generator=source())
    draws, mixes, G, D = source(), source(9), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x = real(step, 2 * N)
        rule.step(x)
        for part in x.chunk(2):
            fake = G(normal(N, 3, draws)).detach()
            e = torch.rand(N, 1, generator=mixes, dtype=torch.float64)
            between = (e * part + (1 - e) * fake).requires_grad_(True)
            (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
            backward(pair.opt_D, D(fake).mean() - D(part).mean() + 10.0 * ((slope.norm(2, dim=1) - 1) ** 2).mean())
        backward(pair.opt_G, -D(G(normal(N, 3, draws))).mean())
    pair.check(game)


def test_least_squares() -> None:
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1))
    game = Game(pair.G, pair.D, objective="least-squares", latent=3)
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, G, D = source(), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x = real(step)
        rule.step(x)
        fake = G(normal(N, 3, draws)).detach()
        backward(pair.opt_D, ((D(x) - 1) ** 2).mean() + (D(fake) ** 2).mean())
        backward(pair.opt_G, ((D(G(normal(N, 3, draws))) - 1) ** 2).mean())
    pair.check(game)


class Labelled(nn.Module):
    """A network of (input, label)."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        super().__init__()
        self.net = mlp(inputs + 3, outputs, seed)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.net(torch.cat([x, one_hot(label, 3).to(x.dtype)], dim=1))


def labels(step: int, n: int = N) -> Tensor:
    return torch.randint(3, (n,), generator=source(200 + step))


@pytest.mark.parametrize("form", ["tuple", "list", "mapping"])
def test_a_conditional_loop(form: str) -> None:
    pair = Pair(Labelled(3, 2, 0), Labelled(2, 1, 1))
    game = Game(pair.G, pair.D, objective="non-saturating", latent=3)
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, G, D = source(), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x, y = real(step), labels(step)
        rule.step({"tuple": (x, y), "list": [x, y], "mapping": {"label": y, "x": x}}[form])
        fake = G(normal(N, 3, draws), y).detach()
        backward(pair.opt_D, softplus(-D(x, y)).mean() + softplus(D(fake, y)).mean())
        backward(pair.opt_G, softplus(-D(G(normal(N, 3, draws), y), y)).mean())
    pair.check(game)


class Packed(nn.Module):
    """CTGAN's discriminator: rows with their condition vectors, four beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(4 * (2 + 3), 1, 1, activation="leaky-relu")

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.net(torch.cat([x, condition], dim=1).view(len(x) // 4, -1))


class Told(nn.Module):
    """CTGAN's generator: noise and condition vector side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(3 + 3, 2, 0)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return self.net(torch.cat([z, condition], dim=1))


def conditional_latent(n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    assert generator is not None
    z = normal(n, 3, generator)
    return z, one_hot(torch.randint(3, (n,), generator=generator), 3).double()


def test_a_tabular_loop_with_packing_and_condition_vectors() -> None:
    """Wasserstein with one gradient penalty a pack, and G told to make its condition's column (a cross entropy)."""
    pair = Pair(Told(), Packed())

    def told(G: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(batch.fake, batch.fake_conditions[0][:, :2])

    game = Game(
        pair.G,
        pair.D,
        objective="wasserstein",
        latent=conditional_latent,
        generator_penalty=told,
        discriminator_penalty=train.GradientPenalty(10.0, generator=source(9)),
        rows_in_groups=4,
    )
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, mixes, G, D = source(), source(9), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x, c = real(step), one_hot(labels(step), 3).double()
        rule.step((x, c))
        z, own = conditional_latent(N, draws)
        fake = G(z, own).detach()
        e = torch.rand(N // 4, 1, 1, generator=mixes, dtype=torch.float64).repeat(1, 4, 2).view(-1, 2)
        between = (e * x + (1 - e) * fake).requires_grad_(True)
        (slope,) = torch.autograd.grad(D(between, c).sum(), between, create_graph=True)
        penalty = 10.0 * ((slope.reshape(-1, 4 * 2).norm(2, dim=1) - 1) ** 2).mean()
        backward(pair.opt_D, -(D(x, c).mean() - D(fake, own).mean()) + penalty)
        z, own = conditional_latent(N, draws)
        fake = G(z, own)
        backward(pair.opt_G, -D(fake, own).mean() + cross_entropy(fake, own[:, :2]))
    pair.check(game)


def test_the_relativistic_pairing_loop_with_both_penalties() -> None:
    """R3GAN's loop: softplus of differences, zero-centred penalties on both sides."""
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1))
    both = train.Penalties(train.R1(0.5), train.R2(0.5))
    game = Game(pair.G, pair.D, objective="pairing-non-saturating", latent=3, discriminator_penalty=both)
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, G, D = source(), pair.hand_G, pair.hand_D

    def zero_centred(samples: Tensor) -> Tensor:
        samples = samples.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(D(samples).sum(), samples, create_graph=True)
        return slope.square().sum(1)

    for step in range(STEPS):
        x = real(step)
        rule.step(x)
        fake = G(normal(N, 3, draws)).detach()
        loss = softplus(-(D(x) - D(fake))).flatten() + 0.25 * zero_centred(x) + 0.25 * zero_centred(fake)
        backward(pair.opt_D, loss.mean())
        backward(pair.opt_G, softplus(-(D(G(normal(N, 3, draws))) - D(x))).mean())
    pair.check(game)


class Heads(nn.Module):
    """A discriminator with an auxiliary classifier: one logit, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(2, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net(x)
        return out[:, 0], out[:, 1:]


def test_an_auxiliary_classifier_by_own_value() -> None:
    """V = adversarial value + cross entropy of the fakes' classes, which G lowers and D raises."""
    pair = Pair(Labelled(3, 2, 0), Heads())

    def value(G: nn.Module, D: nn.Module, batch: Batch) -> Tensor:
        (y,) = batch.conditions
        (on_real, _), (on_fake, classes) = D(batch.x), D(G(batch.z, y))
        return logsigmoid(on_real).mean() + logsigmoid(-on_fake).mean() + 0.5 * cross_entropy(classes, y)

    game = Game.from_value(pair.G, pair.D, value, latent=3)
    rule = train.Alternating(game, *pair.opts, generator=source())
    draws, G, D = source(), pair.hand_G, pair.hand_D
    for step in range(STEPS):
        x, y = real(step), labels(step)
        rule.step((x, y))
        logit, classes = D(G(normal(N, 3, draws), y).detach())
        loss = softplus(-D(x)[0]).mean() + softplus(logit).mean() - 0.5 * cross_entropy(classes, y)
        backward(pair.opt_D, loss)
        logit, classes = D(G(normal(N, 3, draws), y))
        backward(pair.opt_G, -softplus(logit).mean() + 0.5 * cross_entropy(classes, y))
    pair.check(game)


def test_the_comparison_can_fail() -> None:
    pair = Pair(mlp(3, 2, 0), mlp(2, 1, 1))
    game = Game(pair.G, pair.D, objective="least-squares", latent=3)
    train.Alternating(game, *pair.opts, generator=source()).step(real(0))
    with pytest.raises(AssertionError):
        same(game, pair.hand_G, pair.hand_D)
