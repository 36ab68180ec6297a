"""Alternating extrapolation (Alex-GDA): alternate, each player against the other's extrapolated point."""

from __future__ import annotations

from collections.abc import Mapping
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
from saddlegan.modules import trainable
from saddlegan.results import Step
from saddlegan.train.parts._snapshot import copies, put
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class AlternatingExtrapolation(AbstractRule):
    """G, then D, each against a point that the other one's last step is stretched to; one gradient of each a step.

        G_{t+1} = G_t - a grad_G L_G(G_t, D~_t),        G~_{t+1} = G_t + reach (G_{t+1} - G_t)
        D_{t+1} = D_t + b grad_D V(G~_{t+1}, D_t),      D~_{t+1} = D_t + reach (D_{t+1} - D_t),      D~_0 = D_0

    With a reach of 1 this is alternating descent-ascent, G first, which circles on the bilinear game u v; with 2 it
    converges there linearly, at extragradient's rate for half its gradients. Steps may be larger than elsewhere, and
    diverge when too large (at 0.9 on u v). Any optimiser works: its step is what is stretched.

    `Step`: `generator_loss` at (G_t, D~_t); `discriminator_loss` and `value` at (G~_{t+1}, D_t).

    Args:
        game: see `AbstractRule`, as for all arguments but `reach`.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        reach: how far the other player looks along a step; above 1.
        generator: source of latents.
        accumulate: pieces per batch.
        constraint: applied to D after its moves, not to D~.
        group: process group.
        scaler: for float16.

    References:
        Lee, Cho, Yun, Fundamental Benefit of Alternating Updates in Minimax Optimization, ICML 2024.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = AlternatingExtrapolation(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3)).discriminator_loss  # D = 0 everywhere at first
        0.693147...
    """

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        reach: float = 2.0,
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
        self.reach = checks.number("reach", reach, least=1.0)
        self._ahead: dict[str, Tensor] = {}  # D~ by parameter; layers may be frozen in mid-training
        self._standing: tuple[list[torch.nn.Parameter], list[Tensor]] | None = None

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        G, D = trainable(self.game.G), {key: p for key, p in self.game.D.named_parameters() if p.requires_grad}
        standing_D = copies(list(D.values()))
        self._standing = list(D.values()), standing_D
        put(list(D.values()), [self._ahead.get(key, p.detach()) for key, p in D.items()])
        generator_loss = self._set_gradient(self.game.G, self._generator_losses(x, z))
        put(*self._standing)
        before = copies(G)
        self.opt_G.step()
        after = copies(G)
        self._standing = G, after
        put(G, [torch.lerp(old, new, self.reach) for old, new in zip(before, after, strict=True)])
        discriminator_loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        put(*self._standing)
        self._standing = None
        self.opt_D.step()
        self._constrain()
        self._ahead = {
            key: torch.lerp(old, p.detach(), self.reach) for (key, p), old in zip(D.items(), standing_D, strict=True)
        }
        return Step(value, float(generator_loss), float(discriminator_loss))

    def _abandon(self) -> None:
        if self._standing is not None:
            put(*self._standing)
            self._standing = None

    def _own_state(self) -> dict[str, Any]:
        return dict(self._ahead)

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        known = dict(self.game.D.named_parameters())
        if any(key not in known or ahead.shape != known[key].shape for key, ahead in own.items()):
            raise InputError("`state` holds an extrapolated point that does not fit this D")
        self._ahead = {key: ahead.to(known[key], copy=True) for key, ahead in own.items()}
