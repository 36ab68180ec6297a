"""`Game`: the one object that `fit` finds optima of, `train` moves and `certify` judges.

    min over G, max over D of   V(G, D) = E_x f0(D(x)) + E_z f1(D(G(z))) + R_g(G) - R_d(D)

The game owns the signs: the generator's loss falls with V, the discriminator's loss is minus what D adds to V. Nobody
else in the library negates a value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from saddlegan import checks
from saddlegan.errors import InputTypeError
from saddlegan.modules import like
from saddlegan.networks import TwoLayerDiscriminator
from saddlegan.objectives import Objective, get

Latent = int | Callable[[int, torch.Generator | None], Tensor]
GeneratorPenalty = Callable[[nn.Module, Tensor], Tensor]
DiscriminatorPenalty = Callable[[nn.Module, Tensor, Tensor], Tensor]
FakeTransform = Callable[[nn.Module, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class SecondMomentPenalty:
    """R_g(G) = E ||G(z) - center||^2, the theory's generator regulariser.

    Attributes:
        center: (d,), zero for the plain second moment.
    """

    center: Tensor

    def __call__(self, G: nn.Module, fake: Tensor) -> Tensor:
        del G  # the samples say it all
        return (fake - self.center).flatten(1).square().sum(1).mean()


@dataclasses.dataclass(frozen=True)
class PathNormPenalty:
    """R_d(D) = beta * sum_j |v_j| ||u_j||^p of a two-layer discriminator, the dual side of the constraint (1).

    Attributes:
        beta: weight of the penalty; the constraint's right side.
    """

    beta: float

    def __call__(self, D: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
        del x, fake  # a property of the weights alone
        if not isinstance(D, TwoLayerDiscriminator):
            raise InputTypeError(f"`PathNormPenalty` needs a TwoLayerDiscriminator, got {type(D).__name__}")
        return self.beta * D.path_norm()


@dataclasses.dataclass(frozen=True)
class Gradients:
    """Gradient of each player's own loss, in the order of its trainable parameters; descend both to play the game."""

    generator: tuple[Tensor, ...]
    discriminator: tuple[Tensor, ...]


