"""Optimistic descent-ascent: extrapolate each step by the change since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.modules import trainable
from saddlegan.results import Step
from saddlegan.train.parts._snapshot import copies
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class Optimistic(AbstractRule):
    """Both players move at once by twice their new step less the last one.

        u_t = the optimisers' own steps at w_t,        w_{t+1} = w_t + 2 u_t - u_{t-1},        u_{-1} = u_0

    With SGD this is w - a (2 F_t - F_{t-1}), optimistic gradient descent-ascent; with Adam it is Optimistic Adam. One
    gradient a step, where extragradient needs two.

    `Step`: every figure at w_t.

    Args:
        game: see `AbstractRule`, as for all arguments.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        generator: source of latents.
        accumulate: pieces per batch.
        constraint: applied to D after its moves.
        group: process group.

    References:
        Popov 1980; Daskalakis et al., Training GANs with Optimism, ICLR 2018, algorithm 1.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Optimistic(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3))
        Step(value=-0.693147, generator_loss=0, discriminator_loss=0.693147)
    """

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        generator: torch.Generator | None = None,
        accumulate: int = 1,
        constraint: Constraint | None = None,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(
            game, opt_G, opt_D, generator=generator, accumulate=accumulate, constraint=constraint, group=group
        )
        self._last: dict[str, list[Tensor]] = {}

    def _step(self, x: Tensor) -> Step:
        z = self._latents(len(x))
        discriminator_loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        generator_loss = self._set_gradient(self.game.G, self._generator_losses(z))
        value = self._generator_penalty(z) - float(discriminator_loss)
        self._move("D", self.game.D, self.opt_D)
        self._constrain()
        self._move("G", self.game.G, self.opt_G)
        return Step(value, float(generator_loss), float(discriminator_loss))

    def _move(self, name: str, player: nn.Module, optimizer: Optimizer) -> None:
        parameters = trainable(player)
        before = copies(parameters)
        optimizer.step()
        with torch.no_grad():
            step = [after - old for after, old in zip(parameters, before, strict=True)]
            for parameter, now, last in zip(parameters, step, self._last.get(name, step), strict=True):
                parameter.add_(now - last)
        self._last[name] = step

    def _own_state(self) -> dict[str, Any]:
        return {name: list(step) for name, step in self._last.items()}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        players = {"G": trainable(self.game.G), "D": trainable(self.game.D)}
        for name, step in own.items():
            if name not in players or [s.shape for s in step] != [p.shape for p in players[name]]:
                raise InputError("`state` holds last steps that do not fit these players")
        self._last = {
            name: [s.to(p, copy=True) for s, p in zip(step, players[name], strict=True)] for name, step in own.items()
        }
