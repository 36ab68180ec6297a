"""The extragradient method: look ahead, then step from where you stood with the gradient found there."""

from __future__ import annotations

from typing import final

from saddlegan.batch import Rows, count
from saddlegan.results import Step
from saddlegan.train.parts._snapshot import Snapshot, take
from saddlegan.train.rules._base import AbstractRule


@final
class Extragradient(AbstractRule):
    """Both players look ahead and then move from their old position with the gradient at the look-ahead point.

        w_{t+1/2} = w_t - a F(w_t),    w_{t+1} = w_t - a F(w_{t+1/2}),    w = (G, D),  F = (grad_G L_G, -grad_D V)

    On the bilinear game u v with 0 < a < 1 the distance to the solution shrinks by sqrt(1 - a^2 + a^4) a step. Any
    optimiser works: the look-ahead is one full optimiser step, after which parameters and optimiser state are put back,
    so moments and step counts advance once per step. x and latents are the same at both points.

    `Step`: every figure at the look-ahead point w_{t+1/2}.

    Args: see `AbstractRule`.

    References:
        Korpelevich 1976; Gidel et al., A Variational Inequality Perspective on GANs, ICLR 2019.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Extragradient(
        ...     Game(G, D, latent=2), torch.optim.Adam(G.parameters(), 0.1), torch.optim.Adam(D.parameters(), 0.1)
        ... )
        >>> _ = rule.step(torch.ones(8, 3))
        >>> int(rule.opt_D.state[D.outer]["step"])  # two optimiser steps were taken, one is kept
        1
    """

    _before: tuple[Snapshot, Snapshot] | None = None

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        self._before = take(self.game.G, self.opt_G), take(self.game.D, self.opt_D)
        self._gradients(x, z)
        self.opt_G.step()
        self.opt_D.step()
        self._constrain()
        generator_loss, discriminator_loss = self._gradients(x, z)
        value = self._generator_penalty(x, z) - discriminator_loss
        self._abandon()
        self.opt_G.step()
        self.opt_D.step()
        self._constrain()
        return Step(value, generator_loss, discriminator_loss)

    def _abandon(self) -> None:
        if self._before is not None:
            before_G, before_D = self._before
            before_G.restore(self.opt_G)
            before_D.restore(self.opt_D)
            self._before = None

    def _gradients(self, x: Rows, z: Rows) -> tuple[float, float]:
        discriminator_loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        generator_loss = self._set_gradient(self.game.G, self._generator_losses(x, z))
        return float(generator_loss), float(discriminator_loss)
