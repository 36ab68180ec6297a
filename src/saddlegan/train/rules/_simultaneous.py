"""Simultaneous gradient descent-ascent."""

from __future__ import annotations

from typing import final

from saddlegan.batch import Rows, count
from saddlegan.results import Step
from saddlegan.train.rules._base import AbstractRule


@final
class Simultaneous(AbstractRule):
    """Both players move at once, each against the other's current position.

        G_{t+1} = G_t - a grad_G L_G(G_t, D_t)
        D_{t+1} = D_t + b grad_D V(G_t, D_t)

    with the steps a, b shaped by the optimisers. On a bilinear game it diverges: it is here as the baseline.

    `Step`: every figure at (G_t, D_t).

    Args: see `AbstractRule`.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Simultaneous(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3))  # D = 0 everywhere: V = log(1/2)
        Step(value=-0.693147, generator_loss=0, discriminator_loss=0.693147)
    """

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        discriminator_loss = self._set_gradient(self.game.D, self._discriminator_losses(x, z))
        generator_loss = self._set_gradient(self.game.G, self._generator_losses(x, z))
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        self.opt_D.step()
        self._constrain()
        self.opt_G.step()
        return Step(value, float(generator_loss), float(discriminator_loss))
