"""Optimistic descent-ascent: extrapolate each step by the change since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from saddlegan.batch import Rows, count
from saddlegan.errors import InputError
from saddlegan.game import Game
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
        scaler: for float16.

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
        self._last: dict[str, dict[str, Tensor]] = {}

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        discriminator_loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        generator_loss = self._set_gradient(self.game.G, self._generator_losses(x, z))
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        self._move("D", self.game.D, self.opt_D)
        self._constrain()
        self._move("G", self.game.G, self.opt_G)
        return Step(value, float(generator_loss), float(discriminator_loss))

    def _move(self, name: str, player: nn.Module, optimizer: Optimizer) -> None:
        moving = {key: p for key, p in player.named_parameters() if p.requires_grad}  # may change in mid-training
        before = copies(list(moving.values()))
        optimizer.step()
        last = self._last.get(name, {})
        with torch.no_grad():
            # the step as taken, whatever the optimiser made of the gradient: p + s + (s - s_last) for Adam as for SGD
            steps = {key: p - old for (key, p), old in zip(moving.items(), before, strict=True)}
            for key, step in steps.items():
                if key in last:
                    moving[key].add_(step - last[key])
        self._last[name] = steps

    def _own_state(self) -> dict[str, Any]:
        return {name: dict(steps) for name, steps in self._last.items()}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        players = {"G": dict(self.game.G.named_parameters()), "D": dict(self.game.D.named_parameters())}
        for name, steps in own.items():
            known = players.get(name, {})
            if any(key not in known or step.shape != known[key].shape for key, step in steps.items()):
                raise InputError("`state` holds last steps that do not fit these players")
        self._last = {
            name: {key: step.to(players[name][key], copy=True) for key, step in steps.items()}
            for name, steps in own.items()
        }
