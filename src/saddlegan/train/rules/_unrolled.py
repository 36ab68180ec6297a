"""Unrolled training: the generator sees how the discriminator will answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.func import functional_call
from torch.optim import Optimizer

from saddlegan import checks
from saddlegan.batch import Rows, conditions, count
from saddlegan.game import Game
from saddlegan.results import Step
from saddlegan.train.parts._parallel import linked_mean_over
from saddlegan.train.parts._replicas import Multiply, replica_count
from saddlegan.train.rules._base import AbstractRule, Constraint


@final
class Unrolled(AbstractRule):
    """G descends its loss against a discriminator that has taken `steps` further gradient steps, and through them.

        D_{t+1} = D_t + b grad_D V(G_t, D_t)
        D^0 = D_{t+1},    D^{k+1} = D^k + r grad_D V(G, D^k)
        G_{t+1} = G_t - a grad_G L_G(G, D^K(G))            differentiated through every D^k

    The inner steps are plain gradient steps of length r on the same batch and on G's own latents; they are thrown away.
    A length of 0 is plain alternating training.

    `Step`: `discriminator_loss` and `value` at (G_t, D_t); `generator_loss` at (G_t, D^K).

    Args:
        game: see `AbstractRule`, as for all arguments but `steps` and `length`.
        opt_G: optimiser of G.
        opt_D: optimiser of D.
        steps: K, the number of unrolled steps.
        length: r, the length of an unrolled step. It moves D(x) by about r times the squared norm of D's gradient in
            its parameters, so it must be far shorter than an Adam step: too long, D's answer drowns G's own slope.
        generator: source of latents.
        accumulate: pieces per batch; each piece is unrolled by itself.
        constraint: applied to D after its moves; unrolled steps are not constrained.
        group: process group; D's unrolled steps are those of the whole batch.
        scaler: for float16.

    References:
        Metz et al., Unrolled Generative Adversarial Networks, ICLR 2017.

    Example:
        >>> import torch
        >>> from saddlegan import Game, networks
        >>> G, D = networks.LinearGenerator(2, 3), networks.TwoLayerDiscriminator(3, 4)
        >>> rule = Unrolled(
        ...     Game(G, D, latent=2), torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
        ... )
        >>> rule.step(torch.ones(8, 3)).discriminator_loss
        0.693147...
    """

    options: ClassVar[Mapping[str, str]] = {"inner_steps": "steps", "inner_length": "length"}

    def __init__(
        self,
        game: Game,
        opt_G: Optimizer,
        opt_D: Optimizer,
        *,
        steps: int = 5,
        length: float = 1e-3,
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
        steps = checks.count("steps", steps, least=0)
        length = checks.number("length", length)
        self._replicas = replica_count(game.D)
        self.steps = steps
        self.length = length

    def _step(self, x: Rows) -> Step:
        z = self._latents(count(x))
        discriminator_loss = self._ascend(x, z)
        value = self._generator_penalty(x, z) - float(discriminator_loss)
        generator_loss = self._descend(self._unrolled_losses(x, self._latents(count(x))))
        return Step(value, float(generator_loss), float(discriminator_loss))

    def _unrolled_losses(self, x: Rows, z: Rows) -> Iterator[Tensor]:
        ascent = _DiscriminatorLoss(self.game)
        descent = _GeneratorLoss(self.game)
        for x_piece, z_piece in zip(self._pieces(x), self._pieces(z), strict=True):
            weights: dict[str, Tensor] = {
                f"D.{name}": p for name, p in self.game.D.named_parameters() if p.requires_grad
            }
            for _ in range(self.steps if weights else 0):
                loss = functional_call(ascent, self._plain(weights), (x_piece, z_piece))
                gradient = torch.autograd.grad(
                    loss, list(weights.values()), create_graph=True, allow_unused=True, materialize_grads=True
                )
                gradient = linked_mean_over(self.group, gradient)
                length = self.length * self._replicas  # the loss is a mean over replicas, each of which moves alone
                weights = {name: w - length * g for (name, w), g in zip(weights.items(), gradient, strict=True)}
            # through all steps: the gradient sees how D would answer, which is what unrolling is for
            yield functional_call(descent, self._plain(weights), (x_piece, z_piece))

    def _plain(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Undo what `Replicas` do to gradients, which would otherwise be done once for each unrolled step."""
        if self._replicas == 1:
            return weights
        return {name: Multiply.apply(w, 1.0 / self._replicas) for name, w in weights.items()}


class _DiscriminatorLoss(nn.Module):
    """The discriminator's loss as a function of D's parameters, with the generator's graph kept."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.D = game.D
        self.game = game

    def forward(self, x: Rows, z: Rows) -> Tensor:
        fake = None if self.game.has_own_value else self.game.generate(z, conditions(x))
        return self.game.discriminator_loss(x, fake, z)


class _GeneratorLoss(nn.Module):
    """The generator's loss as a function of D's parameters."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.D = game.D
        self.game = game

    def forward(self, x: Rows, z: Rows) -> Tensor:
        return self.game.generator_loss(z, x)
