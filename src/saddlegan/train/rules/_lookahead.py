"""Lookahead for games: go several steps, then back part of the way, both players at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, count
from saddlegan.errors import InputError
from saddlegan.game import Game
from saddlegan.results import Step
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class Lookahead(AbstractRule):
    """Alternating training that after every `steps` steps returns part of the way to where it last returned to.

        D_{t+1} = D_t + b grad_D V(G_t, D_t),    G_{t+1} = G_t - a grad_G L_G(G_t, D_{t+1})
        after every `steps` steps:   w <- s + rate (w - s),   s <- w,        w = (G, D)

    Alternating players circle an equilibrium; a chord drawn back across the circle ends nearer to its centre. The
    optimisers keep their state. Sample and judge right after a return, where `stats["returned"]` is 1. A rate of 1 is
    plain alternating training.

    `Step`: `discriminator_loss` and `value` at (G_t, D_t); `generator_loss` at (G_t, D_{t+1}).

    Args:
        game: see `AbstractRule`, as for all arguments but `steps` and `rate`.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        steps: k, between two returns.
        rate: the share of the way that is kept, in (0, 1].
        generator: source of latents.
        accumulate: pieces per batch.
        constraint: applied to D after its moves.
        group: process group.
        scaler: for float16.

    References:
        Chavdarova, Pagliardini, Stich, Fleuret, Jaggi, Taming GANs with Lookahead-Minmax, ICLR 2021, algorithm 1.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> opt_G, opt_D = torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        >>> rule = Lookahead(Game(G, D, latent=2), opt_G, opt_D, steps=2)
        >>> [rule.step(torch.ones(8, 3)).stats["returned"] for _ in range(4)]
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        steps: int = 6,
        rate: float = 0.5,
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
        self.steps = checks.count("steps", steps)
        self.rate = checks.number("rate", rate, least=1e-12, most=1.0)
        self._slow: dict[str, Tensor] = {}
        self._since = 0

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        for name, player in (("G", self.game.G), ("D", self.game.D)):
            for key, parameter in player.named_parameters():
                yield f"{name}.{key}", parameter

    def _step(self, x: Rows) -> Step:
        if not self._slow:
            self._slow = {key: p.detach().clone() for key, p in self._parameters()}
        z = self._latents(count(x))
        discriminator_loss = self._ascend(x, z)
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        generator_loss = self._descend(self._generator_losses(x, self._latents(count(x))))
        self._since += 1
        returned = self._since == self.steps
        if returned:
            self._return()
            self._since = 0
        return Step(value, float(generator_loss), float(discriminator_loss), {"returned": float(returned)})

    @torch.no_grad()
    def _return(self) -> None:
        for key, parameter in self._parameters():
            slow = self._slow[key]
            if parameter.requires_grad:  # a layer frozen in mid-training stands still
                parameter.copy_(torch.lerp(slow, parameter, self.rate))
            # frozen layers too: thawed later, they must not be pulled back to where training began
            slow.copy_(parameter)

    def _own_state(self) -> dict[str, Any]:
        return {"since": self._since, "slow": dict(self._slow)}

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        known = dict(self._parameters())
        slow: dict[str, Tensor] = own["slow"]
        if slow and {key: p.shape for key, p in slow.items()} != {key: p.shape for key, p in known.items()}:
            raise InputError("`state` holds slow weights that do not fit these players")
        self._slow = {key: p.to(known[key], copy=True) for key, p in slow.items()}
        self._since = int(own["since"])