class Game:
    """A zero-sum game between a generator and a discriminator.

    Args:
        G: generator, latents (n, ...) to samples (n, ...).
        D: discriminator, samples to raw real outputs: (n,), (n, 1), or patch maps, which are averaged.
        objective: name or `Objective`; its `link` maps D's raw output into the domain of f0 and f1.
        latent: length of a standard Gaussian latent, or a callable (n, torch.Generator | None) -> latents.
        generator_penalty: R_g, a callable (G, G(z)) -> scalar, part of the value.
        discriminator_penalty: R_d, a callable (D, x, G(z)) -> scalar, subtracted from the value.
        fake_transform: a callable (D, fake) -> raw outputs that stands for D(fake) on generated samples, such as the
            c-transform of W2GAN, `train.CTransform`; D itself if None.

    Raises:
        InputTypeError: G or D is not a module, or `latent` is neither a number nor callable.
        InputError: `latent` is not positive.
        ObjectiveError: unknown objective.

    References:
        Theory, equation (0).

    Example:
        >>> from saddlegan.networks import LinearGenerator, TwoLayerDiscriminator
        >>> game = Game(LinearGenerator(2, 3), TwoLayerDiscriminator(3, 4), objective="wasserstein", latent=2)
        >>> game.value(torch.ones(5, 3), game.sample_latent(5)).item()  # outer weights start at zero
        0.0
    """

    def __init__(
        self,
        G: nn.Module,
        D: nn.Module,
        *,
        objective: str | Objective = "vanilla",
        latent: Latent = 16,
        generator_penalty: GeneratorPenalty | None = None,
        discriminator_penalty: DiscriminatorPenalty | None = None,
        fake_transform: FakeTransform | None = None,
    ) -> None:
        for name, player in (("G", G), ("D", D)):
            if not isinstance(player, nn.Module):
                raise InputTypeError(f"`{name}` must be a torch.nn.Module, got {type(player).__name__}")
        if isinstance(latent, (bool, str)) or latent is None:
            raise InputTypeError(f"`latent` must be a number or a callable n, generator -> z, got {latent!r}")
        self.G = G
        self.D = D
        self.objective = get(objective)
        self.latent: Latent = latent if callable(latent) else checks.count("latent", latent)
        self.generator_penalty = generator_penalty
        self.discriminator_penalty = discriminator_penalty
        self.fake_transform = fake_transform

    def __repr__(self) -> str:
        return (
            f"Game(G={type(self.G).__name__}, D={type(self.D).__name__}, objective={self.objective.name!r}, "
            f"latent={self.latent!r})"
        )

    def replace(self, *, G: nn.Module | None = None, D: nn.Module | None = None) -> Game:
        """Return the same game played by other players."""
        return Game(
            self.G if G is None else G,
            self.D if D is None else D,
            objective=self.objective,
            latent=self.latent,
            generator_penalty=self.generator_penalty,
            discriminator_penalty=self.discriminator_penalty,
            fake_transform=self.fake_transform,
        )

    def sample_latent(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n latents on the generator network's device and in its dtype.

        Args:
            n: number of latents.
            generator: source of randomness; torch's global one if None. It may live on another device than G.

        Returns:
            Latents (n, k), or whatever the `latent` callable makes, moved to G's device.
        """
        reference = like(self.G)
        if isinstance(self.latent, int):
            source = reference.device if generator is None else generator.device
            z = torch.randn(n, self.latent, generator=generator, dtype=reference.dtype, device=source)
        else:
            z = self.latent(n, generator)
        return z.to(reference.device)

    def value(self, x: Tensor, z: Tensor) -> Tensor:
        """V(G, D) on a batch, penalties included.

        Args:
            x: real samples (n, ...).
            z: latents (m, ...).

        Returns:
            Scalar tensor, differentiable in both players.
        """
        fake = self.G(z)
        value = self.real_term(x) + self.fake_term(fake)
        if self.generator_penalty is not None:
            value = value + self.generator_penalty(self.G, fake)
        if self.discriminator_penalty is not None:
            value = value - self.discriminator_penalty(self.D, x, fake)
        return value

    def real_term(self, x: Tensor) -> Tensor:
        """E f0(D(x)), the part of the value that only D moves."""
        return self.objective.f0(self.objective.link(self.D(x))).mean()

    def fake_term(self, fake: Tensor) -> Tensor:
        """E f1(D(fake)), the part of the value that both players move."""
        return self.objective.f1(self.objective.link(self._on_fake(fake))).mean()

    def _on_fake(self, fake: Tensor) -> Tensor:
        return self.D(fake) if self.fake_transform is None else self.fake_transform(self.D, fake)

    def generator_loss(self, z: Tensor) -> Tensor:
        """What the generator descends: E f1(D(G(z))) + R_g, or the objective's own loss where it is not zero-sum."""
        return self.generator_loss_of(self.G(z))

    def generator_loss_of(self, fake: Tensor) -> Tensor:
        """`generator_loss` of samples already generated, with their graph."""
        own = self.objective.generator_loss
        loss = self.fake_term(fake) if own is None else own(self._on_fake(fake)).mean()
        return loss if self.generator_penalty is None else loss + self.generator_penalty(self.G, fake)

    def discriminator_loss(self, x: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator descends: -(E f0(D(x)) + E f1(D(fake))) + R_d.

        Args:
            x: real samples.
            fake: generated samples; detach them to save the generator's graph.
        """
        loss = -(self.real_term(x) + self.fake_term(fake))
        return loss if self.discriminator_penalty is None else loss + self.discriminator_penalty(self.D, x, fake)

    def gradients(self, x: Tensor, z: Tensor) -> Gradients:
        """Return the gradient of each player's own loss at the current pair; parameters and `.grad` stay untouched.

        Args:
            x: real samples.
            z: latents.

        Returns:
            `Gradients`, with zeros for parameters that a loss does not touch.
        """
        with torch.enable_grad():  # a caller's no_grad must not turn gradients into silent zeros
            return Gradients(
                generator=_gradient(self.generator_loss(z), self.G),
                discriminator=_gradient(self.discriminator_loss(x, self.G(z).detach()), self.D),
            )


def _gradient(loss: Tensor, player: nn.Module) -> tuple[Tensor, ...]:
    parameters = [p for p in player.parameters() if p.requires_grad]
    if not parameters or not loss.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
