"""Games and rules that the tests of `train` share, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from saddlegan import Game, networks, train

Group = dist.ProcessGroup | None
MakeRule = Callable[[Game, torch.Generator, Group], train.AbstractRule]


def mlp_game(seed: int = 0, *, objective: str = "vanilla", activation: str = "softplus") -> Game:
    """A small pair with seeded weights; the global generator is put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = networks.MLP(3, 2, hidden=(5,), activation="tanh").double()
        D = networks.MLP(2, 1, hidden=(6,), activation=activation).double()
    return Game(G, D, objective=objective, latent=3, discriminator_penalty=train.R1(0.1))


def image_game(seed: int = 0) -> Game:
    """The library's own image pair: batch norm in G, spectral norm in a smooth D."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = networks.ImageGenerator(3, size=8, width=2).double()
        D = networks.ImageDiscriminator(size=8, width=2, activation="softplus").double()
    return Game(G, D, latent=3, discriminator_penalty=train.R1(0.1))


def images(n: int = 8, seed: int = 7) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adam(game: Game, *, lr: float = 0.01) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    def make(player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(player.parameters(), lr, betas=(0.5, 0.99))

    return make(game.G), make(game.D)


def sgd(game: Game, *, lr: float = 0.05) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    return torch.optim.SGD(game.G.parameters(), lr), torch.optim.SGD(game.D.parameters(), lr)


#: one row per rule and form: what the contract tests run over
RULES: dict[str, MakeRule] = {
    "simultaneous": lambda game, source, group: train.Simultaneous(game, *adam(game), generator=source, group=group),
    "alternating": lambda game, source, group: train.Alternating(
        game, *adam(game), generator=source, group=group, n_critic=2
    ),
    "extragradient": lambda game, source, group: train.Extragradient(game, *adam(game), generator=source, group=group),
    "optimistic": lambda game, source, group: train.Optimistic(game, *adam(game), generator=source, group=group),
    "alternating-extrapolation": lambda game, source, group: train.AlternatingExtrapolation(
        game, *adam(game), generator=source, group=group
    ),
    "lookahead": lambda game, source, group: train.Lookahead(
        game, *adam(game), generator=source, group=group, steps=2, rate=0.6
    ),
    "unrolled": lambda game, source, group: train.Unrolled(game, *adam(game), generator=source, group=group, steps=2),
    "proximal": lambda game, source, group: train.Proximal(
        game, *adam(game), generator=source, group=group, lam=0.5, points=4
    ),
    "proximal-fresh": lambda game, source, group: train.Proximal(
        game, *adam(game), generator=source, group=group, lam=0.5, steps=3, persistent=False, rate=0.7, norm="l2"
    ),
    "primal-dual": lambda game, source, group: train.PrimalDual(
        game, *adam(game), generator=source, group=group, weight=5.0, points=4
    ),
}


def without_a_case(rules: Iterable[str]) -> list[str]:
    """Registered rules that no row of the table plays."""
    return [name for name in rules if name not in RULES]


def data(n: int = 8, seed: int = 7) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1.0


def bits(game: Game) -> list[Tensor]:
    """All parameters, copied."""
    return [p.detach().clone() for p in (*game.G.parameters(), *game.D.parameters())]


def same_bits(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def largest_difference(first: list[Tensor], second: list[Tensor]) -> float:
    if len(first) != len(second):
        return float("inf")
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def clone(game: Game) -> Game:
    return game.replace(G=copy.deepcopy(game.G), D=copy.deepcopy(game.D))
