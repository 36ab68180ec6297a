"""Alternating gradient descent-ascent, the ordinary way of training a GAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import torch.distributed as dist
from torch import Generator
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, count
from saddlegan.game import Game
from saddlegan.results import Step
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class Alternating(AbstractRule):
    """D moves `n_critic` times, then G moves against the new D.

        D_{t+1} = D_t + b grad_D V(G_t, D_t)            n_critic times, each on its own part of x and its own latents
        G_{t+1} = G_t - a grad_G L_G(G_t, D_{t+1})

    Two time scales: give the two optimisers different learning rates.

    `Step`: `discriminator_loss` and `value` at (G_t, D just before its last move); `generator_loss` at (G_t, D_{t+1}).

    Args:
        game: see `AbstractRule`, as for all arguments but `n_critic`.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        n_critic: moves of D per move of G. A tensor or tuple is cut into that many equal batches; from an iterator,
            `rule.step(iter(loader))`, so many full ones are taken. G sees the conditions of the last.
        generator: source of latents.
        accumulate: pieces per batch.
        constraint: applied to D after its moves.
        group: process group.
        scaler: for float16.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Alternating(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3)).discriminator_loss  # D = 0 everywhere at first
        0.693147...
    """

    options: ClassVar[Mapping[str, str]] = {"n_critic": "n_critic"}

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        n_critic: int = 1,
        generator: Generator | None = None,
        accumulate: int = 1,
        constraint: Constraint | None = None,
        group: dist.ProcessGroup | None = None,
        scaler: GradScaler | None = None,
    ) -> None:
        super().__init__(
            game,
            opt_G,
            opt_D,
            generator=generator,
            accumulate=accumulate,
            constraint=constraint,
            group=group,
            scaler=scaler,
        )
        n_critic = checks.count("n_critic", n_critic)
        self.n_critic = n_critic

    def _batches_per_step(self) -> int:
        return self.n_critic

    def _step(self, x: Rows) -> Step:
        return self._play([x])

    def _play(self, batches: list[Rows]) -> Step:
        *earlier, x = batches
        for rows in earlier:
            self._ascend(rows, self._latents(count(rows)))
        z = self._latents(count(x))
        discriminator_loss = self._ascend(x, z)
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        generator_loss = self._descend(self._generator_losses(x, self._latents(count(x))))
        return Step(value, float(generator_loss), float(discriminator_loss))
